// Where the time goes: each stage of the run with its median and 95th percentile, as bars and numbers.

import { element, svg } from "./dom.js";

const NAMES = {
  read: "Read",
  prepare: "Prepare",
  flow: "Motion",
  infer: "Network",
  carry: "Carry labels",
  render: "Resize labels",
  page: "Encode",
  recorder: "Record",
};
const SHORTEST_MS = 0.05; // shorter stages are left out

export class StageTable {
  constructor() {
    this.body = element("tbody");
    const head = ["Stage", "", "p50, ms", "p95, ms"].map((text) => element("th", { scope: "col" }, text));
    this.node = element("table", { class: "stages" }, element("thead", {}, element("tr", {}, ...head)), this.body);
  }

  update(stages) {
    const known = Object.keys(NAMES).filter((name) => name in stages);
    const names = [...known, ...Object.keys(stages).filter((name) => !(name in NAMES))];
    const rows = names.map((name) => [name, stages[name]]).filter(([, { p95_ms: high }]) => high >= SHORTEST_MS);
    const longest = Math.max(...rows.map(([, figures]) => figures.p95_ms), 0.1);
    this.body.replaceChildren(...rows.map(([name, figures]) => row(NAMES[name] ?? name, figures, longest)));
  }
}

function row(name, { p50_ms: median, p95_ms: high }, longest) {
  const bar = svg("svg", { viewBox: "0 0 60 10", width: 60, height: 10, "aria-hidden": "true" });
  bar.append(svg("rect", { class: "high", width: (60 * high) / longest, height: 10 }));
  bar.append(svg("rect", { class: "median", width: (60 * Math.min(median, high)) / longest, height: 10 }));
  const cells = [bar, median.toFixed(1), high.toFixed(1)].map((child) => element("td", {}, child));
  return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
}
