"""Sends events to an MQTT broker, with the discovery of Home Assistant."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Sequence
from threading import Condition
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from rtseg.errors import MissingExtra, OptionError
from rtseg.events.event import Event
from rtseg.events.home_assistant import Topics, discovery
from rtseg.events.outbox import Destination, SendFailed
from rtseg.events.rule import Rule
from rtseg.system.redact import redact, split_url

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["PASSWORD_VARIABLE", "USER_VARIABLE", "MqttBroker"]

USER_VARIABLE, PASSWORD_VARIABLE = "RTSEG_MQTT_USERNAME", "RTSEG_MQTT_PASSWORD"
_TIMEOUT_S: Final = 5.0
_GOODBYE_S: Final = 0.3
_SLICE_S: Final = 0.2
"""Of a wait: after it, a lost connection and ``abort`` are noticed."""
_KEEPALIVE_S: Final = 15
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_AT_LEAST_ONCE: Final = 1


class MqttBroker(Destination):
    """Keeps a connection to a broker, and publishes each event, the state of each rule and its last snapshot.

    When the connection is made, and made again, the configuration for Home Assistant, the availability and the last
    states are published, all retained. The broker itself publishes ``offline`` when the connection is lost.

    Args:
        url: mqtt://[USER:PASSWORD@]HOST[:PORT][/PREFIX], or mqtts:// with TLS. User and password may also be in the
            environment: ``RTSEG_MQTT_USERNAME``, ``RTSEG_MQTT_PASSWORD``.
        source: name of the source.
        rules: of the run.
        model: name of the model.

    Raises:
        OptionError: the URL is malformed.
        MissingExtra: paho-mqtt is not installed.
    """

    def __init__(self, url: str, source: str, rules: Sequence[Rule], *, model: str = "") -> None:
        parts = split_url(url)
        if not parts.hostname or parts.query or parts.fragment:
            raise OptionError(f"--events-to {redact(url)} must be mqtt://[USER:PASSWORD@]HOST[:PORT][/PREFIX]")
        scheme = parts.scheme.lower()
        self._is_tls = scheme == "mqtts"
        self._host, self._port = parts.hostname, parts.port or _PORTS[scheme]
        self.name = f"MQTT broker {self._host}:{self._port}"
        self._user = unquote(parts.username or "") or os.environ.get(USER_VARIABLE, "")
        self._password = unquote(parts.password or "") or os.environ.get(PASSWORD_VARIABLE, "")
        try:
            self.topics = Topics(unquote(parts.path).strip("/") or "rtseg", source, rules)
        except ValueError as error:
            raise OptionError(f"--events-to {redact(url)}: {error}") from error
        self._discovery = discovery(self.topics, source, rules, model)
        self._retained: dict[str, bytes | str] = {self.topics.source_state: "OFF"}
        self._retained |= {self.topics.state(rule.name): "OFF" for rule in rules}
        self._changed = Condition()
        self._is_aborted = self._is_connected = False
        self._refusal = ""
        self._client = self._create_client()

    def _create_client(self) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError as error:
            raise MissingExtra.for_feature("--events-to mqtt://", "paho-mqtt", "mqtt") from error
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect_timeout = _TIMEOUT_S
        client.reconnect_delay_set(1, 30)
        client.max_queued_messages_set(1000)
        client.will_set(self.topics.availability, "offline", _AT_LEAST_ONCE, retain=True)
        if self._user:
            client.username_pw_set(self._user, self._password or None)
        if self._is_tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            # Before ``send`` may go on: else an older state could be published after that of an event.
            self._publish_state(client)
        with self._changed:
            self._is_connected = not reason.is_failure
            self._refusal = str(reason) if reason.is_failure else ""
            self._changed.notify_all()

    def _publish_state(self, client: Client) -> None:
        for topic, config in self._discovery.items():
            client.publish(topic, json.dumps(config, ensure_ascii=False), _AT_LEAST_ONCE, retain=True)
        client.publish(self.topics.availability, "online", _AT_LEAST_ONCE, retain=True)
        for topic, payload in list(self._retained.items()):
            client.publish(topic, payload, _AT_LEAST_ONCE, retain=True)

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._is_connected = False
            self._changed.notify_all()

    def open(self) -> None:
        """See ``Destination``."""
        try:
            self._client.connect(self._host, self._port, _KEEPALIVE_S)
        except TimeoutError as error:
            raise SendFailed(f"no answer within {_TIMEOUT_S:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise SendFailed(f"its certificate is not valid: {error.verify_message}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise SendFailed(f"no connection ({redact(reason)})") from error
        self._client.loop_start()
        self._await_connection()

    def _await_connection(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_connected or self._is_aborted or self._refusal, _TIMEOUT_S)
            if not self._is_connected:
                raise SendFailed(f"it refuses the connection: {self._refusal}" if self._refusal else "not connected")

    def send(self, event: Event) -> None:
        """See ``Destination``."""
        if event.rule:
            self._retain(event)
        else:
            self._retained[self.topics.source_state] = "ON" if event.kind == "online" else "OFF"
        self._await_connection()
        topics = [self.topics.source_state]
        if event.rule:
            topics = [self.topics.attributes(event.rule), self.topics.state(event.rule)]
        if event.snapshot is not None:
            topics.insert(0, self.topics.snapshot(event.rule))
        numbers = [(topic, self._retained[topic], True) for topic in topics]
        numbers.append((self.topics.events, json.dumps(event.to_json(), ensure_ascii=False), False))
        deadline_s = time.monotonic() + _TIMEOUT_S
        for sent in [self._client.publish(topic, data, _AT_LEAST_ONCE, retain) for topic, data, retain in numbers]:
            while not sent.rc and not sent.is_published() and self._is_connected and not self._is_aborted:
                if time.monotonic() > deadline_s:
                    raise SendFailed(f"no answer within {_TIMEOUT_S:g} s")
                sent.wait_for_publish(_SLICE_S)
            if sent.rc or not sent.is_published():
                raise SendFailed("the connection was lost")

    def _retain(self, event: Event) -> None:
        values = event.to_json()
        self._retained[self.topics.attributes(event.rule)] = json.dumps(values, ensure_ascii=False)
        self._retained[self.topics.state(event.rule)] = "ON" if event.kind == "start" else "OFF"
        if event.snapshot is not None:
            self._retained[self.topics.snapshot(event.rule)] = event.snapshot

    def abort(self) -> None:
        """See ``Destination``."""
        with self._changed:
            self._is_aborted = True
            self._changed.notify_all()

    def close(self) -> None:
        """See ``Destination``."""
        if self._is_connected:
            sent = self._client.publish(self.topics.availability, "offline", _AT_LEAST_ONCE, retain=True)
            if not sent.rc:
                sent.wait_for_publish(_GOODBYE_S)
        self._client.disconnect()
        self._client.loop_stop()
