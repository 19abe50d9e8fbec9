// Puts the page together.

import * as api from "./api.js";
import { Connection } from "./connection.js";
import { ControlPanel } from "./control_panel.js";
import { setText } from "./dom.js";
import { Legend } from "./legend.js";
import { Panels } from "./panels.js";
import { canDecode } from "./player.js";
import { RegionEditor, drawRegions } from "./region_editor.js";
import { Settings } from "./settings.js";
import { Tile } from "./tile.js";
import { addViewPanel } from "./view_panel.js";

const byId = (id) => document.getElementById(id);
const settings = new Settings();
const legend = new Legend(byId("legend"), settings);
const controls = new ControlPanel(() => selected?.editor.begin());
const panels = new Panels(byId("panels"), controls, ({ id, regions }) => {
  const tile = tiles.find((each) => each.source.id === id);
  drawRegions(tile.regions, regions ?? []);
});
const single = byId("single");
let tiles = [];
let selected = null;

controls.draw.disabled = !canDecode; // it needs the canvas
byId("source").append(...controls.nodes);
addViewPanel(byId("view"), settings);
single.addEventListener("click", () => {
  const isSingle = byId("tiles").classList.toggle("single");
  single.setAttribute("aria-pressed", String(isSingle));
  watch();
});

// Sources that are not shown are not sent.
function watch() {
  const isSingle = byId("tiles").classList.contains("single");
  const shown = tiles.filter((tile) => !isSingle || tile === selected);
  connection.watch(canDecode ? shown.map((tile) => tile.source.id) : []);
}

function select(tile) {
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
  const tile = new Tile(source, settings, connection, select);
  tile.editor = new RegionEditor(tile, (points) =>
    controls.run(async () => {
      await api.setRegions(source.id, [{ points }]);
      await panels.refresh();
    }),
  );
  return tile;
}

function start({ sources }) {
  tiles.forEach((tile) => tile.close());
  tiles = sources.map(makeTile);
  byId("tiles").replaceChildren(...tiles.map((tile) => tile.node));
  single.hidden = tiles.length < 2;
  select(tiles.find((tile) => tile.source.id === selected?.source.id) ?? tiles[0]);
}

function update({ sources, machine, viewers }) {
  sources.forEach((status) => tiles.find((tile) => tile.source.id === status.id)?.update(status));
  const own = sources.find((status) => status.id === selected?.source.id);
  if (own !== undefined) {
    legend.update(own.shares);
    controls.update(own);
  }
  const watching = viewers === 1 ? "1 viewer" : `${viewers} viewers`;
  setText(
    byId("machine"),
    `${machine.cores_used.toFixed(1)} of ${machine.cores} cores · ${machine.memory_mb.toFixed(0)} MB · ${watching}`,
  );
}

const connection = new Connection({
  hello: start,
  status: update,
  frame: (message) => tiles.find((tile) => tile.source.number === message.source)?.push(message),
  state: (state, reason) => {
    byId("connection").dataset.state = state;
    setText(byId("connection"), reason ? `${state}: ${reason}` : state);
  },
});
