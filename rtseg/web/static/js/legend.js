// The classes of a model: their colours, their share of the image, and whether they are shown.

import { element, setText, svg } from "./dom.js";

export class Legend {
  constructor(node, settings) {
    this.settings = settings;
    this.list = element("ul", { class: "classes" });
    const hint = "Click: show or hide. Shift-click or Shift+Enter: only this one.";
    node.append(this.list, element("p", { class: "hint" }, hint));
    this.rows = [];
    settings.addEventListener("change", () => this.mark());
  }

  setSource(source) {
    const names = source.classes.map(({ name }) => name);
    this.rows = source.classes.map(({ name, color }) => this.row(name, color, names));
    this.list.replaceChildren(...this.rows.map(({ button }) => element("li", {}, button)));
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
        onclick: (event) => choose(event.shiftKey),
        onkeydown: (event) => {
          if (event.key === "Enter" && event.shiftKey) {
            event.preventDefault();
            choose(true);
          }
        },
      },
      swatch,
      element("span", {}, name),
      share,
    );
    return { name, button, share };
  }

  mark() {
    for (const { name, button } of this.rows) {
      button.setAttribute("aria-pressed", String(!this.settings.hidden.has(name)));
    }
  }

  update(shares) {
    this.rows.forEach(({ share }, id) => setText(share, `${(100 * (shares[id] ?? 0)).toFixed(1)} %`));
  }
}
