// What this viewer wants to see. Kept in the browser; the server does not know it.

const KEY = "rtseg-view";
const DEFAULTS = { view: "overlay", alpha: 0.5, contours: false, hidden: [] };

export const VIEWS = { overlay: "Overlay", mask: "Mask", side: "Side by side", image: "Original" };

export class Settings extends EventTarget {
  constructor() {
    super();
    Object.assign(this, DEFAULTS, stored());
    this.hidden = new Set(this.hidden);
  }

  change(values) {
    Object.assign(this, values);
    const { view, alpha, contours, hidden } = this;
    try {
      localStorage.setItem(KEY, JSON.stringify({ view, alpha, contours, hidden: [...hidden] }));
    } catch {
      // Private windows may refuse; the choice then lasts as long as the page.
    }
    this.dispatchEvent(new Event("change"));
  }

  toggle(name) {
    const hidden = new Set(this.hidden);
    if (!hidden.delete(name)) {
      hidden.add(name);
    }
    this.change({ hidden });
  }

  // Show only this class; all, if it is the only one already.
  only(name, names) {
    const others = names.filter((each) => each !== name);
    const isOnly = !this.hidden.has(name) && others.every((each) => this.hidden.has(each));
    this.change({ hidden: new Set(isOnly ? [] : others) });
  }
}

function stored() {
  try {
    const values = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return {
      ...(values.view in VIEWS && { view: values.view }),
      ...(values.alpha >= 0 && values.alpha <= 1 && { alpha: values.alpha }),
      contours: values.contours === true,
      hidden: Array.isArray(values.hidden) ? values.hidden : [],
    };
  } catch {
    return {};
  }
}

// How the server is to draw an image, so that it looks as this viewer wants to see it.
export function drawingQuery(source, { view, alpha, contours, hidden }) {
  const query = new URLSearchParams({ view, alpha, contours });
  source.classes.filter(({ name }) => hidden.has(name)).forEach(({ name }) => query.append("hide", name));
  return query;
}
