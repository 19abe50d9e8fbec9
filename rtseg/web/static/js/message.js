// Reads the binary message of a frame; rtseg/web/wire.py writes it.

export function parseFrame(buffer) {
  const view = new DataView(buffer);
  const labelBytes = view.getUint32(32, true);
  const chunkBytes = view.getUint32(36, true);
  const bytes = new Uint8Array(buffer);
  const header = bytes.length - labelBytes - chunkBytes;
  return {
    key: (view.getUint8(1) & 1) === 1,
    source: view.getUint16(2, true),
    index: view.getUint32(4, true),
    pts: view.getFloat64(8, true),
    capturedMs: view.getFloat64(16, true),
    width: view.getUint16(24, true),
    height: view.getUint16(26, true),
    labels: new Labels(
      bytes.subarray(header, header + labelBytes),
      view.getUint16(28, true),
      view.getUint16(30, true),
    ),
    chunk: bytes.subarray(header + labelBytes),
  };
}

// Labels as runs of pixels of one class, row by row: its ID, and the length in bytes of 7 bits, the lowest first.
export class Labels {
  constructor(runs, width, height) {
    this.runs = runs;
    this.width = width;
    this.height = height;
    this.unpacked = null;
  }

  // Fill `values`, one for each pixel, from a table with a value for each class ID.
  fill(values, table) {
    const { runs } = this;
    let start = 0;
    for (let at = 0; at < runs.length; ) {
      const id = runs[at];
      let length = 0;
      let shift = 0;
      do {
        at += 1;
        length |= (runs[at] & 127) << shift;
        shift += 7;
      } while (runs[at] > 127);
      at += 1;
      values.fill(table[id], start, start + length);
      start += length;
    }
  }

  // The class ID of each pixel.
  get classes() {
    if (this.unpacked === null) {
      this.unpacked = new Uint8Array(this.width * this.height);
      this.fill(this.unpacked, IDS);
    }
    return this.unpacked;
  }
}

const IDS = Uint8Array.from({ length: 256 }, (_, id) => id);

// The codec string of a key frame, from the sequence parameter set within it.
export function codecOf(chunk) {
  for (let at = 0; at + 6 < chunk.length; at += 1) {
    if (chunk[at] === 0 && chunk[at + 1] === 0 && chunk[at + 2] === 1 && (chunk[at + 3] & 31) === 7) {
      const digits = [...chunk.subarray(at + 4, at + 7)].map((byte) => byte.toString(16).padStart(2, "0"));
      return `avc1.${digits.join("")}`;
    }
  }
  return null;
}
