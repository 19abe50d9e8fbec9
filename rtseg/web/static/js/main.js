// Puts the page together.

import * as api from "./api.js";
import { Connection } from "./connection.js";
import { ControlPanel } from "./control_panel.js";
import { setText } from "./dom.js";
import { Legend } from "./legend.js";
import { Panels } from "./panels.js";
import { RegionEditor, drawRegions } from "./region_editor.js";
import { Settings } from "./settings.js";
import { Tile } from "./tile.js";
import { addViewPanel } from "./view_panel.js";

const MOST_STREAMS = 3; // that the server draws: a browser has six connections to a server, and the page needs some, too

const byId = (id) => document.getElementById(id);
const settings = new Settings();
const legend = new Legend(byId("legend"), settings);
const controls = new ControlPanel(settings, () => selected?.editor.toggle());
const panels = new Panels(byId("panels"), controls, ({ id, regions }) => {
  const tile = tiles.find((each) => each.source.id === id);
  drawRegions(tile.regions, regions ?? []);
});
const single = byId("single");
let tiles = [];
let selected = null;

byId("source").append(...controls.nodes);
addViewPanel(byId("view"), settings);
single.addEventListener("click", () => {
  const isSingle = byId("tiles").classList.toggle("single");
  single.setAttribute("aria-pressed", String(isSingle));
  watch();
});
document.addEventListener("visibilitychange", () => watch());

// Sources that are not shown are not sent; none is while the page is in the background.
function watch() {
  const isSingle = byId("tiles").classList.contains("single");
  const isShown = (tile) => !document.hidden && (!isSingle || tile === selected);
  const drawn = tiles.filter((tile) => !tile.decodes && isShown(tile));
  drawn.sort((one, other) => (other === selected) - (one === selected));
  for (const tile of tiles) {
    const place = drawn.indexOf(tile);
    tile.watch(place < 0 ? "off" : place < MOST_STREAMS ? "stream" : "still");
  }
  connection.watch(tiles.filter((tile) => tile.decodes && isShown(tile)).map((tile) => tile.source.id));
}

function select(tile) {
  selected?.editor.end();
  selected = tile;
  for (const each of tiles) {
    each.node.classList.toggle("selected", each === tile);
    each.button.setAttribute("aria-pressed", String(each === tile));
  }
  legend.setSource(tile.source);
  panels.setSource(tile.source);
  watch();
}

function makeTile(source) {
  const tile = new Tile(source, settings, connection, select, watch);
  const showState = () => controls.showDrawing(tile.editor.isActive);
  tile.editor = new RegionEditor(tile, showState, (points) =>
    controls.run(async () => {
      const { regions } = await api.details(source.id, false);
      await api.setRegions(source.id, [...regions, { points }]);
      await panels.refresh();
    }),
  );
  return tile;
}

// The sources are known, or others than before. Those that are as before stay.
function start({ sources }) {
  const before = new Map(tiles.map((tile) => [JSON.stringify(tile.source), tile]));
  const next = sources.map((source) => before.get(JSON.stringify(source)) ?? makeTile(source));
  tiles.filter((tile) => !next.includes(tile)).forEach((tile) => tile.close());
  tiles.filter((tile) => next.includes(tile)).forEach((tile) => tile.reopen());
  tiles = next;
  byId("tiles").replaceChildren(...tiles.map((tile) => tile.node));
  byId("empty").hidden = tiles.length > 0;
  single.hidden = tiles.length < 2;
  const tile = tiles.find((each) => each.source.id === selected?.source.id) ?? tiles[0];
  if (tile !== undefined) {
    select(tile);
  }
}

function update({ sources, machine, viewers, skipped }) {
  sources.forEach((status) => tiles.find((tile) => tile.source.id === status.id)?.update(status));
  const own = sources.find((status) => status.id === selected?.source.id);
  if (own !== undefined) {
    legend.update(own.shares);
    controls.update(own);
    panels.update(own);
  }
  const watching = viewers === 1 ? "1 viewer" : `${viewers} viewers`;
  const parts = [`${machine.cores_used.toFixed(1)} of ${machine.cores} cores`, `load ${machine.load.toFixed(1)}`];
  if (machine.memory_mb !== null) {
    parts.push(`${machine.memory_mb.toFixed(0)} MB`);
  }
  parts.push(watching);
  if (skipped > 0) {
    parts.push(`${skipped} frames skipped here`); // this browser, or the way to it, is too slow
  }
  setText(byId("machine"), parts.join(" · "));
}

const connection = new Connection({
  hello: start,
  status: update,
  frame: (message) => tiles.find((tile) => tile.source.number === message.source)?.push(message),
  state: (state, reason) => {
    document.body.classList.toggle("away", state !== "connected");
    byId("connection").dataset.state = state;
    setText(byId("connection"), reason ? `${state}: ${reason}` : state);
  },
});
