// The shares of the classes over the last minutes, as stacked areas.

import { element, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 120;
const LARGEST = 12; // classes with an area of their own; all others share one

export class ShareChart {
  constructor() {
    this.svg = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT + 14}`, role: "img" });
    this.node = element("div", {}, this.svg);
  }

  // `history`: {age_s, shares} each, the oldest first.
  update(classes, history) {
    if (history.length < 2) {
      return;
    }
    const longest = Math.max(1, history[0].age_s);
    const columns = history.map(({ age_s: age }) => WIDTH * (1 - age / longest));
    const below = history.map(() => 0);
    const areas = [];
    for (const { ids, fill } of layers(classes, history)) {
      const lower = [...below];
      history.forEach(({ shares }, at) => {
        below[at] += ids.reduce((sum, id) => sum + (shares[id] ?? 0), 0);
      });
      if (below.some((share, at) => share > lower[at])) {
        const points = [...outline(columns, below), ...outline(columns, lower).reverse()];
        areas.push(svg("polygon", { points: points.join(" "), ...fill }));
      }
    }
    const minutes = longest / 60;
    const text = svg("text", { x: 0, y: HEIGHT + 11 });
    text.textContent = minutes >= 1 ? `${minutes.toFixed(0)} min ago` : `${longest.toFixed(0)} s ago`;
    const now = svg("text", { x: WIDTH, y: HEIGHT + 11, "text-anchor": "end" });
    now.textContent = "now";
    this.svg.replaceChildren(...areas, text, now);
    this.svg.setAttribute("aria-label", describe(classes, history.at(-1).shares));
  }
}

// The largest classes in the order of the model, then all others together.
function layers(classes, history) {
  const sizes = classes.map(({ id }) => history.reduce((sum, { shares }) => sum + (shares[id] ?? 0), 0));
  const ids = classes.map(({ id }) => id).sort((a, b) => sizes[b] - sizes[a]);
  const largest = new Set(ids.slice(0, LARGEST));
  return [
    ...classes.filter(({ id }) => largest.has(id)).map(({ id, color }) => ({ ids: [id], fill: { fill: color } })),
    { ids: ids.slice(LARGEST), fill: { class: "others" } },
  ];
}

function outline(columns, shares) {
  return columns.map((x, at) => `${x.toFixed(1)},${(HEIGHT * (1 - Math.min(1, shares[at]))).toFixed(1)}`);
}

function describe(classes, shares) {
  const largest = [...classes].sort((a, b) => shares[b.id] - shares[a.id]).slice(0, 3);
  return `Class shares over time. Now ${largest.map(({ id, name }) => `${name} ${(100 * shares[id]).toFixed(0)} %`).join(", ")}`;
}
