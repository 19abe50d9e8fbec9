"""The one form of a result in JSON, and whether a file has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtseg.errors import OptionError

__all__ = ["SCHEMA", "check_result", "read_result"]

SCHEMA = "rtseg-bench-1"

_NUMBER = (int, float)
_MAYBE_NUMBER = (int, float, type(None))
_MAYBE_TEXT = (str, type(None))


class _Maybe:
    """None, or what is described."""

    def __init__(self, what: Any) -> None:
        self.what = what


class _Each:
    """An object of any keys, with values of one form."""

    def __init__(self, what: Any) -> None:
        self.what = what


class _Newer:
    """What is described, or no such key: results that are older than it have none."""

    def __init__(self, what: Any) -> None:
        self.what = what


_SPREAD = {"median": _NUMBER, "q1": _NUMBER, "q3": _NUMBER, "rounds": [_NUMBER]}
_PASSES = {"images_per_s": _SPREAD, "mb_per_s": _SPREAD, "in_memory": _NUMBER, "as_said": bool}
_FORM: dict[str, Any] = {
    "schema": str,
    "kind": str,
    "complete": bool,
    "when": str,
    "machine": {
        "processor": str,
        "cores": int,
        "memory_gb": _NUMBER,
        "system": str,
        "python": str,
        "load_before": _NUMBER,
    },
    "versions": _Each(str),
    "commit": str,
    "command": str,
    "method": [str],
    "workload": dict,
    "storages": [
        {"storage": str, "simulated": bool, "kind": str, "asked_for": str, "known_by": str, "folder": str},
    ],
    "disk_model": _Maybe(dict),
    "images": _Maybe({"images": int, "bytes": int, "formats": [str], "first": dict, "drawn": bool, "distinct": int}),
    "memory": _Maybe({"before_mb": _NUMBER, "peak_mb": _NUMBER, "budget_mb": int}),
    "reading": [
        {
            "storage": str,
            "simulated": bool,
            "decoder": str,
            "workers": (int, str, type(None)),
            "skipped": _MAYBE_TEXT,
            "cold": _Maybe(_PASSES),
            "warm": _Maybe(_PASSES),
        }
    ],
    "automatic": [
        {
            "storage": str,
            "simulated": bool,
            "decoder": str,
            "state": str,
            "automatic": _NUMBER,
            "best": _NUMBER,
            "best_workers": int,
            "share": _NUMBER,
        }
    ],
    "cache": [{"storage": str, "simulated": bool, "first": _PASSES, "second": _PASSES}],
    "pipeline": [
        {
            "source": str,
            "storage": _MAYBE_TEXT,
            "simulated": bool,
            "state": str,
            "decoder": _MAYBE_TEXT,
            "in_memory": _MAYBE_NUMBER,
            "as_said": bool,
            "asked_for": str,
            "model": str,
            "model_sha256": str,
            "size": [int],
            "backend": str,
            "precision": str,
            "device": str,
            "runtime_version": str,
            "preprocess": _Newer([str]),
            "preprocess_of_model": _Newer([str]),
            "fps": _SPREAD,
            "latency_ms": {"p50": _SPREAD, "p95": _SPREAD, "p99": _SPREAD},
            "stages": _Each({"p50_ms": _NUMBER, "p95_ms": _NUMBER, "p99_ms": _NUMBER, "mean_ms": _NUMBER}),
            "queues": _Each({"mean": _NUMBER, "max": _NUMBER}),
            "frames": int,
            "dropped": int,
            "busy": _Each(_NUMBER),
            "bottleneck": str,
            "cpu_ms": _Maybe(_Each(_NUMBER)),
            "limit_fps": _MAYBE_NUMBER,
            "share_of_limit": _MAYBE_NUMBER,
        }
    ],
    "ratios": [{"name": str, "ratio": _MAYBE_NUMBER, "of": str, "simulated": bool}],
    "published": _Maybe({"hdd_fps": _NUMBER, "ssd_fps": _NUMBER, "of": str}),
}
"""A key -> a type or several, an object, or a list with the form of its items. Further keys are allowed in rows."""


def check_result(facts: Any) -> None:
    """See that ``facts`` is a result.

    Raises:
        ValueError: it is not; the text says where, e.g. ``reading[3].cold.in_memory``.
    """
    _check(facts, _FORM, "result")
    if facts["schema"] != SCHEMA:
        raise ValueError(f"result.schema is {facts['schema']!r}, not {SCHEMA!r}")
    if facts["kind"] not in ("storage", "pipeline"):
        raise ValueError(f"result.kind is {facts['kind']!r}, neither 'storage' nor 'pipeline'")


def _check(value: Any, form: Any, where: str) -> None:
    if isinstance(form, _Maybe):
        if value is not None:
            _check(value, form.what, where)
    elif isinstance(form, _Each):
        _check_type(value, dict, where)
        for key, item in value.items():
            _check(item, form.what, f"{where}.{key}")
    elif isinstance(form, Mapping):
        _check_type(value, dict, where)
        for key, what in form.items():
            if key in value:
                _check(value[key], what.what if isinstance(what, _Newer) else what, f"{where}.{key}")
            elif not isinstance(what, _Newer):
                raise ValueError(f"{where} has no {key!r}")
    elif isinstance(form, list):
        _check_type(value, list, where)
        for place, item in enumerate(value):
            _check(item, form[0], f"{where}[{place}]")
    else:
        _check_type(value, form, where)


def _check_type(value: Any, types: type | tuple[type, ...], where: str) -> None:
    allowed = types if isinstance(types, tuple) else (types,)
    # To Python True is a whole number; to JSON it is not.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("null" if one is type(None) else one.__name__ for one in allowed)
        raise ValueError(f"{where} is {type(value).__name__}, not {names}")


def read_result(path: Path) -> dict[str, Any]:
    """The result in a file of ``rtseg bench --output``.

    Raises:
        OptionError: it cannot be read, or is none.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check_result(facts)
    except OSError as error:
        raise OptionError(f"--compare {path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise OptionError(f"--compare {path} is no result of this `rtseg bench` ({error}): give another") from error
    return facts
