// Names the class under the pointer, or under the mark that the arrow keys move.

import { setText, svg } from "./dom.js";

const STEP = 0.02; // of the image, for one press of an arrow key
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

export class Probe {
  constructor(tile, output) {
    this.tile = tile;
    this.output = output;
    this.place = null; // [x, y] in 0..1 of the image
    this.mark = svg("circle", { r: 0.012, class: "probe", visibility: "hidden" });
    tile.marks.append(this.mark);
    const { canvas } = tile;
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.move(null));
    canvas.addEventListener("blur", () => this.move(null));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  point(event) {
    this.move(this.tile.placeOf(event));
    this.mark.setAttribute("visibility", "hidden");
  }

  press(event) {
    if (!(event.key in MOVES)) {
      return;
    }
    event.preventDefault();
    const [x, y] = this.place ?? [0.5, 0.5];
    const [right, down] = MOVES[event.key];
    const within = (value) => Math.min(0.999, Math.max(0, value));
    this.move([within(x + right), within(y + down)]);
    this.mark.setAttribute("cx", this.place[0]);
    this.mark.setAttribute("cy", this.place[1]);
    this.mark.setAttribute("visibility", "visible");
  }

  move(place) {
    this.place = place;
    if (place === null) {
      this.mark.setAttribute("visibility", "hidden");
    }
    this.update();
  }

  // Also called for every new frame: the pointer rests, the street does not.
  update() {
    const { labels, source } = this.tile;
    if (this.place === null || labels === null) {
      setText(this.output, "");
      return;
    }
    const [x, y] = this.place;
    const id = labels.classes[Math.floor(y * labels.height) * labels.width + Math.floor(x * labels.width)];
    setText(this.output, source.classes[id]?.name ?? "unlabelled");
  }
}
