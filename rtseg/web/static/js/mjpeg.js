// The stream for browsers without WebCodecs: the server draws it, as this viewer wants to see it.

import { element } from "./dom.js";

export class MjpegImage {
  constructor(source, settings) {
    this.source = source;
    this.node = element("img", { alt: `Live image of ${source.name}` });
    this.settings = settings;
    this.reopen = () => this.open(settings);
    settings.addEventListener("change", this.reopen);
    this.open(settings);
  }

  open({ view, alpha, contours, hidden }) {
    const names = new Set(this.source.classes.map(({ name }) => name));
    const hide = [...hidden].filter((name) => names.has(name)).join(",");
    const query = new URLSearchParams({ view, alpha, contours, hide });
    this.node.src = `/stream/${encodeURIComponent(this.source.id)}.mjpg?${query}`;
  }

  close() {
    this.settings.removeEventListener("change", this.reopen);
    this.node.removeAttribute("src"); // ends the connection
  }
}
