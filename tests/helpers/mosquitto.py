"""A real MQTT broker on loopback, and a client that keeps what it sees."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Event

import pytest

WAIT_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def mosquitto(folder: Path, port: int, *lines: str) -> Iterator[None]:
    """Run a broker that keeps nothing on the disk."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed")
    config = folder / "mosquitto.conf"
    access = [*(lines or ("allow_anonymous true",)), *(["user root"] if os.getuid() == 0 else [])]
    config.write_text("\n".join((f"listener {port} 127.0.0.1", "persistence false", *access)) + "\n")
    with subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            yield
        finally:
            broker.kill()
            broker.wait(WAIT_S)


class Subscriber:
    """Receives every message; connects again by itself."""

    def __init__(self, port: int, **account: str) -> None:
        client_module = pytest.importorskip("paho.mqtt.client")
        self.messages: list[tuple[str, bytes]] = []
        self.last: dict[str, bytes] = {}
        self._changed = Condition()
        self._subscribed = Event()
        self._client = client_module.Client(client_module.CallbackAPIVersion.VERSION2)
        if account:
            self._client.username_pw_set(**account)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda client, userdata, message: self._add(message.topic, message.payload)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def _add(self, topic: str, payload: bytes) -> None:
        with self._changed:
            self.messages.append((topic, payload))
            self.last[topic] = payload
            self._changed.notify_all()

    def await_subscription(self) -> None:
        assert self._subscribed.wait(WAIT_S), "the broker does not answer"

    def wait_for(self, topic: str, payload: bytes) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: self.last.get(topic) == payload, WAIT_S)
            assert came, f"{topic} is {self.last.get(topic)!r}, never {payload!r}"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
