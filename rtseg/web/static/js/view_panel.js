// How the labels are drawn: view, opacity, contours.

import { element } from "./dom.js";
import { VIEWS } from "./settings.js";

export function addViewPanel(node, settings) {
  const options = Object.entries(VIEWS).map(([value, text]) =>
    element("option", { value, selected: value === settings.view }, text),
  );
  const view = element("select", { onchange: () => settings.change({ view: view.value }) }, ...options);
  const alpha = element("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: settings.alpha,
    oninput: () => settings.change({ alpha: Number(alpha.value) }),
  });
  const contours = element("input", {
    type: "checkbox",
    checked: settings.contours,
    onchange: () => settings.change({ contours: contours.checked }),
  });
  node.append(
    element("div", { class: "row" }, element("label", {}, "Show", view)),
    element("div", { class: "row" }, element("label", {}, "Opacity", alpha)),
    element("div", { class: "row" }, element("label", {}, contours, "Contours")),
  );
}
