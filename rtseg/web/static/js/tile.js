// One source on the page: its image, its state and its figures.

import { element, setText, svg } from "./dom.js";
import { MjpegImage } from "./mjpeg.js";
import { Painter, colorTable } from "./painter.js";
import { Player, canDecode } from "./player.js";
import { Probe } from "./probe.js";
import { drawingQuery } from "./settings.js";

const RECENT = 200; // frames over which the latency is stated
const STILL_S = 1; // a source whose newest frame is older sends nothing for now

export class Tile {
  constructor(source, settings, connection, onSelect, onFallBack) {
    this.source = source;
    this.settings = settings;
    this.connection = connection;
    this.onFallBack = onFallBack;
    this.labels = null;
    this.frames = 0;
    this.hasStill = false;
    this.latencies = [];
    this.marks = svg("svg", { class: "marks", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.regions = svg("g", { class: "regions" });
    this.marks.append(this.regions);
    this.canvas = null;
    this.notice = element("p", { class: "notice", role: "status" });
    this.figures = element("span", { class: "figures" });
    this.under = element("span", { class: "under", "aria-live": "polite" });
    this.area = element("div", { class: "area" }); // has the shape of the image, and takes the pointer and the keys
    this.stage = element("div", { class: "stage" }, this.area, this.notice);
    this.button = element("button", { type: "button", "aria-pressed": "false", onclick: () => onSelect(this) });
    setText(this.button, source.name);
    const caption = element("figcaption", {}, this.button, this.figures, this.under);
    this.node = element("figure", { class: "tile", "data-source": source.id }, this.stage, caption);
    this.probe = new Probe(this, this.under);
    this.decodes = canDecode;
    this.open();
    this.change = () => this.changeColors();
    settings.addEventListener("change", this.change);
  }

  open() {
    const attributes = {
      tabindex: 0,
      role: "application", // a screen reader passes the arrow keys on
      "aria-roledescription": "live image",
      "aria-label": `Live image of ${this.source.name}. Arrow keys name the class at a place.`,
    };
    if (this.decodes) {
      this.canvas = element("canvas", attributes);
      this.painter = new Painter(this.canvas);
      this.player = new Player((frame, message) => this.show(frame, message), () => this.fallBack());
    } else {
      this.labels = null;
      const fit = (width, height) => this.fit(width, height);
      this.player = new MjpegImage(this.source, this.settings, attributes, fit);
    }
    this.image = this.canvas ?? this.player.node;
    this.area.replaceChildren(this.image, this.marks);
    this.changeColors();
  }

  // The decoder of this browser does not work: let the server draw.
  fallBack() {
    this.player.close();
    this.canvas = null;
    this.decodes = false;
    this.open();
    this.onFallBack();
  }

  close() {
    this.player.close();
    this.probe.close();
    this.settings.removeEventListener("change", this.change);
  }

  // How the server is to draw the image, if it does; see mjpeg.js.
  watch(mode) {
    if (!this.decodes) {
      this.player.watch(mode);
    }
  }

  // The server may be another one than before.
  reopen() {
    if (!this.decodes) {
      this.player.open();
    }
  }

  changeColors() {
    this.table = colorTable(this.source.classes, this.settings.hidden);
    // Side by side, the labels are on the right.
    this.marks.setAttribute("viewBox", this.settings.view === "side" ? "-1 0 2 1" : "0 0 1 1");
  }

  push(message) {
    if (this.decodes) {
      this.player.push(message);
    }
  }

  show(frame, message) {
    if (!this.decodes) {
      return; // meanwhile
    }
    this.labels = message.labels;
    this.painter.paint(frame, frame.displayWidth, frame.displayHeight, this.labels, this.table, this.settings);
    this.fit(this.canvas.width, this.canvas.height);
    this.probe.update();
    this.frames += 1;
    this.latencies.push(this.connection.ageMs(message.capturedMs));
    if (this.latencies.length > RECENT) {
      this.latencies.shift();
    }
    this.canvas.dataset.frames = this.frames;
    this.canvas.dataset.index = message.index;
  }

  // The last image of a source that sends none now, drawn by the server.
  showStill() {
    const still = element("img", {
      src: `/snapshot/${encodeURIComponent(this.source.id)}.jpg?${drawingQuery(this.source, this.settings)}`,
      onload: () => {
        if (this.decodes && this.frames === 0) {
          this.painter.show(still, still.naturalWidth, still.naturalHeight);
          this.fit(still.naturalWidth, still.naturalHeight);
        }
      },
    });
  }

  // Give the area the shape of the image, so that places in both are the same.
  fit(width, height) {
    const ratio = width / height;
    if (ratio !== this.ratio && ratio > 0) {
      this.ratio = ratio;
      this.area.style.setProperty("--ratio", ratio);
    }
  }

  // Where in the image a pointer is: [x, y] in 0..1; null outside.
  placeOf(event) {
    const box = this.area.getBoundingClientRect();
    const columns = this.settings.view === "side" ? 2 : 1;
    const across = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    return across >= 0 && across < 1 && y >= 0 && y < 1 ? [(across * columns) % 1, y] : null;
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
    if (this.decodes && this.frames === 0 && status.frame_age_s > STILL_S && !this.hasStill) {
      this.hasStill = true;
      this.showStill();
    }
    const latency = this.latency();
    const parts = [`${(status.fps ?? 0).toFixed(1)} fps`];
    if (latency !== null && this.decodes) {
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
