// The panels about the selected source that are filled every few seconds.

import * as api from "./api.js";
import { ShareChart } from "./chart.js";
import { element } from "./dom.js";
import { StageTable } from "./stage_table.js";

const EVERY_MS = 2000;

export class Panels {
  constructor(node, controls, onDetails) {
    this.controls = controls;
    this.onDetails = onDetails;
    this.chart = new ShareChart();
    this.stages = new StageTable();
    this.events = element("ul", { class: "list" });
    this.source = null;
    const panel = (title, ...content) =>
      element("details", { open: true }, element("summary", {}, title), ...content);
    node.append(
      panel("Source", ...controls.nodes),
      panel("Classes over time", this.chart.node),
      panel("Time by stage", this.stages.node),
      panel("Events", this.events),
    );
    setInterval(() => this.refresh(), EVERY_MS);
  }

  setSource(source) {
    this.source = source;
    this.controls.setSource(source);
    this.refresh();
  }

  async refresh() {
    if (this.source === null || document.hidden) {
      return;
    }
    const { source } = this;
    try {
      const details = await api.details(source.id);
      if (source === this.source) {
        this.show(details);
      }
    } catch {
      // The server is away; the connection says so.
    }
  }

  show(details) {
    this.chart.update(details);
    this.stages.update(details.stages);
    this.controls.updateDetails(details);
    const lines = [...details.events].reverse();
    const items = lines.length > 0 ? lines : ["none so far"];
    this.events.replaceChildren(...items.map((line) => element("li", {}, line)));
    this.onDetails(details);
  }
}
