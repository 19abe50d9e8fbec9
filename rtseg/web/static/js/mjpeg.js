// The stream for browsers that cannot decode: the server draws it, as this viewer wants to see it.

import { element } from "./dom.js";
import { drawingQuery } from "./settings.js";

const AGAIN_MS = 2000;
const STILL_MS = 1000;

export class MjpegImage {
  constructor(source, settings, attributes, onSize) {
    this.source = source;
    this.settings = settings;
    this.mode = "off"; // or "stream", or "still": a new image every second
    this.timer = null;
    this.node = element("img", {
      ...attributes,
      onload: () => {
        onSize(this.node.naturalWidth, this.node.naturalHeight);
        if (this.mode === "still") {
          this.openIn(STILL_MS);
        }
      },
      onerror: () => this.openIn(AGAIN_MS),
    });
    this.reopen = () => this.open();
    settings.addEventListener("change", this.reopen);
  }

  watch(mode) {
    if (mode !== this.mode) {
      this.mode = mode;
      this.open();
    }
  }

  open() {
    clearTimeout(this.timer);
    const id = encodeURIComponent(this.source.id);
    const query = drawingQuery(this.source, this.settings);
    if (this.mode === "stream") {
      this.node.src = `/stream/${id}.mjpg?${query}`;
    } else if (this.mode === "still") {
      this.node.src = `/snapshot/${id}.jpg?${query}&at=${Date.now()}`;
    } else {
      this.node.removeAttribute("src"); // ends the connection
    }
  }

  openIn(ms) {
    clearTimeout(this.timer);
    if (this.mode !== "off") {
      this.timer = setTimeout(() => this.open(), ms);
    }
  }

  close() {
    this.settings.removeEventListener("change", this.reopen);
    this.watch("off");
  }
}
