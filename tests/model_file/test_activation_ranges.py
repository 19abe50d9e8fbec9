from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.small_network import small_model

from rtseg.errors import ModelError
from rtseg.model_file.activation_ranges import (
    FloatGroup,
    Ranges,
    default_output,
    find_ranges,
    read_ranges,
    write_ranges,
)
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.spec import ModelSpec, file_sha256
from rtseg.weights import bundled_models, find_model


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """A model file; the working folder is another, empty one."""
    (tmp_path / "model").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return small_model(tmp_path / "model")


def ranges_for(model: ModelFile, method: str = "minmax") -> Ranges:
    return Ranges(
        model=model.spec.name,
        model_sha256=file_sha256(model.path),
        method=method,
        data="noise (4 images)",
        frames=4,
        tensors={"stem.relu": (0.0, 1.5), "left": (-0.1, 1e-3)},
        kept=(FloatGroup(("body", "right"), 0.25), FloatGroup(("left",), 0.125)),
        verdict={"passed": True, "miou": {"reference": 0.5, "candidate": 0.4999}},
    )


def test_ranges_come_back_from_json_as_they_were(small: ModelFile, tmp_path: Path) -> None:
    ranges = ranges_for(small)
    path = tmp_path / "new" / "folder" / "ranges.json"
    write_ranges(ranges, path)
    assert read_ranges(path) == ranges
    assert ranges.kept_nodes == {"body", "right", "left"}


def test_they_are_found_in_calib_then_beside_the_file(small: ModelFile) -> None:
    beside = small.path.with_suffix(".calib.json")
    write_ranges(ranges_for(small, "entropy"), beside)
    assert find_ranges(small).method == "entropy"
    write_ranges(ranges_for(small, "percentile"), Path("calib") / "small.json")
    assert find_ranges(small).method == "percentile"


def test_those_of_another_file_are_passed_over_for_those_of_this_one(small: ModelFile) -> None:
    other = json.loads(ranges_for(small).to_json()) | {"model_sha256": "f" * 64}
    (Path("calib")).mkdir()
    (Path("calib") / "small.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match=r"calib/small\.json belong to another file .*: .* `rtseg calibrate"):
        find_ranges(small)
    write_ranges(ranges_for(small, "entropy"), small.path.with_suffix(".calib.json"))
    assert find_ranges(small).method == "entropy"


def test_without_any_the_next_step_is_said(small: ModelFile) -> None:
    with pytest.raises(ModelError, match=r"^no INT8 ranges for small: record them with `rtseg calibrate .*small\.onnx"):
        find_ranges(small)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("tensors"),
        lambda facts: facts.update(tensors={"left": [1.0]}),
        lambda facts: facts.update(tensors={"left": [1.0, -1.0]}),
        lambda facts: facts.update(tensors={"left": [0.0, float("nan")]}),
        lambda facts: facts.update(tensors={"left": ["low", "high"]}),
        lambda facts: facts.update(kept=[{"nodes": ["left"]}]),
        lambda facts: facts.update(format=99),
        lambda facts: facts.update(surprise=1),
    ],
)
def test_a_damaged_file_is_refused_and_named(small: ModelFile, change: object) -> None:
    facts = json.loads(ranges_for(small).to_json())
    change(facts)  # type: ignore[operator]
    path = Path("calib") / "small.json"
    path.parent.mkdir()
    path.write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=r"^calib/small\.json is damaged: .*`rtseg calibrate`"):
        find_ranges(small)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"null"])
def test_what_is_no_such_text_is_refused(small: ModelFile, content: bytes) -> None:
    path = Path("calib") / "small.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"^calib/small\.json is damaged"):
        find_ranges(small)


def test_a_name_that_is_a_path_needs_output(small: ModelFile) -> None:
    assert default_output(small) == Path("calib") / "small.json"
    spec = ModelSpec("../small", small.spec.classes, small.spec.palette, small.spec.size)
    with pytest.raises(ModelError, match=r"is not a valid file name: give --output"):
        default_output(ModelFile(small.path, spec, small.graph))


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_every_bundled_model_has_proven_ranges(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ranges = find_ranges(load_model(find_model(name)))
    assert ranges.verdict is not None
    assert ranges.verdict["passed"]
    assert ranges.verdict["drop"] <= 0.5
    assert ranges.frames >= 200
    assert "train" in ranges.data
    assert "train" in ranges.verdict["data"]
