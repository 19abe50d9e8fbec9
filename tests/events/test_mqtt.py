from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.mosquitto import Subscriber, free_port, mosquitto

from rtseg.errors import OptionError
from rtseg.events.event import Event
from rtseg.events.mqtt import MqttBroker
from rtseg.events.outbox import Outbox
from rtseg.events.rule import parse_rules

pytest.importorskip("paho.mqtt.client")

RULES = parse_rules(["car_yard: Car > 1%"])
BASE = "rtseg/gate_cam"
RULE = f"{BASE}/rule/car_yard"
WAIT_S = 20.0


def event(kind: str, snapshot: bytes | None = None, rule: str = "car_yard") -> Event:
    return Event(kind, "Gate cam", "2026-01-02T03:04:05+00:00", rule=rule, id="a1", snapshot=snapshot)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def subscriber(port: int) -> Iterator[Subscriber]:
    client = Subscriber(port)
    yield client
    client.close()


def test_a_broker_gets_discovery_states_snapshot_and_availability(
    tmp_path: Path, port: int, subscriber: Subscriber
) -> None:
    with mosquitto(tmp_path, port):
        subscriber.await_subscription()
        outbox = Outbox(MqttBroker(f"mqtt://127.0.0.1:{port}", "Gate cam", RULES, model="icnet"))
        outbox.put(event("start", b"jpeg"))
        subscriber.wait_for(f"{RULE}/state", b"ON")
        subscriber.wait_for(f"{RULE}/snapshot", b"jpeg")
        outbox.put(event("online", rule=""))
        outbox.put(event("end"))
        subscriber.wait_for(f"{BASE}/source/state", b"ON")
        subscriber.wait_for(f"{RULE}/state", b"OFF")
        assert json.loads(subscriber.last[f"{RULE}/attributes"]) == event("end").to_json()
        assert subscriber.last[f"{BASE}/availability"] == b"online"
        outbox.close(WAIT_S)
        subscriber.wait_for(f"{BASE}/availability", b"offline")
    assert (outbox.sent, outbox.dropped) == (3, 0)
    events = [json.loads(payload)["kind"] for topic, payload in subscriber.messages if topic == f"{BASE}/events"]
    assert events == ["start", "online", "end"]
    configs = {topic: json.loads(text) for topic, text in subscriber.last.items() if topic.startswith("homeassistant/")}
    sensor = configs["homeassistant/binary_sensor/rtseg_gate_cam/rule_car_yard/config"]
    assert sensor["state_topic"] == f"{RULE}/state"
    assert sensor["availability"] == [{"topic": f"{BASE}/availability"}]
    assert sensor["device"]["name"] == "Gate cam"
    image = configs["homeassistant/image/rtseg_gate_cam/rule_car_yard/config"]
    assert (image["image_topic"], image["content_type"]) == (f"{RULE}/snapshot", "image/jpeg")
    assert len({config["unique_id"] for config in configs.values()}) == 3


def test_a_broker_that_comes_later_or_back_gets_everything(tmp_path: Path, port: int, subscriber: Subscriber) -> None:
    with ExitStack() as brokers:
        outbox = Outbox(MqttBroker(f"mqtt://127.0.0.1:{port}/site/north", "Gate cam", RULES))
        outbox.put(event("start"))
        brokers.enter_context(mosquitto(tmp_path, port))
        subscriber.wait_for("site/north/gate_cam/rule/car_yard/state", b"ON")
        brokers.close()
        outbox.put(event("end"))
        brokers.enter_context(mosquitto(tmp_path, port))
        subscriber.wait_for("site/north/gate_cam/rule/car_yard/state", b"OFF")
        outbox.close(WAIT_S)
    assert (outbox.sent, outbox.dropped) == (2, 0)


def test_the_broker_says_offline_when_the_process_is_killed(tmp_path: Path, port: int, subscriber: Subscriber) -> None:
    code = (
        "import sys, time; from rtseg.events.mqtt import MqttBroker; from rtseg.events.outbox import Outbox; "
        f"Outbox(MqttBroker('mqtt://127.0.0.1:{port}', 'Gate cam', ())); time.sleep({WAIT_S})"
    )
    with mosquitto(tmp_path, port), subprocess.Popen([sys.executable, "-c", code]) as process:
        subscriber.wait_for(f"{BASE}/availability", b"online")
        os.kill(process.pid, signal.SIGKILL)
        subscriber.wait_for(f"{BASE}/availability", b"offline")


def test_a_wrong_password_is_said_without_showing_it(tmp_path: Path, port: int) -> None:
    (tmp_path / "passwords").write_text("")
    lines = ("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    with mosquitto(tmp_path, port, *lines):
        outbox = Outbox(MqttBroker(f"mqtt://user:SECRET@127.0.0.1:{port}", "Gate cam", RULES))
        deadline = threading.Event()
        for _ in range(200):
            if any("refuses" in line for line in outbox.notices):
                break
            deadline.wait(0.1)
        outbox.close(0.5)
    text = "\n".join((outbox.name, *outbox.notices))
    assert "it refuses the connection: Not authorized: trying again" in text
    assert "SECRET" not in text


@pytest.mark.parametrize(
    ("url", "message"),
    [("mqtt://", "must be mqtt://"), ("mqtt://host/a+b", "without [+] # [$]"), ("mqtt://host/?x=1", "must be mqtt://")],
)
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        MqttBroker(url, "cam", ())
