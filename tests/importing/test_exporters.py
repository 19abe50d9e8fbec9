"""Networks of well-known packages, with random weights, through their real exporters."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rtseg.importing.import_onnx import ImportedModel, import_onnx
from rtseg.importing.options import ImportOptions
from rtseg.importing.tflite import import_tflite

pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch", reason="needs torch, which rtseg[train] installs")

SIZE = (64, 96)


def randomized(network: Any) -> Any:
    """Random weights for which several classes occur, with statistics of batch norm that fit them."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter, generator=generator)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, *SIZE, generator=generator))
    return network.eval()


def exported(network: Any, path: Path, dynamo: bool) -> Path:
    arguments: dict[str, Any] = {} if dynamo else {"opset_version": 14}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter itself
        torch.onnx.export(network, (torch.zeros(1, 3, *SIZE),), path, dynamo=dynamo, verbose=False, **arguments)
    return path


def imported(path: Path, **options: Any) -> ImportedModel:
    done = import_onnx(path, ImportOptions(output=path.with_name("imported.onnx"), **options))
    assert done.agreement.share > 0.999
    assert done.agreement.classes > 1
    return done


class Dictionary(torch.nn.Module):
    """The outputs of torchvision's networks: a dictionary of ``out`` and ``aux``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.out, self.aux = torch.nn.Conv2d(8, 21, 1), torch.nn.Conv2d(8, 21, 1)

    def forward(self, images: Any) -> dict[str, Any]:
        features = torch.relu(self.norm(self.first(images)))
        size = {"size": images.shape[-2:], "mode": "bilinear", "align_corners": False}
        return {
            name: torch.nn.functional.interpolate(head(features), **size)
            for name, head in (("out", self.out), ("aux", self.aux))
        }


@pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_dictionary_of_outputs_from_both_exporters_of_torch(tmp_path: Path, dynamo: bool) -> None:
    done = imported(exported(randomized(Dictionary()), tmp_path / "net.onnx", dynamo), classes=("voc",))
    assert len(done.spec.classes) == 21


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvision(tmp_path: Path, name: str, dynamo: bool) -> None:
    models = pytest.importorskip("torchvision.models.segmentation")
    network = getattr(models, name)(weights=None, weights_backbone=None, num_classes=21)
    done = imported(exported(randomized(network), tmp_path / "net.onnx", dynamo), classes=("voc",))
    assert done.spec.classes[0] == "background"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "channels", "activation", "classes"),
    [("Unet", 1, "sigmoid", 2), ("Unet", 4, "softmax2d", 4), ("FPN", 1, None, 2), ("DeepLabV3Plus", 5, None, 5)],
)
def test_segmentation_models_pytorch(
    tmp_path: Path, network: str, channels: int, activation: str | None, classes: int
) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="needs segmentation_models_pytorch")
    made = getattr(smp, network)("mobilenet_v2", encoder_weights=None, classes=channels, activation=activation)
    assert len(imported(exported(randomized(made), tmp_path / "net.onnx", dynamo=False)).spec.classes) == classes


@pytest.mark.slow
def test_segformer_of_hugging_face(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.SegformerConfig(num_labels=19, depths=[1] * 4, hidden_sizes=[16, 32, 40, 64])
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    torch.nn.init.normal_(network.decode_head.classifier.weight)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            return self.network(images).logits

    config.to_json_file(tmp_path / "config.json")
    done = imported(exported(Logits().eval(), tmp_path / "net.onnx", dynamo=True))
    assert done.spec.classes[0] == "LABEL_0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "classes"), [(lambda tf, net: net, 4), (lambda tf, net: lambda x: tf.argmax(net(x), -1), 4)]
)
def test_tensorflow(tmp_path: Path, end: Callable[[Any, Any], Any], classes: int) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs tensorflow")
    tf2onnx = pytest.importorskip("tf2onnx", reason="needs tf2onnx")
    layers = tf.keras.layers
    images = layers.Input((*SIZE, 3))
    features = layers.Conv2D(16, 3, strides=4, padding="same", activation="relu")(images)
    large = layers.UpSampling2D(4, interpolation="bilinear")(features)
    scores = layers.Conv2D(4, 1, kernel_initializer=tf.keras.initializers.RandomNormal(0, 1, seed=0))(large)
    function = tf.function(end(tf, tf.keras.Model(images, scores)))
    signature = (tf.TensorSpec((None, *SIZE, 3), tf.float32, name="images"),)
    path = tmp_path / "net.onnx"
    tf2onnx.convert.from_function(function, input_signature=signature, opset=13, output_path=str(path))
    assert len(imported(path).spec.classes) == classes


@pytest.mark.slow
@pytest.mark.parametrize("quantized", [False, True])
def test_tflite(tmp_path: Path, quantized: bool) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs tensorflow")
    pytest.importorskip("tf2onnx", reason="needs tf2onnx")
    layers = tf.keras.layers
    images = layers.Input((*SIZE, 3), batch_size=1)
    features = layers.Conv2D(16, 3, strides=4, padding="same", activation="relu")(images)
    scores = layers.Conv2D(4, 1, kernel_initializer=tf.keras.initializers.RandomNormal(0, 1, seed=0))(features)
    scores = layers.UpSampling2D(4, interpolation="bilinear")(scores)
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(images, scores))
    if quantized:  # weights in int8, values in float
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path = tmp_path / "net.tflite"
    path.write_bytes(converter.convert())
    done = import_tflite(path, ImportOptions(output=tmp_path / "imported.onnx"))
    assert done.agreement.share > 0.999
    assert done.agreement.classes > 1
    assert done.changes[0].startswith("TFLite to ONNX")
    assert done.spec.name == "net"


@pytest.mark.slow
@pytest.mark.parametrize("argmax", [False, True])
def test_paddle(tmp_path: Path, argmax: bool) -> None:
    """As PaddleSeg exports: scores, or with ``--output_op argmax`` class IDs as int32 (N, H, W)."""
    paddle = pytest.importorskip("paddle", reason="needs paddlepaddle")
    pytest.importorskip("paddle2onnx", reason="needs paddle2onnx")

    class Net(paddle.nn.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = paddle.nn.Conv2D(3, 16, 3, stride=4, padding=1)
            initial = paddle.nn.initializer.Normal(0.0, 1.0)
            self.last = paddle.nn.Conv2D(16, 4, 1, weight_attr=paddle.ParamAttr(initializer=initial))

        def forward(self, images: Any) -> Any:
            scores = self.last(paddle.nn.functional.relu(self.first(images)))
            scores = paddle.nn.functional.interpolate(scores, size=SIZE, mode="bilinear", align_corners=False)
            return paddle.argmax(scores, axis=1, dtype="int32") if argmax else scores

    paddle.seed(1)
    signature = [paddle.static.InputSpec([None, 3, *SIZE], "float32", "x")]
    paddle.onnx.export(Net(), str(tmp_path / "net"), input_spec=signature, opset_version=13)
    (tmp_path / "deploy.yaml").write_text("Deploy:\n  transforms:\n  - type: Normalize\n")
    done = imported(tmp_path / "net.onnx", **({} if not argmax else {"classes": tuple("abcd")}))
    assert len(done.spec.classes) == 4
    assert done.spec.extra["import"]["normalization"]["mean"] == (0.5, 0.5, 0.5)


@pytest.mark.slow
def test_mmdeploy(tmp_path: Path) -> None:
    """As mmdeploy exports mmsegmentation: class IDs as int64 (N, 1, H, W), and ``pipeline.json``."""

    class Segmentor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Dictionary()

        def forward(self, images: Any) -> Any:
            return self.network(images)["out"].argmax(dim=1, keepdim=True)

    segmentor = Segmentor()
    randomized(segmentor.network)
    path = exported(segmentor.eval(), tmp_path / "end2end.onnx", dynamo=False)
    normalize = {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    (tmp_path / "pipeline.json").write_text(json.dumps({"pipeline": {"tasks": [{"transforms": [normalize]}]}}))
    done = imported(path, classes=("voc",))
    assert done.spec.extra["import"]["normalization"]["std"] == (58.395, 57.12, 57.375)
    assert not done.guesses
