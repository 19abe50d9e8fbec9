// One source on the page: its image, its state and its figures.

import { element, setText } from "./dom.js";
import { Painter, colorTable } from "./painter.js";
import { Player } from "./player.js";

const RECENT = 200; // frames over which the latency is stated

export class Tile {
  constructor(source, settings, connection, onSelect) {
    this.source = source;
    this.settings = settings;
    this.connection = connection;
    this.labels = null;
    this.frames = 0;
    this.latencies = [];
    this.canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": `Live image of ${source.name}` });
    this.notice = element("p", { class: "notice", role: "status" });
    this.figures = element("span", { class: "figures" });
    this.under = element("span", { class: "under", "aria-live": "polite" });
    this.stage = element("div", { class: "stage" }, this.canvas, this.notice);
    this.button = element("button", { type: "button", "aria-pressed": "false", onclick: () => onSelect(this) });
    setText(this.button, source.name);
    const caption = element("figcaption", {}, this.button, this.figures, this.under);
    this.node = element("figure", { class: "tile", "data-source": source.id }, this.stage, caption);
    this.painter = new Painter(this.canvas);
    this.player = new Player((frame, classes, message) => this.show(frame, classes, message));
    settings.addEventListener("change", () => this.changeColors());
    this.changeColors();
  }

  changeColors() {
    this.table = colorTable(this.source.classes, this.settings.hidden);
  }

  push(message) {
    this.player.push(message);
  }

  show(frame, classes, message) {
    this.labels = { classes, width: message.labelWidth, height: message.labelHeight };
    this.painter.paint(frame, frame.displayWidth, frame.displayHeight, this.labels, this.table, this.settings);
    this.frames += 1;
    this.latencies.push(this.connection.ageMs(message.capturedMs));
    if (this.latencies.length > RECENT) {
      this.latencies.shift();
    }
    this.canvas.dataset.frames = this.frames;
    this.canvas.dataset.index = message.index;
  }

  // Median and 95th percentile of the time from capture to paint, in ms.
  latency() {
    const sorted = [...this.latencies].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return sorted.length > 0 ? { p50: at(0.5), p95: at(0.95) } : null;
  }

  update(status) {
    const live = /^(playing|streaming)/.test(status.state);
    setText(this.notice, live ? "" : status.state);
    const latency = this.latency();
    const parts = [`${(status.fps ?? 0).toFixed(1)} fps`];
    if (latency !== null) {
      parts.push(`${latency.p50.toFixed(0)} ms (p95 ${latency.p95.toFixed(0)} ms)`);
      Object.assign(this.canvas.dataset, { p50: latency.p50.toFixed(1), p95: latency.p95.toFixed(1) });
    }
    parts.push(`${status.dropped ?? 0} dropped`);
    setText(this.figures, parts.join(" · "));
  }
}
