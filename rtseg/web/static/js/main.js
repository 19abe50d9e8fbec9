// Puts the page together.

import { Connection } from "./connection.js";
import { setText } from "./dom.js";
import { Legend } from "./legend.js";
import { Settings } from "./settings.js";
import { Tile } from "./tile.js";
import { addViewPanel } from "./view_panel.js";

const byId = (id) => document.getElementById(id);
const settings = new Settings();
const legend = new Legend(byId("legend"), settings);
addViewPanel(byId("view"), settings);
let tiles = [];
let selected = null;

function select(tile) {
  selected = tile;
  for (const each of tiles) {
    each.node.classList.toggle("selected", each === tile);
    each.button.setAttribute("aria-pressed", String(each === tile));
  }
  legend.setSource(tile.source);
}

function start({ sources }) {
  tiles.forEach((tile) => tile.player.close());
  tiles = sources.map((source) => new Tile(source, settings, connection, select));
  byId("tiles").replaceChildren(...tiles.map((tile) => tile.node));
  select(tiles.find((tile) => tile.source.id === selected?.source.id) ?? tiles[0]);
  connection.watch(sources.map(({ id }) => id));
}

function update({ sources }) {
  sources.forEach((status, number) => tiles[number]?.update(status));
  const own = sources[tiles.indexOf(selected)];
  if (own?.shares) {
    legend.update(own.shares);
  }
}

const connection = new Connection({
  hello: start,
  status: update,
  frame: (message) => tiles[message.source]?.push(message),
  state: (state, reason) => {
    byId("connection").dataset.state = state;
    setText(byId("connection"), reason ? `${state}: ${reason}` : state);
  },
});
