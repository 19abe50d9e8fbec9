// The recordings of a source, to download.

import { element } from "./dom.js";

export class RecordingList {
  constructor() {
    this.node = element("ul", { class: "list" }, element("li", {}, "none so far"));
    this.shown = "";
  }

  update(recordings) {
    const ids = recordings.map(({ id }) => id).join("\n");
    if (ids === this.shown) {
      return;
    }
    this.shown = ids;
    const items = recordings.map(({ id, bytes, ended }) => {
      const text = `${new Date(ended).toLocaleString()} (${(bytes / 1e6).toFixed(1)} MB)`;
      return element("li", {}, element("a", { href: `/api/recordings/${encodeURIComponent(id)}.mp4`, download: "" }, text));
    });
    this.node.replaceChildren(...(items.length > 0 ? items : [element("li", {}, "none so far")]));
  }
}
