"""INT8 on a CPU is right or refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg import open_backend
from rtseg.backends import int8_check
from rtseg.backends.base import BackendOptions
from rtseg.backends.int8_check import Int8Check, check_int8
from rtseg.backends.openvino import OpenVinoBackend
from rtseg.errors import BackendUnavailable
from rtseg.model_file.activation_ranges import find_ranges
from rtseg.model_file.load import load_model
from rtseg.synthetic.variants import VARIANTS, alter_image
from rtseg.system.cpu import cpu_class, cpu_features
from rtseg.weights import DEFAULT_MODEL, find_model

pytest.importorskip("onnxruntime")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder of results; the certificates that come with rtseg do not count."""
    monkeypatch.setattr(int8_check, "_read_certificate", lambda model, candidate: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtseg" / "int8"


def run_limited(isa: str, cache: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` in a process whose int8 kernels use no more than the instruction set ``isa``."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_the_first_use_compares_with_exact_arithmetic_and_the_next_remembers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_backend("openvino", DEFAULT_MODEL, precision="int8") as backend:
        check = backend.facts()["int8_check"]
    assert check["agreement"] >= check["required"] == 0.975
    assert check["images"] == 16
    (kept,) = cache.glob("*.json")
    assert json.loads(kept.read_text()) == check
    monkeypatch.setattr(int8_check, "_compare", None)  # would fail
    with open_backend("openvino", DEFAULT_MODEL, precision="int8") as backend:
        assert backend.facts()["int8_check"] == check


def test_the_certificate_of_the_ranges_counts_on_the_same_class_of_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_model(find_model(DEFAULT_MODEL))
    verdict = find_ranges(model).verdict
    assert verdict is not None
    certificate = verdict["arithmetic"]
    monkeypatch.setattr(int8_check, "cpu_class", lambda: certificate["cpu"])
    monkeypatch.setattr(int8_check, "_compare", lambda *_: Int8Check("here", 1.0, 0.5, 1))
    with open_backend("openvino", model, precision="int8") as backend:
        backend.version = certificate["candidate"]["runtime_version"]
        assert check_int8(model, backend).agreement == certificate["agreement"]
        backend.version = "another"
        assert check_int8(model, backend).cpu == "here"
        backend.version = certificate["candidate"]["runtime_version"]
        monkeypatch.setattr(int8_check, "cpu_class", lambda: "another class")
        assert check_int8(model, backend).cpu == "here"


@pytest.mark.parametrize(
    "verdict", [None, {}, {"arithmetic": None}, {"arithmetic": {"cpu": cpu_class(), "passed": True}}]
)
def test_a_verdict_that_does_not_say_enough_certifies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: dict[str, object] | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load_model(find_model(DEFAULT_MODEL))
    ranges = replace(find_ranges(model), verdict=verdict)
    monkeypatch.setattr(int8_check, "find_ranges", lambda model: ranges)
    monkeypatch.setattr(int8_check, "_compare", lambda *_: Int8Check("here", 1.0, 0.5, 1))
    with open_backend("openvino", model, precision="int8") as backend:
        assert check_int8(model, backend).cpu == "here"


def test_less_than_nine_tenths_never_pass_whatever_the_quantization_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (2, 10, 10)
    labels = iter([np.zeros(shape, np.uint8), np.ones(shape, np.uint8), np.full(shape, 2, np.uint8)])
    monkeypatch.setattr(int8_check, "_label", lambda backend, images: next(labels))  # candidate, exact, float
    with pytest.raises(BackendUnavailable, match=r"0.0% of the pixels agree .*at least 90.0% are required"):
        open_backend("openvino", DEFAULT_MODEL, precision="int8")


def test_a_damaged_result_is_made_again(cache: Path) -> None:
    open_backend("openvino", DEFAULT_MODEL, precision="int8").close()
    (kept,) = cache.glob("*.json")
    before = kept.read_text()
    for damaged in ("{", "[]", "{}", '{"cpu": 1, "agreement": "x", "required": 0, "images": 1}'):
        kept.write_text(damaged)
        assert int8_check._read(kept) is None
    open_backend("openvino", DEFAULT_MODEL, precision="int8").close()
    assert kept.read_text() == before


def test_a_cpu_that_labels_otherwise_is_refused_with_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = int8_check._label
    monkeypatch.setattr(
        int8_check, "_label", lambda backend, images: real(backend, images) ^ (backend.precision == "int8")
    )
    for _ in range(2):  # also when it is remembered
        with pytest.raises(
            BackendUnavailable,
            match=rf"openvino computes {DEFAULT_MODEL} wrongly in int8 on this CPU .*: \d.*% of the pixels agree with "
            r"exact arithmetic, at least 97.5% are required; use --precision fp32",
        ):
            open_backend("openvino", DEFAULT_MODEL, precision="int8")


@pytest.mark.skipif("avx512" not in cpu_features(), reason="limits the kernels of a CPU with AVX-512")
def test_without_vnni_weights_of_seven_bits_keep_int8_right_and_eight_bits_are_refused(tmp_path: Path) -> None:
    done = run_limited(
        "AVX512_CORE",
        tmp_path,
        "import rtseg.backends.int8_check as check, rtseg.backends.openvino as module\n"
        "check._read_certificate = lambda model, candidate: None\n"
        "from rtseg import open_backend\n"
        "from rtseg.errors import BackendUnavailable\n"
        f"facts = open_backend('openvino', {DEFAULT_MODEL!r}, precision='int8').facts()['int8_check']\n"
        "print(facts['cpu'], facts['agreement'] >= 0.975)\n"
        "import shutil; shutil.rmtree(__import__('os').environ['XDG_CACHE_HOME'])\n"
        "module.int8_saturates = lambda: False\n"
        "try:\n"
        f"    open_backend('openvino', {DEFAULT_MODEL!r}, precision='int8')\n"
        "except BackendUnavailable as error:\n"
        "    print(error)\n",
    )
    assert done.returncode == 0, done.stderr
    reduced, *refused = done.stdout.splitlines()
    assert reduced == "x86_64 without VNNI True"
    sentence = f"openvino computes {DEFAULT_MODEL} wrongly in int8 on this CPU (x86_64 without VNNI)"
    assert [line.partition(":")[0] for line in refused] == [sentence]


def test_a_graph_that_is_given_in_memory_is_not_checked(cache: Path) -> None:
    model = load_model(find_model(DEFAULT_MODEL))
    with open_backend("openvino", model, precision="int8") as backend:
        assert "int8_check" not in backend.facts()
    with OpenVinoBackend(model, BackendOptions(precision="fp32")) as backend:
        assert backend.int8_check is None
    assert not cache.exists()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_keep_shape_and_type_and_change_the_image(variant: str, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    before = image.copy()
    changed = alter_image(image, variant)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert (changed == before).all() == (variant == "original")
    np.testing.assert_array_equal(image, before)


def test_a_variant_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of original, blurred, darkened, brightened, got 'red'"):
        alter_image(np.zeros((2, 2, 3), np.uint8), "red")
