// One source on the page: its image, its state and its figures.

import { element, setText, svg } from "./dom.js";
import { MjpegImage } from "./mjpeg.js";
import { Painter, colorTable } from "./painter.js";
import { Player, canDecode } from "./player.js";
import { Probe } from "./probe.js";

const RECENT = 200; // frames over which the latency is stated

export class Tile {
  constructor(source, settings, connection, onSelect) {
    this.source = source;
    this.settings = settings;
    this.connection = connection;
    this.labels = null;
    this.frames = 0;
    this.latencies = [];
    this.canvas = element("canvas", {
      tabindex: 0,
      role: "img",
      "aria-label": `Live image of ${source.name}. Arrow keys name the class at a place.`,
    });
    this.marks = svg("svg", { class: "marks", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.regions = svg("g", { class: "regions" });
    this.marks.append(this.regions);
    this.notice = element("p", { class: "notice", role: "status" });
    this.figures = element("span", { class: "figures" });
    this.under = element("span", { class: "under", "aria-live": "polite" });
    this.stage = element("div", { class: "stage" });
    this.button = element("button", { type: "button", "aria-pressed": "false", onclick: () => onSelect(this) });
    setText(this.button, source.name);
    const caption = element("figcaption", {}, this.button, this.figures, this.under);
    this.node = element("figure", { class: "tile", "data-source": source.id }, this.stage, caption);
    this.probe = new Probe(this, this.under);
    this.open();
    this.repaint = () => this.changeColors();
    settings.addEventListener("change", this.repaint);
  }

  open() {
    if (canDecode) {
      this.painter = new Painter(this.canvas);
      this.player = new Player((frame, classes, message) => this.show(frame, classes, message));
      this.stage.append(this.canvas, this.marks, this.notice);
    } else {
      this.player = new MjpegImage(this.source, this.settings);
      this.stage.append(this.player.node, this.notice);
    }
    this.changeColors();
  }

  close() {
    this.player.close();
    this.settings.removeEventListener("change", this.repaint);
  }

  changeColors() {
    this.table = colorTable(this.source.classes, this.settings.hidden);
  }

  push(message) {
    if (canDecode) {
      this.player.push(message);
    }
  }

  show(frame, classes, message) {
    this.labels = { classes, width: message.labelWidth, height: message.labelHeight };
    this.painter.paint(frame, frame.displayWidth, frame.displayHeight, this.labels, this.table, this.settings);
    this.probe.update();
    this.frames += 1;
    this.latencies.push(this.connection.ageMs(message.capturedMs));
    if (this.latencies.length > RECENT) {
      this.latencies.shift();
    }
    this.canvas.dataset.frames = this.frames;
    this.canvas.dataset.index = message.index;
  }

  // Where in the image a pointer is: [x, y] in 0..1; null outside.
  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const columns = this.settings.view === "side" ? 2 : 1;
    const x = (((event.clientX - box.left) / box.width) * columns) % 1;
    const y = (event.clientY - box.top) / box.height;
    return x >= 0 && y >= 0 && y < 1 ? [x, y] : null;
  }

  // Median and 95th percentile of the time from capture to paint, in ms.
  latency() {
    const sorted = [...this.latencies].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return sorted.length > 0 ? { p50: at(0.5), p95: at(0.95) } : null;
  }

  update(status) {
    const isLive = /^(playing|streaming|running)/.test(status.state);
    setText(this.notice, isLive ? "" : status.state);
    const latency = this.latency();
    const parts = [`${(status.fps ?? 0).toFixed(1)} fps`];
    if (latency !== null) {
      parts.push(`${latency.p50.toFixed(0)} ms (p95 ${latency.p95.toFixed(0)} ms)`);
      Object.assign(this.canvas.dataset, { p50: latency.p50.toFixed(1), p95: latency.p95.toFixed(1) }); // for measurements
    }
    parts.push(`${status.dropped ?? 0} dropped`);
    if (status.recording !== null) {
      parts.push("● recording");
    }
    setText(this.figures, parts.join(" · "));
  }
}
