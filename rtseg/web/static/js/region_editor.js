// Draws a region with the pointer: a click for each corner, a double click or Enter for the last, Escape gives up.
// Without a pointer: the arrow keys move the mark, and Space sets a corner.

import { svg } from "./dom.js";

export class RegionEditor {
  constructor(tile, onDone) {
    this.tile = tile;
    this.onDone = onDone;
    this.points = null; // null: nothing is drawn
    this.line = svg("polyline", { class: "drawing" });
    tile.marks.append(this.line);
    const { canvas } = tile;
    canvas.addEventListener("click", (event) => this.add(tile.placeOf(event)));
    canvas.addEventListener("dblclick", () => this.finish());
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  begin() {
    this.points = [];
    this.tile.canvas.focus();
    this.tile.canvas.classList.add("editing");
  }

  get isActive() {
    return this.points !== null;
  }

  add(place) {
    if (this.points === null || place === null) {
      return;
    }
    const last = this.points.at(-1);
    if (last === undefined || last[0] !== place[0] || last[1] !== place[1]) {
      this.points.push(place);
      this.line.setAttribute("points", this.points.map((point) => point.join(",")).join(" "));
    }
  }

  press(event) {
    if (this.points === null) {
      return;
    }
    if (event.key === " ") {
      event.preventDefault();
      this.add(this.tile.probe.place ?? [0.5, 0.5]);
    } else if (event.key === "Enter") {
      this.finish();
    } else if (event.key === "Escape") {
      this.end();
    }
  }

  finish() {
    const points = this.points;
    if (points !== null && points.length >= 3) {
      this.end();
      this.onDone(points);
    }
  }

  end() {
    this.points = null;
    this.line.setAttribute("points", "");
    this.tile.canvas.classList.remove("editing");
  }
}

// The regions that are in use, as outlines.
export function drawRegions(group, regions) {
  group.replaceChildren(
    ...regions.map(({ points }) => svg("polygon", { points: points.map((each) => each.join(",")).join(" ") })),
  );
}
