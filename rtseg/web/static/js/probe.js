// Names the class under the pointer, or under the mark that the arrow keys move.

import * as api from "./api.js";
import { setText, svg } from "./dom.js";

const STEP = 0.02; // of the image, for one press of an arrow key
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const ASK_EVERY_MS = 250; // where the server knows the labels, and this page does not

export class Probe {
  constructor(tile, output) {
    this.tile = tile;
    this.output = output;
    this.place = null; // [x, y] in 0..1 of the image
    this.isAsking = false;
    this.timer = setInterval(() => this.ask(), ASK_EVERY_MS);
    this.mark = svg("circle", { r: 0.012, class: "probe", visibility: "hidden" });
    tile.marks.append(this.mark);
    const { area } = tile;
    area.addEventListener("pointermove", (event) => this.point(event));
    area.addEventListener("pointerdown", (event) => this.point(event));
    area.addEventListener("pointerleave", () => this.move(null));
    area.addEventListener("focusout", () => this.move(null));
    area.addEventListener("keydown", (event) => this.press(event));
  }

  close() {
    clearInterval(this.timer);
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
    const { labels, source, decodes } = this.tile;
    if (this.place === null || (decodes && labels === null)) {
      setText(this.output, "");
    } else if (decodes) {
      const [x, y] = this.place;
      const id = labels.classes[Math.floor(y * labels.height) * labels.width + Math.floor(x * labels.width)];
      this.tell(source.classes[id]?.name);
    }
  }

  // What the server draws, it alone can name.
  async ask() {
    const { place } = this;
    if (place === null || this.tile.decodes || this.isAsking || document.hidden) {
      return;
    }
    this.isAsking = true;
    try {
      const { name } = await api.classAt(this.tile.source.id, place);
      if (this.place !== null) {
        this.tell(name);
      }
    } catch {
      // The server is away; the connection says so.
    } finally {
      this.isAsking = false;
    }
  }

  tell(name) {
    setText(this.output, name ?? "unlabelled");
  }
}
