// Decodes the frames of one source with WebCodecs, and shows each together with its own labels.

import { codecOf, inflate } from "./message.js";

const MOST_WAITING = 10; // frames in the decoder, before it starts anew at a key frame

export const canDecode = "VideoDecoder" in window && "DecompressionStream" in window;

export class Player {
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.waiting = new Map(); // by timestamp
    this.sequence = 0;
    this.shown = -1;
    this.codec = null;
    this.decoder = null;
  }

  push(message) {
    if (this.decoder !== null && this.decoder.decodeQueueSize > MOST_WAITING) {
      this.close();
    }
    if (message.key) {
      this.prepare(codecOf(message.chunk));
    }
    if (this.decoder === null) {
      return;
    }
    const timestamp = this.sequence;
    this.sequence += 1;
    this.waiting.set(timestamp, { ...message, classes: inflate(message.labels) });
    const type = message.key ? "key" : "delta";
    this.decoder.decode(new EncodedVideoChunk({ type, timestamp, data: message.chunk }));
  }

  prepare(codec) {
    if (this.decoder !== null && this.codec === codec) {
      return;
    }
    this.close();
    this.codec = codec;
    this.decoder = new VideoDecoder({
      output: (frame) => this.show(frame),
      error: () => this.close(),
    });
    this.decoder.configure({ codec, optimizeForLatency: true });
  }

  async show(frame) {
    const message = this.waiting.get(frame.timestamp);
    for (const timestamp of this.waiting.keys()) {
      if (timestamp > frame.timestamp) {
        break;
      }
      this.waiting.delete(timestamp);
    }
    try {
      const classes = await message.classes;
      if (frame.timestamp > this.shown) {
        this.shown = frame.timestamp;
        this.onFrame(frame, classes, message);
      }
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
