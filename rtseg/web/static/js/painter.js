// Draws a frame and its labels, as the viewer wants to see them.

const WHITE = 0xffffffff;
const VOID = 255;

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.fill = new Layer();
    this.lines = new Layer();
  }

  // Only an image, as it is.
  show(image, width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.context.drawImage(image, 0, 0);
  }

  // `image` is anything that drawImage takes; `labels` are from message.js; `table` is from `colorTable`.
  paint(image, width, height, labels, table, settings) {
    const side = settings.view === "side";
    const { canvas, context } = this;
    if (canvas.width !== width * (side ? 2 : 1) || canvas.height !== height) {
      canvas.width = width * (side ? 2 : 1);
      canvas.height = height;
    }
    const left = side ? width : 0;
    context.globalAlpha = 1;
    context.imageSmoothingEnabled = true;
    if (settings.view === "mask") {
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
    } else {
      context.drawImage(image, 0, 0, width, height);
    }
    if (side) {
      context.drawImage(image, width, 0, width, height);
    }
    context.imageSmoothingEnabled = false;
    if (settings.view !== "image") {
      this.fill.draw(labels, (pixels) => labels.fill(pixels, table));
      context.globalAlpha = settings.view === "mask" ? 1 : settings.alpha;
      context.drawImage(this.fill.canvas, left, 0, width, height);
      context.globalAlpha = 1;
    }
    if (settings.contours) {
      this.lines.draw(labels, (pixels) => drawBorders(labels.classes, pixels, labels.width, table));
      context.drawImage(this.lines.canvas, left, 0, width, height);
    }
  }
}

class Layer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.data = null;
    this.pixels = null;
  }

  draw(labels, fill) {
    if (this.data === null || this.data.width !== labels.width || this.data.height !== labels.height) {
      this.canvas.width = labels.width;
      this.canvas.height = labels.height;
      this.data = this.context.createImageData(labels.width, labels.height);
      this.pixels = new Uint32Array(this.data.data.buffer);
    }
    fill(this.pixels);
    this.context.putImageData(this.data, 0, 0);
  }
}

// The colour of each class ID as a little-endian RGBA word; 0 (transparent) for void and hidden classes.
export function colorTable(classes, hidden) {
  const table = new Uint32Array(256);
  for (const { id, name, color } of classes) {
    if (!hidden.has(name)) {
      const rgb = Number.parseInt(color.slice(1), 16);
      table[id] = 0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16);
    }
  }
  return table;
}

// White where the class differs from that of the pixel on the right or below. Hidden classes count as one.
function drawBorders(classes, pixels, width, table) {
  const shown = (at) => (table[classes[at]] === 0 ? VOID : classes[at]);
  pixels.fill(0);
  for (let at = 0; at + width < pixels.length; at += 1) {
    const own = shown(at);
    if (shown(at + width) !== own || ((at + 1) % width !== 0 && shown(at + 1) !== own)) {
      pixels[at] = WHITE;
    }
  }
}
