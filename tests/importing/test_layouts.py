"""Every layout of an exported network becomes a model file with the labels that its definition gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from helpers.foreign_graphs import ForeignGraph
from numpy.typing import NDArray
from onnx import TensorProto

from rtseg.backends import open_backend
from rtseg.errors import ModelError
from rtseg.importing.import_onnx import ImportedModel, import_onnx
from rtseg.importing.options import ImportOptions

ort = pytest.importorskip("onnxruntime")

HEIGHT, WIDTH = 48, 64
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image() -> NDArray[np.uint8]:
    noise = np.random.default_rng(7).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def run(path: Path, values: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs of a foreign file."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, {session.get_inputs()[0].name: values})]


def imagenet(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ((bgr[..., ::-1] / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)


def labels_of(path: Path, frame: NDArray[np.uint8], backend: str = "openvino") -> NDArray[np.uint8]:
    precision = "fp32"
    with open_backend(backend, path, precision=precision) as opened:
        return opened.infer(frame[None])[0].copy()


def imported(path: Path, *, backends: bool = True, **options: Any) -> ImportedModel:
    output = path.with_name("imported.onnx")
    done = import_onnx(path, ImportOptions(output=output, **options))
    if backends:  # OpenVINO and ONNX Runtime agree up to a few pixels on borders
        pair = [labels_of(output, image(), name) for name in ("openvino", "onnxruntime")]
        assert (pair[0] == pair[1]).mean() > 0.995
        assert len(np.unique(pair[0])) > 1
    assert done.agreement.share > 0.9995
    assert done.agreement.classes > 1
    return done


def upsampled(maps: NDArray[Any], size: tuple[int, int] = (HEIGHT, WIDTH)) -> NDArray[np.float32]:
    resized = [cv2.resize(each.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR) for each in maps]
    return np.stack(resized)


class TestScores:
    def test_logits_of_the_main_output_of_several(self, tmp_path: Path) -> None:
        graph = ForeignGraph(["batch", 3, HEIGHT, WIDTH])
        graph.conv(4)
        graph.output("aux")
        graph.last = "input"
        graph.conv(4, seed=1)
        graph.output("out")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c", "d"))
        expected = run(path, imagenet(image()))[1][0].argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999
        assert done.spec.classes == ("a", "b", "c", "d")
        assert done.spec.batch is None

    def test_logits_at_a_quarter_of_the_size_are_upsampled_before_the_argmax(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3, stride=4)
        graph.output("logits")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"))
        expected = upsampled(run(path, imagenet(image()))[0][0]).argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999

    @pytest.mark.parametrize("axis", [1, 3])
    def test_a_softmax_is_removed_before_the_upsampling(self, tmp_path: Path, axis: int) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        logits = graph.conv(3, stride=4)
        if axis == 3:  # as old exporters write a softmax over channels
            graph.node("Transpose", perm=[0, 2, 3, 1])
        graph.node("Softmax", axis=axis)
        if axis == 3:
            graph.node("Transpose", perm=[0, 3, 1, 2])
        graph.output("probabilities")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"))
        graph.outputs.append(onnx.ValueInfoProto(name=logits))
        graph.save(path)
        expected = upsampled(run(path, imagenet(image()))[1][0]).argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999
        assert all(node.op_type != "Softmax" for node in onnx.load(done.path).graph.node)

    def test_a_class_that_is_dropped_is_never_predicted(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(4)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "void", "c", "d"), drop=("void",))
        scores = run(path, imagenet(image()))[0][0]
        assert (labels_of(done.path, image()) == scores[[0, 2, 3]].argmax(0)).mean() > 0.999
        assert done.spec.classes == ("a", "c", "d")

    def test_channels_last_in_and_out_as_tensorflow_has_them(self, tmp_path: Path) -> None:
        graph = ForeignGraph(["unk__1", HEIGHT, WIDTH, 3], producer=("tf2onnx", "1.16"))
        graph.node("Transpose", perm=[0, 3, 1, 2])
        graph.conv(5)
        graph.node("Transpose", perm=[0, 2, 3, 1])
        graph.output("Identity:0")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c", "d", "e"))
        values = (image()[None, ..., ::-1] / 127.5 - 1).astype(np.float32)
        assert (labels_of(done.path, image()) == run(path, values)[0][0].argmax(-1)).mean() > 0.999
        assert [fact.what for fact in done.guesses] == ["input values"]

    def test_half_precision_in_weights_input_and_output(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH], TensorProto.FLOAT16)
        graph.conv(3, stride=2)
        for weight in graph.weights:
            weight.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), weight.name)
            )
        graph.output("logits", TensorProto.FLOAT16)
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"))
        expected = upsampled(run(path, imagenet(image()).astype(np.float16))[0][0]).argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.99

    def test_a_grey_input_gets_the_luma(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 1, HEIGHT, WIDTH])
        graph.conv(3, inputs=1)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"), scale=255.0)
        grey = (image() @ np.array([0.114, 0.587, 0.299]) / 255)[None, None].astype(np.float32)
        assert (labels_of(done.path, image()) == run(path, grey)[0][0].argmax(0)).mean() > 0.999


class TestSigmoids:
    @pytest.mark.parametrize("ends_in_sigmoid", [True, False])
    @pytest.mark.parametrize("threshold", [None, 0.7])
    def test_one_channel_becomes_two_classes(
        self, tmp_path: Path, ends_in_sigmoid: bool, threshold: float | None
    ) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        logits = graph.conv(1)
        if ends_in_sigmoid:
            graph.node("Sigmoid")
        graph.output("mask")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("person",), threshold=threshold)
        graph.outputs = [onnx.ValueInfoProto(name=logits if ends_in_sigmoid else "mask")]
        graph.save(path)
        probability = 1 / (1 + np.exp(-run(path, imagenet(image()))[0][0, 0]))
        assert (labels_of(done.path, image()) == (probability > (threshold or 0.5))).mean() > 0.999
        assert done.spec.classes == ("background", "person")

    def test_of_several_channels_the_largest_above_the_threshold_wins(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3)
        graph.node("Sigmoid")
        graph.output("masks")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("skin", "clothes", "hair"), threshold=0.6)
        values = run(path, imagenet(image()))[0][0]
        expected = np.where(values.max(0) > 0.6, values.argmax(0) + 1, 0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999
        assert done.spec.classes == ("background", "skin", "clothes", "hair")

    def test_with_a_background_among_the_names_the_largest_wins(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3)
        graph.node("Sigmoid")
        graph.output("masks")
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("background", "clothes", "hair"))
        assert (labels_of(done.path, image()) == run(path, imagenet(image()))[0][0].argmax(0)).mean() > 0.999

    def test_a_second_head_is_drawn_over_the_first(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        for seed, name in enumerate(("area", "lane")):
            graph.last = "input"
            graph.conv(2, seed=seed)
            graph.output(name)
        path = graph.save(tmp_path / "net.onnx")
        with pytest.raises(ModelError, match=r"several outputs: area .2 classes., lane .2 classes.: choose with"):
            import_onnx(path, ImportOptions(classes=("a", "b", "c")))
        done = imported(path, classes=("other", "area", "lane"), output_name=("area", "lane"))
        area, lane = (each[0].argmax(0) for each in run(path, imagenet(image())))
        assert (labels_of(done.path, image()) == np.where(lane, 2, area)).mean() > 0.999


def argmax_kept(graph: ForeignGraph) -> None:
    """As mmsegmentation: int64 (N, 1, H, W)."""
    graph.node("ArgMax", axis=1, keepdims=1)
    graph.output("output", TensorProto.INT64)


def argmax_int32(graph: ForeignGraph) -> None:
    """As PaddleSeg: int32 (N, H, W)."""
    graph.node("ArgMax", axis=1, keepdims=0)
    graph.node("Cast", to=TensorProto.INT32)
    graph.output("argmax_0.tmp_0", TensorProto.INT32)


def argmax_float(graph: ForeignGraph) -> None:
    graph.node("ArgMax", axis=1, keepdims=1)
    graph.node("Cast", to=TensorProto.FLOAT)
    graph.output("labels")


def hidden_argmax(graph: ForeignGraph) -> None:
    """The argmax is followed by arithmetic, so that the scores cannot be found."""
    graph.node("ArgMax", axis=1, keepdims=1)
    graph.node("Mul", np.array(1, np.int64))
    graph.output("frames", TensorProto.INT64)


class TestClassIds:
    @pytest.mark.parametrize("end", [argmax_kept, argmax_int32, argmax_float, hidden_argmax])
    def test_class_ids_become_labels(self, tmp_path: Path, end: Callable[[ForeignGraph], None]) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH], name="x")
        graph.conv(4)
        end(graph)
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c", "d"))
        expected = run(path, imagenet(image()))[0].reshape(HEIGHT, WIDTH)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999

    def test_the_scores_behind_the_argmax_are_upsampled(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        logits = graph.conv(4, stride=2)
        argmax_kept(graph)
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "void", "d"), drop=("void",))
        graph.outputs.append(onnx.ValueInfoProto(name=logits))
        graph.save(path)
        expected = upsampled(run(path, imagenet(image()))[1][0][[0, 1, 3]]).argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999

    def test_an_id_that_no_class_has_is_refused_when_it_occurs(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(4)
        hidden_argmax(graph)
        done = import_onnx(
            graph.save(tmp_path / "net.onnx"), ImportOptions(classes=("a", "b"), output=tmp_path / "o.onnx")
        )
        with pytest.raises(ModelError, match="gives the class ID 3, but has only the classes 0 to 1"):
            labels_of(done.path, image())


class TestSizes:
    def test_frames_of_another_size_are_resized_in_the_graph(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, 24, 32])
        graph.conv(3)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"), size=(HEIGHT, WIDTH))
        small = cv2.resize(image().astype(np.float32), (32, 24), interpolation=cv2.INTER_LINEAR)
        expected = upsampled(run(path, imagenet(small))[0][0]).argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999
        assert done.spec.size == (HEIGHT, WIDTH)

    def test_a_size_that_is_no_multiple(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, 24, 32])
        graph.conv(3, stride=2)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = import_onnx(path, ImportOptions(classes=("a", "b", "c"), size=(35, 47), output=tmp_path / "o.onnx"))
        assert done.agreement.share > 0.999
        assert labels_of(done.path, np.zeros((35, 47, 3), np.uint8)).shape == (35, 47)

    def test_a_dynamic_size_must_be_given(self, tmp_path: Path) -> None:
        graph = ForeignGraph(["N", 3, "height", "width"])
        graph.conv(3)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        with pytest.raises(ModelError, match="takes images of any size: give --size HEIGHTxWIDTH"):
            import_onnx(path, ImportOptions(classes=("a", "b", "c")))
        assert imported(path, classes=("a", "b", "c"), size=(HEIGHT, WIDTH)).spec.size == (HEIGHT, WIDTH)

    def test_a_batch_of_one_that_is_baked_in_is_marked_and_obeyed(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3)
        graph.node("Reshape", np.array([1, 3, HEIGHT, WIDTH]))
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"))
        assert done.spec.batch == 1
        frames = np.stack([image(), image()[:, ::-1]])
        for name in ("openvino", "onnxruntime"):
            with open_backend(name, done.path, precision="fp32") as backend:
                both = backend.infer(frames).copy()
                assert (both == np.stack([backend.infer(frame[None])[0].copy() for frame in frames])).all()


class TestVersions:
    @pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
    def test_every_opset_that_exporters_write(self, tmp_path: Path, opset: int) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH], opset=opset, ir=10)
        graph.conv(3, stride=2)
        graph.node(
            "Resize", np.zeros(0), np.array([1, 1, 2, 2.0]), mode="linear", coordinate_transformation_mode="half_pixel"
        )
        graph.output()
        imported(graph.save(tmp_path / "net.onnx"), backends=opset in (11, 21), classes=("a", "b", "c"))

    def test_upsample_of_opset_8_with_weights_as_inputs(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH], producer=("tf2onnx", "1.5"), opset=8, ir=3)
        graph.conv(3, stride=4)
        graph.nodes.append(
            onnx.helper.make_node("Upsample", [graph.last], ["up"], mode="linear", scales=[1.0, 1.0, 4.0, 4.0])
        )
        graph.last = "up"
        graph.output()
        for weight in graph.weights:
            shape = list(weight.dims)
            graph.inputs.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, shape))
        done = imported(graph.save(tmp_path / "net.onnx"), classes=("a", "b", "c"), scale=255.0)
        assert done.changes[:3] == ("weights are no inputs", "IR 3 -> 8", "opset 8 -> 17")

    def test_functions_are_inlined(self, tmp_path: Path) -> None:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3)
        graph.nodes.append(onnx.helper.make_node("Twice", [graph.last], ["twice"], domain="own"))
        graph.last = "twice"
        graph.output()
        model = graph.model()
        body = [onnx.helper.make_node("Add", ["x", "x"], ["y"])]
        opset = [onnx.helper.make_opsetid("", 17)]
        model.functions.append(onnx.helper.make_function("own", "Twice", ["x"], ["y"], body, opset))
        model.opset_import.append(onnx.helper.make_opsetid("own", 1))
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        assert "functions inlined" in imported(path, classes=("a", "b", "c")).changes


class TestExternalWeights:
    def saved(self, folder: Path) -> Path:
        graph = ForeignGraph([1, 3, HEIGHT, WIDTH])
        graph.conv(3)
        graph.output()
        path = folder / "net.onnx"
        onnx.save(graph.model(), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
        return path

    def test_weights_in_a_file_beside_the_model_are_stored_inside(self, tmp_path: Path) -> None:
        done = imported(self.saved(tmp_path), classes=("a", "b", "c"))
        (tmp_path / "net.onnx.data").unlink()
        labels_of(done.path, image())

    def test_weights_elsewhere_need_permission(self, tmp_path: Path) -> None:
        path, other = self.saved(tmp_path), tmp_path / "other"
        other.mkdir()
        (tmp_path / "net.onnx.data").rename(other / "net.onnx.data")
        with pytest.raises(ModelError, match=r"'net.onnx.data', which is not beside it: put it there, or name its fol"):
            import_onnx(path, ImportOptions(classes=("a", "b", "c")))
        imported(path, classes=("a", "b", "c"), allow_external=other)

    @pytest.mark.parametrize("location", ["/etc/passwd", "../secret.data", "link.data", ""])
    def test_a_position_outside_the_folder_is_refused(self, tmp_path: Path, location: str) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        path = self.saved(folder)
        (folder / "net.onnx.data").rename(tmp_path / "secret.data")
        (folder / "link.data").symlink_to(tmp_path / "secret.data")
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            next(entry for entry in tensor.external_data if entry.key == "location").value = location
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError, match=r"which is (refused|not beside it)"):
            import_onnx(path, ImportOptions(classes=("a", "b", "c")))


class TestLetterbox:
    def graph(self, stride: int = 1) -> ForeignGraph:
        graph = ForeignGraph([1, 3, 64, 64])
        graph.conv(3, stride=stride)
        return graph

    @pytest.mark.parametrize("stride", [1, 2])
    def test_frames_keep_their_proportions_between_grey_bars(self, tmp_path: Path, stride: int) -> None:
        graph = self.graph(stride)
        graph.output()
        path = graph.save(tmp_path / "net.onnx")
        done = imported(path, classes=("a", "b", "c"), size=(HEIGHT, WIDTH), letterbox=True, scale=255.0)
        canvas = np.full((64, 64, 3), 114, np.uint8)
        canvas[8:56] = image()
        values = (canvas[..., ::-1] / 255).transpose(2, 0, 1)[None].astype(np.float32)
        expected = upsampled(run(path, values)[0][0], (64, 64))[:, 8:56].argmax(0)
        assert (labels_of(done.path, image()) == expected).mean() > 0.999

    def test_class_ids_and_the_names_of_ultralytics(self, tmp_path: Path) -> None:
        graph = self.graph()
        hidden_argmax(graph)
        model = graph.model()
        for key, value in {"names": "{0: 'a', 1: 'b', 2: 'c'}", "imgsz": "[64, 64]", "stride": "32"}.items():
            model.metadata_props.add(key=key, value=value)
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        done = imported(path, size=(HEIGHT, WIDTH))
        assert done.spec.classes == ("a", "b", "c")
        assert done.guesses == ()
        assert [fact.reason for fact in done.facts if fact.what == "size"] == ["--size, ultralytics letterboxes"]
        assert imported(path, backends=False).spec.size == (64, 64)
