"""The topics of a run, and the configuration messages by which Home Assistant finds its sensors.

Source: home-assistant.io, MQTT integration, "MQTT Discovery", "Binary sensor", "Image".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rtseg.events.rule import Rule
from rtseg.version import __version__

__all__ = ["Topics", "discovery"]

_ROOT = "homeassistant"


class Topics:
    """The names of the topics below ``PREFIX/SOURCE``.

    Raises:
        ValueError: the prefix holds a wildcard or a control character, or is too long.
    """

    def __init__(self, prefix: str, source: str, rules: Sequence[Rule]) -> None:
        if not prefix.isprintable() or len(prefix) > 200 or set(prefix) & set("+#$"):
            raise ValueError("the prefix of the topics must be plain text without + # $")
        self.device = _slug(source, "source")
        self.base = f"{prefix}/{self.device}"
        self.availability = f"{self.base}/availability"
        """``online`` or ``offline``: whether rtseg is connected."""
        self.source_state = f"{self.base}/source/state"
        """``ON`` while the source delivers frames."""
        self.events = f"{self.base}/events"
        """Each event, as JSON; not retained."""
        self.slugs: dict[str, str] = {}
        for rule in rules:
            own, number = _slug(rule.name, "rule"), 2
            slug = own
            while slug in self.slugs.values():
                slug, number = f"{own}_{number}", number + 1
            self.slugs[rule.name] = slug

    def state(self, rule: str) -> str:
        """``ON`` while an event is active."""
        return f"{self.base}/rule/{self.slugs[rule]}/state"

    def attributes(self, rule: str) -> str:
        """The last event, as JSON."""
        return f"{self.base}/rule/{self.slugs[rule]}/attributes"

    def snapshot(self, rule: str) -> str:
        """The last snapshot, as JPEG."""
        return f"{self.base}/rule/{self.slugs[rule]}/snapshot"


def discovery(topics: Topics, source: str, rules: Sequence[Rule], model: str) -> dict[str, dict[str, Any]]:
    """The retained configuration messages: topic -> payload, to be sent as JSON."""
    device = topics.device
    common: dict[str, Any] = {
        "availability": [{"topic": topics.availability}],
        "device": {
            "identifiers": [f"rtseg_{device}"],
            "name": source,
            "manufacturer": "rtseg",
            "sw_version": __version__,
        }
        | ({"model": model} if model else {}),
        "origin": {"name": "rtseg", "sw_version": __version__},
    }
    online = {"name": "Source", "device_class": "connectivity", "state_topic": topics.source_state}
    found = {
        f"{_ROOT}/binary_sensor/rtseg_{device}/source/config": online | {"unique_id": f"rtseg_{device}_source"} | common
    }
    for rule in rules:
        slug = topics.slugs[rule.name]
        sensor = {
            "name": rule.name,
            "unique_id": f"rtseg_{device}_rule_{slug}",
            "state_topic": topics.state(rule.name),
            "json_attributes_topic": topics.attributes(rule.name),
        }
        image = {
            "name": f"{rule.name} snapshot",
            "unique_id": f"rtseg_{device}_image_{slug}",
            "image_topic": topics.snapshot(rule.name),
            "content_type": "image/jpeg",
        }
        found[f"{_ROOT}/binary_sensor/rtseg_{device}/rule_{slug}/config"] = sensor | common
        found[f"{_ROOT}/image/rtseg_{device}/rule_{slug}/config"] = image | common
    return found


def _slug(text: str, otherwise: str) -> str:
    """Only the characters that Home Assistant allows in an ID."""
    return re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_")[:64] or otherwise
