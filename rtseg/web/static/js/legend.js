// The classes of a model: their colours, their share of the image, and whether they are shown.
// Of a model with many classes, the largest are listed first; the others only when they are asked for.

import { element, setText, svg } from "./dom.js";

const FEW = 24; // up to so many classes are all listed, in the order of the model
const LARGEST = 12; // of more classes, so many are listed
const NEW_ORDER_MS = 3000;
const KEPT = 0.9; // of the earlier order, with each new share: classes must not jump about

export class Legend {
  constructor(node, settings) {
    this.node = node;
    this.settings = settings;
    this.list = element("ul", { class: "classes", id: "classes" });
    this.others = element("ul", { class: "classes others", id: "other-classes", hidden: true });
    this.sum = element("span", {});
    this.title = element("span", {});
    this.more = element(
      "button",
      { type: "button", class: "more", "aria-expanded": "false", "aria-controls": "other-classes", hidden: true },
      this.title,
      this.sum,
    );
    this.find = element("input", { type: "search", placeholder: "Find a class", "aria-label": "Find a class", hidden: true });
    this.all = element("button", { type: "button", hidden: true }, "Show all classes");
    const hint = "Click: show or hide. Shift-click or Shift+Enter: only this one.";
    node.append(this.all, this.list, this.more, this.find, this.others, element("p", { class: "hint" }, hint));
    this.rows = [];
    this.orderedMs = 0;
    this.more.addEventListener("click", () => this.expand(this.others.hidden));
    this.find.addEventListener("input", () => this.filter());
    this.all.addEventListener("click", () => settings.change({ hidden: new Set() }));
    settings.addEventListener("change", () => this.mark());
  }

  setSource(source) {
    const names = source.classes.map(({ name }) => name);
    this.rows = source.classes.map(({ name, color }) => this.row(name, color, names));
    const isLong = this.rows.length > FEW;
    this.more.hidden = !isLong;
    this.expand(isLong && !this.others.hidden);
    this.place();
    this.orderedMs = -Infinity; // the first shares order them anew
    this.mark();
  }

  row(name, color, names) {
    const share = element("span", {});
    const swatch = svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" });
    swatch.append(svg("rect", { width: 1, height: 1, fill: color }));
    const choose = (only) => (only ? this.settings.only(name, names) : this.settings.toggle(name));
    const button = element(
      "button",
      {
        type: "button",
        "data-class": name,
        title: name,
        onclick: (event) => choose(event.shiftKey),
        onkeydown: (event) => {
          if (event.key === "Enter" && event.shiftKey) {
            event.preventDefault();
            choose(true);
          }
        },
      },
      swatch,
      element("span", { class: "name" }, name),
      share,
    );
    return { name, button, share, item: element("li", {}, button), now: 0, size: 0 };
  }

  mark() {
    for (const { name, button } of this.rows) {
      button.setAttribute("aria-pressed", String(!this.settings.hidden.has(name)));
    }
    this.all.hidden = !this.rows.some(({ name }) => this.settings.hidden.has(name));
  }

  update(shares) {
    this.rows.forEach((row, id) => {
      row.now = shares[id] ?? 0;
      row.size = KEPT * row.size + (1 - KEPT) * row.now;
      setText(row.share, percent(row.now));
    });
    if (this.rows.length > FEW) {
      const isDue = performance.now() - this.orderedMs > NEW_ORDER_MS;
      const isUsed = this.node.matches(":hover") || this.node.querySelector(":focus-visible") !== null;
      if (isDue && !isUsed) {
        this.place();
      }
      const rest = this.rows.filter(({ item }) => item.parentNode === this.others);
      setText(this.sum, percent(rest.reduce((sum, { now }) => sum + now, 0)));
    }
  }

  // Put the rows into their lists, the largest first.
  place() {
    const focused = document.activeElement;
    const isLong = this.rows.length > FEW;
    const order = isLong ? [...this.rows].sort((a, b) => b.size - a.size) : this.rows;
    const listed = isLong ? LARGEST : order.length;
    fill(this.list, order.slice(0, listed));
    fill(this.others, order.slice(listed));
    setText(this.title, `${order.length - listed} others`);
    this.orderedMs = performance.now();
    if (focused !== document.activeElement && this.node.contains(focused)) {
      focused.focus({ preventScroll: true });
    }
  }

  expand(isOpen) {
    this.others.hidden = this.find.hidden = !isOpen;
    this.more.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) {
      this.find.value = "";
    }
    this.filter();
  }

  filter() {
    const wanted = this.find.value.trim().toLowerCase();
    for (const { name, item } of this.rows) {
      item.hidden = !name.toLowerCase().includes(wanted);
    }
  }
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function fill(list, rows) {
  const items = rows.map(({ item }) => item);
  if (items.length !== list.children.length || items.some((item, at) => item !== list.children[at])) {
    list.replaceChildren(...items);
  }
}
