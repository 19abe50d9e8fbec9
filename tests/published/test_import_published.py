"""Networks with random weights, of the same architectures as the published ones."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rtseg.backends import open_backend
from rtseg.errors import CheckpointError, ModelError, OptionError
from rtseg.importing.options import ImportOptions
from rtseg.models import create_model
from rtseg.preprocess import resize
from rtseg.published.import_published import import_published, is_published_name
from rtseg.synthetic.street import Street

models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
TORCHVISION = models.list_models(module=models.segmentation)
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def state_dict(name: str, path: Path, classes: int = 21) -> Path:
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, path)
    return path


def tiny_segformer(folder: Path, **options: Any) -> Path:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: rtseg[import]")
    config = transformers.SegformerConfig(
        num_labels=3,
        depths=[1] * 4,
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label={0: "wall", 1: "floor", 2: "door"},
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessor(size={"height": 64, "width": 96}, **options).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    ["lraspp_mobilenet_v3_large", *(pytest.param(n, marks=pytest.mark.slow) for n in TORCHVISION if n[0] != "l")],
)
def test_weights_of_torchvision_become_a_model_file(name: str) -> None:
    weights = state_dict(name, Path("weights.pth"))
    phases: list[str] = []
    done = import_published(f"torchvision:{name}", ImportOptions(size=SIZE), weights=weights, on_progress=phases.append)
    assert done.path == Path(f"{name}-rtseg.onnx")
    assert done.agreement.share > 0.999
    assert done.spec.size == SIZE
    assert (done.spec.classes[0], len(done.spec.classes)) == ("background", 21)
    assert done.spec.extra["import"]["normalization"]["mean"] == (0.485, 0.456, 0.406)
    assert "exporting to ONNX" in phases
    with open_backend("openvino", done.path, precision="fp32") as backend:
        image = resize(Street((96, 128), seed=0).render(1.0)[0], SIZE)
        assert backend.infer(image[None]).shape == (1, *SIZE)


def test_weights_for_a_network_of_rtseg_become_a_model_file() -> None:
    network = create_model("seaformer-tiny", 3)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, "own.pth")
    options = ImportOptions(size=SIZE, classes=("a", "b", "c"))
    done = import_published("rtseg:seaformer-tiny", options, weights=Path("own.pth"))
    assert done.path == Path("seaformer-tiny-rtseg.onnx")
    assert done.agreement.share > 0.999
    assert done.spec.extra["import"]["normalization"]["mean"] == (0.485, 0.456, 0.406)
    with pytest.raises(OptionError, match="rtseg:seaformer-tiny does not say what its classes are"):
        import_published("rtseg:seaformer-tiny", weights=Path("own.pth"))
    with pytest.raises(CheckpointError, match=r"own.pth does not fit rtseg:ddrnet23-slim: give weights"):
        import_published("rtseg:ddrnet23-slim", options, weights=Path("own.pth"))


def test_weights_of_another_network_are_refused() -> None:
    weights = state_dict("lraspp_mobilenet_v3_large", Path("weights.pth"), 4)
    with pytest.raises(OptionError, match="torchvision:lraspp_mobilenet_v3_large does not say what its classes are"):
        import_published("torchvision:lraspp_mobilenet_v3_large", weights=weights)
    with pytest.raises(CheckpointError, match=r"weights.pth holds no weights|does not fit torchvision:fcn_resnet50"):
        import_published("torchvision:fcn_resnet50", weights=weights)
    torch.save({"some": torch.zeros(1)}, "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth holds no weights of a segmentation network of torchvision"):
        import_published("torchvision:fcn_resnet50", weights=Path("other.pth"))


def test_a_model_of_transformers_brings_its_classes_size_and_normalization() -> None:
    folder = tiny_segformer(Path("mine"), image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    done = import_published(f"hf:{folder}", offline=True)
    assert (done.spec.classes, done.spec.size) == (("wall", "floor", "door"), (64, 96))
    normalization = done.spec.extra["import"]["normalization"]
    assert normalization == {"scale": 255.0, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "bgr": False}
    assert done.agreement.share > 0.999
    assert done.agreement.classes > 1
    assert not done.guesses


def test_a_model_of_transformers_that_is_damaged_or_missing_is_refused_in_one_line() -> None:
    folder = tiny_segformer(Path("mine"))
    (folder / "model.safetensors").write_bytes(b"nothing")
    for name in (f"hf:{folder}", "hf:owner/missing"):
        with pytest.raises(
            ModelError, match=r"^hf:\S+ cannot be loaded \(.*\): check the name and the network"
        ) as raised:
            import_published(name, offline=True)
        assert "\n" not in str(raised.value)
    shutil.rmtree(folder)


@pytest.mark.parametrize("architecture", ["Unet", pytest.param("DeepLabV3Plus", marks=pytest.mark.slow)])
def test_a_model_of_smp_is_imported_from_its_folder(architecture: str) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="smp is not installed: rtseg[import]")
    network = getattr(smp, architecture)("resnet18", encoder_weights=None, classes=4)
    network.save_pretrained("mine")
    with pytest.raises(OptionError, match="smp:mine does not say what its classes are: add --classes"):
        import_published("smp:mine", offline=True)
    done = import_published("smp:mine", ImportOptions(classes=("a", "b", "c", "d"), size=SIZE), offline=True)
    assert (done.spec.classes, done.path) == (("a", "b", "c", "d"), Path("mine-rtseg.onnx"))
    assert done.agreement.share > 0.999


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet50", "torchvision has no segmentation network 'resnet50'; it has deeplabv3_"),
        ("rtseg:icnet", "rtseg:icnet has no published weights: give --weights FILE"),
        ("rtseg:unet", "unknown network 'unet'; known are"),
        ("timm:resnet18", "timm publishes backbones, none for segmentation: use smp:"),
    ],
)
def test_a_name_that_no_library_has_is_refused(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        import_published(name)


def test_offline_without_the_weights_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"torchvision:fcn_resnet50 is not in .*/cache, and --offline forbids"):
        import_published("torchvision:fcn_resnet50", offline=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hf:a/b", True), ("torchvision:x", True), ("model.onnx", False), ("hf:", False), ("c:/model.onnx", False)],
)
def test_published_names_have_a_known_kind(text: str, expected: bool) -> None:
    assert is_published_name(text) is expected
