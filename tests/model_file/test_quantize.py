from __future__ import annotations

import builtins
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from helpers.small_graphs import convolved
from helpers.small_network import INNER, SIZE, small_images, small_model
from numpy.typing import NDArray
from onnx import numpy_helper

from rtseg.backends import open_backend
from rtseg.backends.base import BackendOptions
from rtseg.backends.onnxruntime import OnnxRuntimeBackend
from rtseg.errors import BackendUnavailable, ModelError, OptionError, ProofError
from rtseg.model_file.activation_ranges import FloatGroup, Ranges
from rtseg.model_file.histogram import Histogram
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import quantizable_groups, quantize, record_ranges, to_int8
from rtseg.weights import find_model

Images = NDArray[np.uint8]


@pytest.fixture
def small(tmp_path: Path) -> ModelFile:
    return small_model(tmp_path)


def ranges_of(model: ModelFile) -> Ranges:
    return Ranges("small", "0" * 64, "minmax", "noise", 4, record_ranges(model, small_images(), "minmax"))


def labels(model: ModelFile, frames: Images) -> Images:
    with OnnxRuntimeBackend(model, BackendOptions()) as backend:
        return np.concatenate([backend.infer(frame[None]).copy() for frame in frames])


def by_hand(model: ModelFile, frames: Images) -> dict[str, NDArray[np.float64]]:
    """Compute the first layers of the small model with numpy."""
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.graph.initializer}
    scaled = frames.transpose(0, 3, 1, 2) / 64
    padded = np.pad(scaled, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = SIZE
    windows = np.stack(
        [padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=2
    )  # (N, 3, 9, H, W)
    kernel = stored["stem.weight"].reshape(8, 3, 9)
    stem = np.einsum("ock,nckhw->nohw", kernel, windows) + stored["stem.bias"].reshape(1, 8, 1, 1)
    relu = np.maximum(stem, 0)
    right = np.einsum("oc,nchw->nohw", stored["right.weight"][..., 0, 0], relu) + stored["right.bias"].reshape(
        1, 8, 1, 1
    )
    return {"scaled": scaled, "stem.relu": relu, "right": right}


class TestRecord:
    def test_minmax_is_the_least_and_the_greatest_value_of_all_images(self, small: ModelFile) -> None:
        found = record_ranges(small, small_images(), "minmax")
        assert set(found) == {"scaled", "stem.relu", "body.relu", "left", "right"}
        for name, values in by_hand(small, small_images()).items():
            assert found[name] == pytest.approx((min(values.min(), 0), max(values.max(), 0)), rel=1e-4, abs=1e-4)

    def test_percentile_and_entropy_lie_within_the_extremes(self, small: ModelFile) -> None:
        widest = record_ranges(small, small_images(), "minmax")
        for method in ("percentile", "entropy"):
            found = record_ranges(small, small_images(), method)
            assert found.keys() == widest.keys()
            for name, (low, high) in found.items():
                assert widest[name][0] <= low <= 0 < high <= widest[name][1]

    def test_it_tells_of_every_image(self, small: ModelFile) -> None:
        seen: list[int] = []
        record_ranges(small, small_images(3), "minmax", seen.append)
        assert seen == [1, 2, 3]

    def test_no_image_is_refused(self, small: ModelFile) -> None:
        with pytest.raises(ModelError, match="no image to record the ranges of small on"):
            record_ranges(small, [], "minmax")

    def test_a_model_whose_only_convolution_is_the_last_is_refused(self, tmp_path: Path) -> None:
        model = load_model(convolved(tmp_path / "convolved.onnx"))
        nodes = {node.name: node for node in model.graph.graph.node}
        nodes["keep"].input[0] = "planes"
        model.graph.graph.node.remove(nodes["mix"])
        last = next(tensor for tensor in model.graph.graph.initializer if tensor.name == "last")
        last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last)[:, :3], "last"))
        black = np.zeros((*model.spec.size, 3), np.uint8)
        message = "the graph has no convolution but the last, which stays float: there is nothing to quantize"
        with pytest.raises(ModelError, match=message):
            record_ranges(model, [black], "minmax")
        with pytest.raises(ModelError, match=message):
            quantize(model, Ranges("convolved", "0" * 64, "minmax", "noise", 1, {}))

    def test_another_method_is_refused_with_those_there_are(self, small: ModelFile) -> None:
        with pytest.raises(OptionError, match="minmax, entropy, percentile, got 'random'"):
            record_ranges(small, small_images(), "random")

    def test_a_sequence_model_is_refused_with_the_next_step(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"sequence model.*use another --precision"):
            record_ranges(small_model(tmp_path, recurrent=True), small_images(), "minmax")


