from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.small_network import small_data, small_images, small_model

from rtseg.backends import open_backend
from rtseg.backends.int8_check import CERTIFICATE, check_int8
from rtseg.deploy import calibrate as module
from rtseg.deploy.calibrate import calibrate
from rtseg.deploy.options import CalibrateOptions
from rtseg.deploy.sensitivity import rank_float_groups
from rtseg.deploy.verify import Budget, Verdict
from rtseg.errors import DatasetError, ModelError, OptionError, ProofError, SinkError
from rtseg.model_file.activation_ranges import FloatGroup, Ranges, find_ranges, read_ranges
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import quantize, record_ranges, to_int8
from rtseg.system.cpu import cpu_class

Tensors = dict[str, tuple[float, float]]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFile:
    """A model file; the working folder is an empty folder beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return small_model(tmp_path)


@pytest.fixture
def data(small: ModelFile, tmp_path: Path) -> str:
    return small_data(small, tmp_path / "data")


def clipped(tensors: Tensors, *names: str) -> Tensors:
    """Return ranges of which some are far too narrow."""
    return tensors | {name: (tensors[name][0] / 50, tensors[name][1] / 50) for name in names}


def coarse(ranges: Ranges) -> Ranges:
    """Return ranges of which all are far too narrow."""
    return replace(ranges, tensors=clipped(dict(ranges.tensors), *ranges.tensors))


def spoil(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def badly(*arguments: Any) -> Tensors:
        return clipped(record_ranges(*arguments), *names)

    monkeypatch.setattr(module, "record_ranges", badly)


def test_leaving_one_out_finds_the_layer_that_was_made_bad(small: ModelFile) -> None:
    ranges = Ranges("small", "0" * 64, "minmax", "noise", 4, record_ranges(small, small_images(), "minmax"))
    bad = replace(ranges, tensors=clipped(dict(ranges.tensors), "body.relu"))
    seen: list[tuple[int, int]] = []
    found = rank_float_groups(small, bad, small_images(), lambda done, total: seen.append((done, total)))
    assert found[0].nodes == ("left",)
    assert found[0].gain > 5
    assert all(found[0].gain > other.gain > 0 for other in found[1:])
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


class TestCalibrate:
    def test_ranges_are_written_and_then_found(self, small: ModelFile, data: str) -> None:
        done = calibrate(CalibrateOptions(small.path, data, method="minmax", frames=10))
        assert done.path == Path("calib") / "small.json"
        assert read_ranges(done.path) == find_ranges(small)
        assert done.ranges.frames == 10
        assert done.ranges.kept == ()
        assert done.verdict.passed
        assert done.verdict.images == 3  # one in six of the 19 training images of pairs:
        assert to_int8(small).spec == small.spec

    def test_the_quantized_graph_is_written_where_it_is_wanted(self, small: ModelFile, data: str) -> None:
        calibrate(CalibrateOptions(small.path, data, "train", "minmax", 10, save_model=Path("new") / "int8.onnx"))
        saved = load_model(Path("new") / "int8.onnx")
        assert to_int8(saved) is saved
        certificate = saved.spec.extra[CERTIFICATE]
        assert certificate["passed"]
        assert saved.spec == replace(small.spec, extra=small.spec.extra | {CERTIFICATE: certificate})
        with open_backend("openvino", saved, precision="int8") as backend:
            assert check_int8(saved, backend).agreement == certificate["agreement"]

    def test_images_that_judge_are_not_recorded_on(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[bytes] = []

        def noting(model: ModelFile, images: Any, *rest: Any) -> Tensors:
            images = list(images)
            seen.extend(image.tobytes() for image in images)
            return record_ranges(model, images, *rest)

        monkeypatch.setattr(module, "record_ranges", noting)
        done = calibrate(CalibrateOptions(small.path, data, method="minmax"))
        judged = [small_images(24)[int(Path(name).stem)].tobytes() for name, _ in done.verdict.worst]
        assert len(seen) == 16
        assert len(judged) == done.verdict.images == 3
        assert not set(judged) & set(seen)

    def test_fewer_images_than_asked_for_are_told(self, small: ModelFile, data: str) -> None:
        messages: list[str] = []
        calibrate(CalibrateOptions(small.path, data, method="minmax", frames=300), notify=messages.append)
        assert len(messages) == 1
        assert "fewer than --frames 300" in messages[0]

    def test_what_costs_too_much_is_left_in_float_and_noted(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spoil(monkeypatch, "body.relu")
        messages: list[str] = []
        done = calibrate(CalibrateOptions(small.path, data, method="minmax"), notify=messages.append)
        assert done.ranges.kept[0].nodes == ("left",)
        assert done.ranges.kept[0].gain > 5
        assert done.verdict.passed
        assert any("searching for nodes to keep in float" in line for line in messages)
        assert find_ranges(small).kept == done.ranges.kept

    def test_where_the_budget_cannot_be_kept_nothing_is_written(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spoil(monkeypatch, "body.relu", "stem.relu", "left", "right")
        monkeypatch.setattr(module, "_MAX_FLOAT_GROUPS", 1)
        with pytest.raises(ProofError, match=r"INT8 does not suit small, mIoU drops by .*nothing was written"):
            calibrate(CalibrateOptions(small.path, data, method="minmax", save_model=Path("int8.onnx")))
        assert list(Path().iterdir()) == []

    def test_as_few_nodes_as_it_takes_are_left_in_float(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The search tries all that may be kept, then halves; a search that cannot succeed ends after the first try."""
        groups = [FloatGroup((name,), 1.0) for name in ("stem", "body", "left", "right")]
        monkeypatch.setattr(module, "rank_float_groups", lambda *arguments: groups)
        tried: list[int] = []
        needed = 2

        def verdict(model: ModelFile, ranges: Ranges, *rest: Any) -> Verdict:
            tried.append(len(ranges.kept))
            return Verdict(
                {}, {}, "", "", 1, Budget(0.5, 0.9), 0.95 if len(ranges.kept) >= needed else 0.5, None, {}, ()
            )

        monkeypatch.setattr(module, "_verify", verdict)
        done = calibrate(CalibrateOptions(small.path, data, method="minmax"))
        assert [group.nodes for group in done.ranges.kept] == [("stem",), ("body",)]
        assert tried == [0, 4, 2, 1, 2]  # the last is what is written
        tried.clear()
        needed = 5
        with pytest.raises(ProofError, match=r"only 50\.000% of the pixels agree.* with 4 groups of nodes in float"):
            calibrate(CalibrateOptions(small.path, data, method="minmax"))
        assert tried == [0, 4]

    def test_nodes_that_are_computed_wrongly_after_the_search_are_part_of_the_verdict(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spoil(monkeypatch, "body.relu")
        correct, verify = module._correct_arithmetic, module._verify
        verified: list[frozenset[str]] = []

        def correct_twice(model: ModelFile, ranges: Ranges, *rest: Any) -> tuple[Ranges, Verdict]:
            if "left" in ranges.kept_nodes and "right" not in ranges.kept_nodes:
                ranges = replace(ranges, kept=(*ranges.kept, FloatGroup(("right",), 1.0)))
            return correct(model, ranges, *rest)

        def noting(model: ModelFile, ranges: Ranges, *rest: Any) -> Verdict:
            verified.append(ranges.kept_nodes)
            return verify(model, ranges, *rest)

        monkeypatch.setattr(module, "_correct_arithmetic", correct_twice)
        monkeypatch.setattr(module, "_verify", noting)
        done = calibrate(CalibrateOptions(small.path, data, method="minmax"))
        assert "right" in done.ranges.kept_nodes
        assert verified[-1] == done.ranges.kept_nodes

    def test_the_arithmetic_of_this_cpu_is_verified_on_images_of_another_kind(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calibrate(CalibrateOptions(small.path, data, method="minmax", frames=10))
        verdict = read_ranges(Path("calib/small.json")).verdict
        assert verdict is not None
        arithmetic = verdict["arithmetic"]
        assert arithmetic["passed"]
        assert arithmetic["data"].startswith("blurred, darkened and brightened copies of 3 held-out images")
        assert arithmetic["images"] == 9
        assert arithmetic["budget"]["min_agreement"] == 0.975
        assert arithmetic["cpu"] == verdict["cpu"] == cpu_class()

    def test_where_the_cpu_computes_otherwise_nothing_is_written(
        self, small: ModelFile, data: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "emulate_int8", lambda model: small)
        monkeypatch.setattr(module, "quantize", lambda model, ranges: quantize(model, coarse(ranges)))
        monkeypatch.setitem(module.BUDGETS, "int8", Budget(100, 0.975))
        monkeypatch.setattr(module, "_find_float_groups", lambda model, ranges, *rest: (ranges, None))
        with pytest.raises(ProofError, match=r"INT8 of small is not computed exactly on this CPU, only .* pixels"):
            calibrate(CalibrateOptions(small.path, data, method="minmax", frames=10))
        assert not Path("calib").exists() or not list(Path("calib").iterdir())

    def test_a_sequence_model_is_refused(self, small: ModelFile, data: str, tmp_path: Path) -> None:
        (tmp_path / "sequence").mkdir()
        recurrent = small_model(tmp_path / "sequence", recurrent=True)
        with pytest.raises(ModelError, match="is a sequence model"):
            calibrate(CalibrateOptions(recurrent.path, data))

    def test_a_model_that_is_quantized_already_is_refused(self, small: ModelFile, data: str) -> None:
        calibrate(CalibrateOptions(small.path, data, "train", "minmax", 10, save_model=Path("int8.onnx")))
        with pytest.raises(ModelError, match=r"int8\.onnx is quantized already"):
            calibrate(CalibrateOptions(Path("int8.onnx"), data))

    def test_too_few_images_are_refused(self, small: ModelFile, tmp_path: Path) -> None:
        few = small_data(small, tmp_path / "few", 5)
        with pytest.raises(DatasetError, match="calibration needs at least 12 images"):
            calibrate(CalibrateOptions(small.path, few))

    def test_data_of_other_classes_are_refused(self, small: ModelFile, data: str) -> None:
        with pytest.raises(
            DatasetError, match=r"has four, which small lacks .it has one, two, three.: give --data with"
        ):
            calibrate(CalibrateOptions(small.path, data.replace("three", "four")))

    def test_a_place_that_cannot_be_written_is_told_before_the_work(self, small: ModelFile, data: str) -> None:
        Path("file").write_text("")
        with pytest.raises(SinkError, match="file is a file"):
            calibrate(CalibrateOptions(small.path, data, output=Path("file") / "ranges.json"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "random"}, "--method must be one of minmax, entropy, percentile, got 'random'"),
        ({"frames": 0}, "--frames must be at least 1, got 0"),
        ({"split": "val"}, "--split val is for measuring"),
        ({"split": "test"}, "--split test is for measuring"),
        ({"output": Path("ranges.txt")}, r"--output must end in \.json"),
        ({"save_model": Path("int8.json")}, r"--save-model must end in \.onnx"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        CalibrateOptions("icnet-camvid", "camvid:nowhere", **options)
