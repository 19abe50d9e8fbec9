// Where the time goes: each stage of the run with its median and 95th percentile, as numbers and as a waterfall, in
// which each bar begins where the median of the stage before ends.

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
  events: "Events",
};
const WIDTH = 90;
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
    let startMs = 0;
    const starts = rows.map(([, { p50_ms: median }]) => (startMs += median) - median);
    const endMs = Math.max(...rows.map(([, { p95_ms: high }], at) => starts[at] + high), 0.1);
    this.body.replaceChildren(
      ...rows.map(([name, figures], at) => row(NAMES[name] ?? name, figures, starts[at], endMs)),
    );
  }
}

function row(name, { p50_ms: median, p95_ms: high }, startMs, endMs) {
  const scale = WIDTH / endMs;
  const bar = svg("svg", { viewBox: `0 0 ${WIDTH} 10`, width: WIDTH, height: 10, "aria-hidden": "true" });
  const part = (kind, ms) => svg("rect", { class: kind, x: scale * startMs, width: Math.max(1, scale * ms), height: 10 });
  bar.append(part("high", high), part("median", Math.min(median, high)));
  const cells = [bar, median.toFixed(1), high.toFixed(1)].map((child) => element("td", {}, child));
  return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
}
