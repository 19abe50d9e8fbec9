// The panels about the selected source that are filled every few seconds.

import * as api from "./api.js";
import { ShareChart } from "./chart.js";
import { element } from "./dom.js";
import { History } from "./history.js";
import { RecordingList } from "./recording_list.js";
import { StageTable } from "./stage_table.js";

const EVERY_MS = 2000;

export class Panels {
  constructor(node, controls, onDetails) {
    this.controls = controls;
    this.onDetails = onDetails;
    this.chart = new ShareChart();
    this.stages = new StageTable();
    this.events = element("ul", { class: "list" });
    this.notices = element("ul", { class: "list" });
    this.recordings = new RecordingList();
    this.history = new History();
    this.source = null;
    const panel = (title, ...content) =>
      element("details", { open: true }, element("summary", {}, title), ...content);
    node.append(
      panel("Classes over time", this.chart.node),
      panel("Time by stage", this.stages.node),
      panel("Events", this.events),
      panel("Recordings", this.recordings.node),
      panel("Connection and outputs", this.notices),
    );
    setInterval(() => this.refresh(), EVERY_MS);
  }

  setSource(source) {
    this.source = source;
    this.history.clear();
    this.controls.setSource(source);
    this.refresh();
  }

  update({ shares }) {
    this.history.add(shares);
  }

  async refresh() {
    if (this.source === null || document.hidden) {
      return;
    }
    const { source } = this;
    try {
      const wantsHistory = !this.history.isComplete;
      const [details, recordings] = await Promise.all([api.details(source.id, wantsHistory), api.recordings()]);
      if (source === this.source) {
        this.show(details);
        this.recordings.update(recordings.filter((each) => each.source === source.id));
      }
    } catch {
      // The server is away; the connection says so.
    }
  }

  show(details) {
    if (details.history !== undefined) {
      this.history.begin(details.history);
    }
    this.chart.update(details.classes, this.history.list);
    this.stages.update(details.stages);
    this.controls.updateDetails(details);
    fill(this.events, details.events.map((event) => describe(event, details.id)).reverse());
    fill(this.notices, details.notices.map((line) => [line]).reverse());
    this.onDetails(details);
  }
}

// Entries are replaced only where they differ, so that a link in them keeps the focus.
function fill(list, entries) {
  const items = (entries.length > 0 ? entries : [["none so far"]]).map((children) => element("li", {}, ...children));
  const isSame = items.length === list.children.length && items.every((item, at) => item.isEqualNode(list.children[at]));
  if (!isSame) {
    list.replaceChildren(...items);
  }
}

// One event as children of a list item: the time, what happened, and its image if there is one.
function describe(event, source) {
  const time = new Date(event.time).toLocaleTimeString();
  const value = event.value === undefined ? "" : ` (${Number(event.value.toPrecision(3))} ${event.unit ?? ""})`;
  const text = `${time} ${event.rule ?? ""} ${event.kind}${value}${event.reason ? `: ${event.reason}` : ""}`;
  const address = `/api/sources/${encodeURIComponent(source)}/events/${event.number}.jpg`;
  return event.snapshot ? [text, " ", element("a", { href: address, target: "_blank", rel: "noopener" }, "image")] : [text];
}
