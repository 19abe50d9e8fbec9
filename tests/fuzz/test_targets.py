"""Every parser of untrusted text either reads it or raises an error of rtseg."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.errors import RtsegError

WORDS = (
    *("name", "classes", "palette", "size", "channels", "preprocess", "extra", "miou", "format", "spec", "targets"),
    *("runtime", "precision", "certificate", "state_shape", "batch", "tensors", "kept", "model", "void", "gpu"),
)
LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner),
    max_leaves=12,
)
FORMS = st.sampled_from(
    (
        *(
            "clahe:clip=",
            "background:",
            "resize,",
            "classes=",
            ",val=",
            "a=b",
            "#FF00FF",
            "384x640",
            "1/0.4",
            "x:1+y:2",
        ),
        *("name = ", "model = 'a'\n", "[a]\n", "synthetic:street,frames=", "pairs:a,b,", '"', "\0", "\ud800", "\x1b["),
        *("image,x,y,width,height\n", "/dev/zero", "%05d", "~nobody/", "[::1", "?", "@", "%", "\r\n", "\ufeff"),
    )
)
TEXTS = st.lists(FORMS | st.text(max_size=6), max_size=8).map("".join)
INPUTS = (
    st.binary(max_size=64)
    | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5).map(lambda value: json.dumps(value).encode())
)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=INPUTS)
def test_only_errors_of_rtseg_come_out(name: str, data: bytes) -> None:
    with suppress(RtsegError):
        TARGETS[name](data)
