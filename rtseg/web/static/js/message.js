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
    labelWidth: view.getUint16(28, true),
    labelHeight: view.getUint16(30, true),
    labels: bytes.subarray(header, header + labelBytes),
    chunk: bytes.subarray(header + labelBytes),
  };
}

// The class IDs of a label map, one byte a pixel.
export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

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
