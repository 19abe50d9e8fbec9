"""The structure of a result in JSON, and a check for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtseg.errors import OptionError
from rtseg.system.read_file import read_text

__all__ = ["SCHEMA", "check_result", "read_result"]

SCHEMA = "rtseg-bench-1"

_NUMBER = (int, float)
_OPTIONAL_NUMBER = (int, float, type(None))
_OPTIONAL_TEXT = (str, type(None))


class _Optional:
    """None or a value of the given form."""

    def __init__(self, form: Any) -> None:
        self.form = form


class _MapOf:
    """An object with any keys and values of one form."""

    def __init__(self, form: Any) -> None:
        self.form = form


class _AddedLater:
    """A key that may be missing, because older results do not have it."""

    def __init__(self, form: Any) -> None:
        self.form = form


_SPREAD = {"median": _NUMBER, "q1": _NUMBER, "q3": _NUMBER, "rounds": [_NUMBER]}
_PASSES = {"images_per_s": _SPREAD, "mb_per_s": _SPREAD, "in_memory": _NUMBER, "as_said": bool}
_RESULT: dict[str, Any] = {
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
    "versions": _MapOf(str),
    "commit": str,
    "command": str,
    "method": [str],
    "workload": dict,
    "storages": [
        {"storage": str, "simulated": bool, "kind": str, "asked_for": str, "known_by": str, "folder": str},
    ],
    "disk_model": _Optional(dict),
    "images": _Optional({"images": int, "bytes": int, "formats": [str], "first": dict, "drawn": bool, "distinct": int}),
    "memory": _Optional({"before_mb": _NUMBER, "peak_mb": _NUMBER, "budget_mb": int}),
    "reading": [
        {
            "storage": str,
            "simulated": bool,
            "decoder": str,
            "workers": (int, str, type(None)),
            "skipped": _OPTIONAL_TEXT,
            "cold": _Optional(_PASSES),
            "warm": _Optional(_PASSES),
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
            "storage": _OPTIONAL_TEXT,
            "simulated": bool,
            "state": str,
            "decoder": _OPTIONAL_TEXT,
            "in_memory": _OPTIONAL_NUMBER,
            "as_said": bool,
            "asked_for": str,
            "model": str,
            "model_sha256": str,
            "size": [int],
            "backend": str,
            "precision": str,
            "device": str,
            "runtime_version": str,
            "preprocess": _AddedLater([str]),
            "preprocess_of_model": _AddedLater([str]),
            "fps": _SPREAD,
            "latency_ms": {"p50": _SPREAD, "p95": _SPREAD, "p99": _SPREAD},
            "stages": _MapOf({"p50_ms": _NUMBER, "p95_ms": _NUMBER, "p99_ms": _NUMBER, "mean_ms": _NUMBER}),
            "queues": _MapOf({"mean": _NUMBER, "max": _NUMBER}),
            "frames": int,
            "dropped": int,
            "busy": _MapOf(_NUMBER),
            "bottleneck": str,
            "cpu_ms": _Optional(_MapOf(_NUMBER)),
            "limit_fps": _OPTIONAL_NUMBER,
            "share_of_limit": _OPTIONAL_NUMBER,
        }
    ],
    "ratios": [{"name": str, "ratio": _OPTIONAL_NUMBER, "of": str, "simulated": bool}],
    "published": _Optional({"hdd_fps": _NUMBER, "ssd_fps": _NUMBER, "of": str}),
}
"""Key -> a type, several types, an object, or a list with the form of its items. Objects may have more keys."""


def check_result(result: Any) -> None:
    """Check that a value has the structure of a result.

    Raises:
        ValueError: it has not; the message names the place, e.g. ``reading[3].cold.in_memory``.
    """
    _check(result, _RESULT, "result")
    if result["schema"] != SCHEMA:
        raise ValueError(f"result.schema is {result['schema']!r}, not {SCHEMA!r}")
    if result["kind"] not in ("storage", "pipeline"):
        raise ValueError(f"result.kind is {result['kind']!r}, neither 'storage' nor 'pipeline'")


def _check(value: Any, form: Any, where: str) -> None:
    if isinstance(form, _Optional):
        if value is not None:
            _check(value, form.form, where)
    elif isinstance(form, _MapOf):
        _check_type(value, dict, where)
        for key, item in value.items():
            _check(item, form.form, f"{where}.{key}")
    elif isinstance(form, Mapping):
        _check_type(value, dict, where)
        for key, item_form in form.items():
            is_new = isinstance(item_form, _AddedLater)
            if key in value:
                _check(value[key], item_form.form if is_new else item_form, f"{where}.{key}")
            elif not is_new:
                raise ValueError(f"{where} has no {key!r}")
    elif isinstance(form, list):
        _check_type(value, list, where)
        for index, item in enumerate(value):
            _check(item, form[0], f"{where}[{index}]")
    else:
        _check_type(value, form, where)


def _check_type(value: Any, types: type | tuple[type, ...], where: str) -> None:
    allowed = types if isinstance(types, tuple) else (types,)
    # In Python, bool is a subclass of int.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("null" if one is type(None) else one.__name__ for one in allowed)
        raise ValueError(f"{where} is {type(value).__name__}, not {names}")


def read_result(path: Path) -> dict[str, Any]:
    """Read a result that ``rtseg bench --output`` wrote.

    Raises:
        OptionError: the file cannot be read, or is not a result.
    """
    try:
        result: dict[str, Any] = json.loads(read_text(path))
        check_result(result)
    except OSError as error:
        raise OptionError(f"--compare {path} cannot be read ({error.strerror}): check the path") from error
    except (ValueError, RecursionError) as error:
        reason = f"is not a result of this version of `rtseg bench` ({error})"
        raise OptionError(f"--compare {path} {reason}: give another") from error
    return result
