// Decodes the frames of one source with WebCodecs, and shows each together with its own labels.

import { codecOf } from "./message.js";

const MOST_WAITING = 10; // frames in the decoder, before it starts anew at a key frame
const LATE_MS = 500; // a frame that is so much older than the freshest one is not decoded
const MOST_LATE = 100; // frames running; then the clocks are compared anew
const DRIFT_MS = 0.1; // of the clocks from frame to frame

const MOST_ERRORS = 3; // of the decoder in a row
const CODEC = "avc1.42c01f"; // what the server sends

// Whether this browser decodes H.264. Some have WebCodecs, but not this codec.
async function canDecodeHere() {
  if (!("VideoDecoder" in window)) {
    return false;
  }
  try {
    return (await VideoDecoder.isConfigSupported({ codec: CODEC, optimizeForLatency: true })).supported === true;
  } catch {
    return false;
  }
}

export const canDecode = await canDecodeHere();

export class Player {
  constructor(onFrame, onBroken) {
    this.onFrame = onFrame;
    this.onBroken = onBroken;
    this.errors = 0;
    this.waiting = new Map(); // by timestamp
    this.sequence = 0;
    this.next = null; // decoded, and to be painted
    this.freshestMs = Infinity;
    this.late = 0;
    this.codec = null;
    this.decoder = null;
  }

  push(message) {
    const isLate = this.isLate(message);
    if (isLate || (this.decoder !== null && this.decoder.decodeQueueSize > MOST_WAITING)) {
      this.close(); // and go on at a later key frame
    }
    if (isLate) {
      return;
    }
    if (message.key) {
      this.prepare(codecOf(message.chunk));
    }
    if (this.decoder === null) {
      return;
    }
    const timestamp = this.sequence;
    this.sequence += 1;
    this.waiting.set(timestamp, message);
    const type = message.key ? "key" : "delta";
    this.decoder.decode(new EncodedVideoChunk({ type, timestamp, data: message.chunk }));
  }

  // Whether this browser is too slow. The clocks of server and browser differ, drift apart slowly, and may be set anew.
  isLate({ capturedMs }) {
    const ageMs = performance.timeOrigin + performance.now() - capturedMs;
    this.freshestMs = this.late > MOST_LATE ? ageMs : Math.min(this.freshestMs + DRIFT_MS, ageMs);
    const isLate = ageMs - this.freshestMs > LATE_MS;
    this.late = isLate ? this.late + 1 : 0;
    return isLate;
  }

  prepare(codec) {
    if (this.decoder !== null && this.codec === codec) {
      return;
    }
    this.close();
    this.codec = codec;
    this.decoder = new VideoDecoder({
      output: (frame) => this.keep(frame),
      error: () => this.fail(),
    });
    this.decoder.configure({ codec, optimizeForLatency: true });
  }

  fail() {
    this.close();
    this.errors += 1;
    if (this.errors >= MOST_ERRORS) {
      this.onBroken();
    }
  }

  // A frame is painted when the browser draws next. If a newer one comes before that, the older one is not painted.
  keep(frame) {
    this.errors = 0;
    const message = this.waiting.get(frame.timestamp);
    for (const timestamp of this.waiting.keys()) {
      if (timestamp > frame.timestamp) {
        break;
      }
      this.waiting.delete(timestamp);
    }
    if (this.next === null) {
      requestAnimationFrame(() => this.show());
    } else {
      this.next.frame.close();
    }
    this.next = { frame, message };
  }

  show() {
    const { frame, message } = this.next;
    this.next = null;
    try {
      this.onFrame(frame, message);
    } finally {
      frame.close();
    }
  }

  close() {
    if (this.decoder !== null && this.decoder.state !== "closed") {
      this.decoder.close();
    }
    this.decoder = null;
    this.waiting.clear();
  }
}
