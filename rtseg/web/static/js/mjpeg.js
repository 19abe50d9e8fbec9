// The stream for browsers that cannot decode: the server draws it, as this viewer wants to see it.

import { element } from "./dom.js";
import { drawingQuery } from "./settings.js";

const AGAIN_MS = 2000;

export class MjpegImage {
  constructor(source, settings, attributes, onSize) {
    this.source = source;
    this.settings = settings;
    this.isShown = false;
    this.retry = null;
    this.node = element("img", {
      ...attributes,
      onload: () => onSize(this.node.naturalWidth, this.node.naturalHeight),
      onerror: () => this.openSoon(),
    });
    this.reopen = () => this.open();
    settings.addEventListener("change", this.reopen);
  }

  watch(isShown) {
    if (isShown !== this.isShown) {
      this.isShown = isShown;
      this.open();
    }
  }

  open() {
    clearTimeout(this.retry);
    if (this.isShown) {
      this.node.src = `/stream/${encodeURIComponent(this.source.id)}.mjpg?${drawingQuery(this.source, this.settings)}`;
    } else {
      this.node.removeAttribute("src"); // ends the connection
    }
  }

  openSoon() {
    clearTimeout(this.retry);
    if (this.isShown) {
      this.retry = setTimeout(() => this.open(), AGAIN_MS);
    }
  }

  close() {
    this.settings.removeEventListener("change", this.reopen);
    this.watch(false);
  }
}
