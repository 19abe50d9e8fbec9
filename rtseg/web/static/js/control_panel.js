// Steers the selected source: snapshot, recording, model, propagation, regions.

import * as api from "./api.js";
import { element, setText } from "./dom.js";
import { drawingQuery } from "./settings.js";

const PROPAGATION = { auto: "auto", off: "off", 2: "every 2nd frame", 3: "every 3rd frame", 5: "every 5th frame" };

export class ControlPanel {
  constructor(settings, onDrawRegion) {
    this.settings = settings;
    this.source = null;
    const button = (text, onclick) => element("button", { type: "button", onclick }, text);
    this.snapshot = element("a", { download: "", onclick: () => this.aim() }, "Snapshot");
    this.record = button("Record", () => this.toggleRecording());
    this.draw = button("Draw region", onDrawRegion);
    this.clear = button("Clear regions", () => this.run(() => api.setRegions(this.source.id, [])));
    this.model = element("select", { onchange: () => this.change({ model: this.model.value }) });
    this.propagate = element("select", { onchange: () => this.change({ propagate: this.propagate.value }) });
    this.problem = element("p", { class: "error", role: "alert" });
    this.nodes = [
      element("div", { class: "row" }, this.snapshot, this.record),
      element("div", { class: "row" }, this.draw, this.clear),
      element("div", { class: "row" }, element("label", {}, "Model", this.model)),
      element("div", { class: "row" }, element("label", {}, "Propagation", this.propagate)),
      this.problem,
    ];
  }

  setSource(source) {
    this.source = source;
    this.aim();
  }

  // A snapshot looks as this viewer sees the source.
  aim() {
    const { id } = this.source;
    this.snapshot.href = `/snapshot/${encodeURIComponent(id)}.jpg?${drawingQuery(this.source, this.settings)}`;
    this.snapshot.download = `${id}.jpg`;
  }

  update(status) {
    const isRecording = status.recording !== null;
    this.record.setAttribute("aria-pressed", String(isRecording));
    setText(this.record, isRecording ? "Stop recording" : "Record");
    if (status.recording_problem) {
      setText(this.problem, status.recording_problem);
    }
    choose(this.propagate, { ...PROPAGATION, [status.propagate]: PROPAGATION[status.propagate] ?? status.propagate }, status.propagate);
  }

  showDrawing(isActive) {
    setText(this.draw, isActive ? "Finish region" : "Draw region");
    this.draw.setAttribute("aria-pressed", String(isActive));
  }

  updateDetails({ models, status }) {
    const named = Object.fromEntries(models.map((model) => [model, model.split("/").at(-1)]));
    choose(this.model, named, models.includes(status.model) ? status.model : this.model.value || models[0]);
  }

  toggleRecording() {
    const on = this.record.getAttribute("aria-pressed") !== "true";
    return this.run(() => api.record(this.source.id, on));
  }

  change(values) {
    return this.run(() => api.change(this.source.id, values));
  }

  async run(request) {
    setText(this.problem, "");
    try {
      await request();
    } catch (error) {
      setText(this.problem, error.message);
    }
  }
}

// Fill a selection, but not while it is used.
function choose(select, options, value) {
  if (document.activeElement === select) {
    return;
  }
  const present = [...select.options].map((option) => option.value).join("\n");
  if (present !== Object.keys(options).join("\n")) {
    select.replaceChildren(...Object.entries(options).map(([key, text]) => element("option", { value: key }, text)));
  }
  select.value = value;
}