class TestHistogram:
    def test_percentile_holds_that_share_of_the_absolute_values(self) -> None:
        values = np.random.default_rng(0).normal(0, 1, (3, 40_000)).astype(np.float32)
        histogram = Histogram(detailed=True)
        for part in (values[0] / 8, values[1], values[2] * 5):  # the bins must grow
            histogram.add(part)
        everything = np.abs(np.concatenate((values[0] / 8, values[1], values[2] * 5)))
        for share in (0.5, 0.9, 0.999):
            low, high = histogram.percentile(share)
            assert low == -high
            assert high == pytest.approx(float(np.quantile(everything, share)), abs=float(everything.max()) / 512)

    def test_a_range_never_goes_beyond_the_values(self) -> None:
        histogram = Histogram(detailed=True)
        histogram.add(np.linspace(-0.25, 4, 1000, dtype=np.float32))
        for low, high in (histogram.minmax(), histogram.percentile(0.999), histogram.entropy()):
            assert low == -0.25
            assert 3 < high <= 4

    def test_entropy_gives_up_a_lone_outlier_and_keeps_an_even_spread(self) -> None:
        even = Histogram(detailed=True)
        even.add(np.linspace(0, 1, 100_000, dtype=np.float32))
        assert even.entropy()[1] > 0.9
        lone = Histogram(detailed=True)
        lone.add(np.append(np.abs(np.random.default_rng(0).normal(0, 1, 100_000)), 60).astype(np.float32))
        assert 2 < lone.entropy()[1] < 30

    def test_a_tensor_of_zeros_has_an_empty_range(self) -> None:
        histogram = Histogram(detailed=True)
        histogram.add(np.zeros(10, np.float32))
        assert histogram.minmax() == histogram.percentile(0.99) == histogram.entropy() == (0, 0)


