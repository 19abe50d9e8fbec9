// Draws a region with the pointer: a click for each corner; a double click, Enter or the button ends it, Escape gives up.
// Without a pointer: the arrow keys move the mark, and Space sets a corner.

import { svg } from "./dom.js";

export class RegionEditor {
  constructor(tile, onChange, onDone) {
    this.tile = tile;
    this.onChange = onChange; // begun, or ended
    this.onDone = onDone;
    this.points = null; // null: nothing is drawn
    this.line = svg("polyline", { class: "drawing" });
    tile.marks.append(this.line);
    const { area } = tile;
    area.addEventListener("click", (event) => this.add(tile.placeOf(event)));
    area.addEventListener("dblclick", () => this.finish());
    area.addEventListener("keydown", (event) => this.press(event));
  }

  begin() {
    this.points = [];
    this.tile.image.focus();
    this.tile.area.classList.add("editing");
    this.onChange();
  }

  get isActive() {
    return this.points !== null;
  }

  // What the button does.
  toggle() {
    if (!this.isActive) {
      this.begin();
      return;
    }
    this.finish();
    this.end();
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
    if (this.points === null) {
      return;
    }
    this.points = null;
    this.line.setAttribute("points", "");
    this.tile.area.classList.remove("editing");
    this.onChange();
  }
}

// The regions that are in use, as outlines.
export function drawRegions(group, regions) {
  group.replaceChildren(
    ...regions.map(({ points }) => svg("polygon", { points: points.map((each) => each.join(",")).join(" ") })),
  );
}
