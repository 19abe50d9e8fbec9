"""Every parser of untrusted text either reads it or raises an error of rtseg."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from fuzz.seeds import SEEDS, WORDS
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.errors import RtsegError

FIELDS = tuple(word.strip('"') for word in WORDS["metadata"] if isinstance(word, str) and word.startswith('"'))
LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(FIELDS)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5).map(lambda value: json.dumps(value).encode())


def _inputs(name: str) -> st.SearchStrategy[bytes]:
    """Noise, JSON objects, and the words and valid inputs of the target, with noise between them."""
    known = [word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word for word in WORDS[name]]
    parts = st.sampled_from([*known, *SEEDS[name]]) | st.text(max_size=6).map(str.encode) | st.binary(max_size=6)
    return st.binary(max_size=64) | st.lists(parts, max_size=8).map(b"".join) | OBJECTS


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_only_errors_of_rtseg_come_out(name: str, data: st.DataObject) -> None:
    with suppress(RtsegError):
        TARGETS[name](data.draw(_inputs(name)))


@pytest.mark.parametrize(
    "name",
    [
        *("metadata", "model_file", "engine_facts", "calibration", "bench_result", "boxes", "image", "mask"),
        *("coco", "cvat", "labelme"),
    ],
)
def test_the_first_seed_is_accepted(name: str) -> None:
    TARGETS[name](SEEDS[name][0])