class TestQuantize:
    def test_pairs_are_symmetric_int8_and_biases_stay_float(self, small: ModelFile) -> None:
        graph = quantize(small, ranges_of(small)).graph.graph
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert pairs
        for node in pairs:
            assert stored[node.input[2]].dtype == np.int8
            assert not stored[node.input[2]].any()
        biases = {node.input[2] for node in graph.node if node.op_type == "Conv"}
        assert biases == {f"{name}.bias" for name in ("stem", *INNER, "logits")}

    def test_ranges_that_leave_all_in_float_are_refused(self, small: ModelFile) -> None:
        kept = tuple(FloatGroup(names, 0.1) for names in quantizable_groups(small).values())
        with pytest.raises(ProofError, match="INT8 does not suit small, all nodes are kept in float: use another"):
            quantize(small, replace(ranges_of(small), kept=kept))

    def test_the_convolutions_and_the_sum_read_pairs_and_the_logits_do_not(self, small: ModelFile) -> None:
        graph = quantize(small, ranges_of(small)).graph.graph
        makers = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            if node.op_type in ("Conv", "Add"):
                made = {makers[name].op_type for name in node.input[:2] if name in makers}
                assert ("DequantizeLinear" in made) == (node.name != "logits"), node.name

    def test_weights_are_within_half_a_step_of_each_channel(self, small: ModelFile) -> None:
        graph = quantize(small, ranges_of(small)).graph.graph
        before = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.graph.initializer}
        after = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        seen = 0
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in after:
                scale = after[node.input[1]].reshape(-1, 1, 1, 1)
                expected = before[node.input[0].split(".weight")[0] + ".weight"].astype(np.float32)
                assert (np.abs(after[node.input[0]] * scale - expected) <= 0.5001 * scale).all()
                assert len(np.unique(scale)) > 1
                seen += 1
        assert seen == 1 + len(INNER)

    def test_scales_of_activations_come_from_the_ranges(self, small: ModelFile) -> None:
        ranges = ranges_of(small)
        wide = replace(ranges, tensors={**ranges.tensors, "body.relu": (0.0, 254.0)})
        graph = quantize(small, wide).graph.graph
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        node = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "body.relu")
        assert stored[node.input[1]] == pytest.approx(2.0, rel=0.01)

    def test_labels_agree_with_float_on_most_pixels(self, small: ModelFile) -> None:
        frames = small_images()
        expected = labels(small, frames)
        assert (labels(quantize(small, ranges_of(small)), frames) == expected).mean() > 0.95
        assert min(Counter(expected.ravel().tolist()).values()) >= 50

    def test_what_is_kept_stays_in_float(self, small: ModelFile) -> None:
        kept = replace(ranges_of(small), kept=(FloatGroup(("left",), 1.0),))
        graph = quantize(small, kept).graph.graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        nodes = {node.name: node for node in graph.node}
        assert [makers.get(name) for name in nodes["left"].input[:2]] == ["Relu", None]
        assert [makers.get(name) for name in nodes["body"].input[:2]] == ["DequantizeLinear", "DequantizeLinear"]

    def test_groups_are_the_nodes_that_read_a_tensor(self, small: ModelFile) -> None:
        assert quantizable_groups(small) == {
            "scaled": ("stem",),
            "stem.relu": ("body", "right"),
            "body.relu": ("left",),
            "left": ("sum",),
        }

    def test_a_quantized_model_is_refused_and_to_int8_returns_it_unchanged(self, small: ModelFile) -> None:
        quantized = quantize(small, ranges_of(small))
        with pytest.raises(ModelError, match="is quantized already"):
            quantize(quantized, ranges_of(small))
        with pytest.raises(ModelError, match="is quantized already"):
            record_ranges(quantized, small_images(), "minmax")
        assert to_int8(quantized) is quantized

    def test_ranges_that_lack_a_tensor_are_refused_with_the_next_step(self, small: ModelFile) -> None:
        ranges = ranges_of(small)
        fewer = {name: found for name, found in ranges.tensors.items() if name != "body.relu"}
        with pytest.raises(ModelError, match=r"lack 'body\.relu': record them with `rtseg calibrate"):
            quantize(small, replace(ranges, tensors=fewer))

    def test_metadata_and_the_model_given_stay(self, small: ModelFile, tmp_path: Path) -> None:
        before = small.graph.SerializeToString(deterministic=True)
        path = tmp_path / "quantized.onnx"
        path.write_bytes(quantize(small, ranges_of(small)).graph.SerializeToString())
        assert load_model(path).spec == small.spec
        assert small.graph.SerializeToString(deterministic=True) == before

    def test_without_onnxruntime_the_extra_is_named(self, small: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
        ranges = ranges_of(small)
        real = builtins.__import__

        def lacking(name: str, *arguments: object, **more: object) -> object:
            if name.startswith("onnxruntime"):
                raise ImportError(name)
            return real(name, *arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(builtins, "__import__", lacking)
        for work in (lambda: quantize(small, ranges), lambda: record_ranges(small, small_images(), "minmax")):
            with pytest.raises(BackendUnavailable, match=r"pip install 'rtseg\[onnxruntime\]'"):
                work()


class TestBundled:
    @pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
    @pytest.mark.parametrize(("name", "least"), [("icnet-camvid", 0.98), ("deeplabv3-mobilenet-camvid", 0.97)])
    def test_int8_agrees_with_fp32_on_real_frames(
        self, name: str, least: float, backend: str, real_frames: Images
    ) -> None:
        with open_backend(backend, name, precision="fp32") as opened:
            expected = np.concatenate([opened.infer(frame[None]).copy() for frame in real_frames])
        with open_backend(backend, name, precision="int8") as opened:
            assert opened.precision == "int8"
            found = np.concatenate([opened.infer(frame[None]).copy() for frame in real_frames])
        assert least < (found == expected).mean() < 1

    def test_the_ranges_hold_at_another_size(self, real_frames: Images) -> None:
        frame = np.ascontiguousarray(real_frames[:1, 64:320, 64:576])
        found = []
        for precision in ("fp32", "int8"):
            with open_backend("openvino", "icnet-camvid", size=(256, 512), precision=precision) as opened:
                found.append(opened.infer(frame).copy())
        assert 0.97 < (found[0] == found[1]).mean() < 1

    def test_images_are_made_smaller_before_they_are_rounded(self) -> None:
        graph = to_int8(load_model(find_model("icnet-camvid"))).graph.graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        read = [makers[node.input[0]] for node in graph.node if node.op_type == "AveragePool"]
        assert read == ["Add", "DequantizeLinear"], "of the images, and of features"

    def test_openvino_computes_nearly_all_convolutions_in_int8(self) -> None:
        quantized = to_int8(load_model(find_model("icnet-camvid")))
        core = openvino.Core()
        network = core.read_model(quantized.graph.SerializeToString(), b"")
        network.reshape({"frames": [1, *quantized.spec.size, 3]})
        # Without bf16 all CPUs compute the same.
        compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        kinds: Counter[str] = Counter()
        for node in compiled.get_runtime_model().get_ops():
            facts = node.get_rt_info()
            if facts["layerType"].astype(str) == "Convolution":
                kinds[facts["runtimePrecision"].astype(str)] += 1
        assert kinds.total() == 64
        # The rest: the logits, and two 1x1 convolutions whose stride of 2 OpenVINO moves before their Q/DQ pairs.
        assert kinds["i8"] + kinds["u8"] >= 61


def test_the_openvino_backend_keeps_its_promises_with_several_copies_of_an_int8_model(small: ModelFile) -> None:
    quantized = quantize(small, ranges_of(small))
    frames = small_images(6)
    expected = labels(quantized, frames)
    from rtseg.backends.openvino import OpenVinoBackend

    with OpenVinoBackend(quantized, BackendOptions(threads=2)) as backend:
        assert backend.precision == "int8"
        assert backend.depth >= 2
        tickets = []
        found = []
        for frame in frames:
            if len(tickets) == backend.depth:
                found.append(backend.wait(tickets.pop(0)).copy())
            tickets.append(backend.submit(frame[None]))
        found.extend(backend.wait(ticket).copy() for ticket in tickets)
        assert (np.concatenate(found) == expected).mean() > 0.97
        assert (backend.infer(frames) == expected).mean() > 0.97


def test_a_quantized_file_takes_another_size(small: ModelFile) -> None:
    from rtseg.model_file.input_size import resize_input

    ranges = ranges_of(small)
    first, second = resize_input(quantize(small, ranges), (64, 64)), quantize(resize_input(small, (64, 64)), ranges)
    frames = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert (labels(first, frames) == labels(second, frames)).all()
