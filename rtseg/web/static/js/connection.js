// The WebSocket to the server: connects again when it is lost, and compares the clocks.

import { parseFrame } from "./message.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 4000;
const PING_EVERY_MS = 2000;
const DEAD_AFTER_MS = 6000; // the server sends its status twice a second

export class Connection {
  constructor(handlers) {
    this.handlers = handlers; // hello, status, frame, state
    this.watched = [];
    this.waitMs = FIRST_WAIT_MS;
    this.offsetMs = 0; // server's clock minus ours
    this.bestRoundTripMs = Infinity;
    this.heardMs = 0;
    setInterval(() => this.check(), PING_EVERY_MS);
    this.open();
  }

  open() {
    this.handlers.state("connecting");
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.bestRoundTripMs = Infinity;
      this.handlers.state("connected");
      this.watch(this.watched);
      this.check();
    };
    socket.onmessage = (event) => this.read(event.data);
    socket.onclose = (event) => {
      this.handlers.state("disconnected", event.reason);
      setTimeout(() => this.open(), this.waitMs);
      this.waitMs = Math.min(LONGEST_WAIT_MS, 2 * this.waitMs);
    };
    this.heardMs = performance.now();
    this.socket = socket;
  }

  check() {
    if (this.socket.readyState !== WebSocket.OPEN) {
      return;
    }
    if (performance.now() - this.heardMs > DEAD_AFTER_MS) {
      this.socket.close();
      return;
    }
    this.send({ type: "ping", sent: performance.timeOrigin + performance.now() });
  }

  read(data) {
    this.heardMs = performance.now();
    if (typeof data !== "string") {
      this.handlers.frame(parseFrame(data));
      return;
    }
    const message = JSON.parse(data);
    this.waitMs = FIRST_WAIT_MS; // not on opening: a viewer who is one too many is told so and dismissed
    if (message.type === "pong") {
      this.compareClocks(message);
    } else {
      this.handlers[message.type]?.(message);
    }
  }

  // The server's clock is read half a round trip ago; the shortest round trip is the most exact.
  compareClocks({ sent, server_ms: serverMs }) {
    const now = performance.timeOrigin + performance.now();
    if (now - sent <= this.bestRoundTripMs * 1.2) {
      this.bestRoundTripMs = Math.min(this.bestRoundTripMs, now - sent);
      this.offsetMs = serverMs - (sent + now) / 2;
    }
  }

  // Milliseconds since a time of the server's clock.
  ageMs(serverMs) {
    return performance.timeOrigin + performance.now() + this.offsetMs - serverMs;
  }

  watch(ids) {
    this.watched = ids;
    this.send({ type: "watch", sources: ids });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify(message));
    }
  }
}
