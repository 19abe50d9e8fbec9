"""``--init`` from a model file, in which batch norm is folded into the convolutions."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import random_network, run_network
from helpers.small_network import small_model
from rich.console import Console
from torch import Tensor, nn

from rtseg.datasets.synthetic import SyntheticStreet
from rtseg.deploy.export import export_network
from rtseg.errors import CheckpointError
from rtseg.model_file.load import ModelFile
from rtseg.model_file.spec import ModelSpec
from rtseg.models import create_model
from rtseg.models.base import Network
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm, normalise
from rtseg.training import model_weights
from rtseg.training.checkpoint import load_checkpoint, load_initial_weights
from rtseg.training.model_weights import network_from_model
from rtseg.training.options import TrainOptions
from rtseg.training.train import train

CLASSES = tuple("abcde")
SPEC = ModelSpec("every", CLASSES, tuple((value, 0, 0) for value in range(5)), (64, 96))
NETWORKS = (
    "icnet:width=8",
    "icnet-gru:width=8",
    "deeplabv3-mobilenet",
    "ddrnet23-slim",
    "sctnet-s:transformer=0",
    "seaformer-tiny",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "icnet-resnet18",
            "deeplabv3plus-mobilenet",
            "fcn-resnet18:step=8",
            "fcn8s-vgg11:hidden=16,norm=true",
            "pidnet-s",
        )
    ),
)
"""One of each family."""


def images(count: int = 2, size: tuple[int, int] = (64, 96)) -> Tensor:
    """Noise in patches, uint8 (N, 3, H, W)."""
    patches = np.random.default_rng(3).integers(0, 256, (count, 3, size[0] // 8, size[1] // 8), dtype=np.uint8)
    return torch.from_numpy(patches.repeat(8, 2).repeat(8, 3))


def folded(network: Network, monkeypatch: pytest.MonkeyPatch, **changes: object) -> ModelFile:
    """A model file of ``network``, which is not written: what is loaded from it is the folded network itself."""
    label_network = LabelNetwork(fuse_batch_norm(network))
    label_network.network.fix_size(64, 96)
    monkeypatch.setattr(model_weights, "build_network", lambda model: label_network)
    spec = replace(SPEC, architecture=network.architecture, **changes)  # type: ignore[arg-type]
    return ModelFile(Path("every.onnx"), spec, small_graph())


def small_graph() -> object:
    from helpers.small_network import small_graph as graph

    return graph()


class TestNetworkFromModel:
    @pytest.mark.parametrize("architecture", NETWORKS)
    def test_it_computes_what_the_file_computes(self, architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
        network = random_network(architecture)
        model = folded(network, monkeypatch)
        batch = images()
        clips = batch[None].expand(2, -1, -1, -1, -1) if network.recurrent else batch
        got = network_from_model(model, [clips])
        assert sum(isinstance(part, nn.BatchNorm2d) for part in got.modules()) > 0
        with torch.no_grad():
            wanted, found = (run_network(one, normalise(batch, network.channels)) for one in (network, got))
        assert (wanted - found).abs().max() <= 2e-3 * wanted.abs().max()

    def test_its_batch_norms_have_the_statistics_of_the_images(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So it computes the same in training, where a batch norm uses the statistics of the batch."""
        got = network_from_model(folded(random_network("icnet:width=8"), monkeypatch), [images()])
        for norm in (part for part in got.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.momentum = 1.0
        before = {name: value.clone() for name, value in got.named_buffers() if "running_mean" in name}
        got.train()(normalise(images(), 3))
        auxiliary = tuple(f"{name}." for name in got.auxiliary)
        for name, value in got.named_buffers():
            if name in before and not name.startswith(auxiliary):
                torch.testing.assert_close(value, before[name], rtol=1e-3, atol=1e-4)

    def test_images_may_have_another_size_than_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = random_network("icnet:width=8")
        got = network_from_model(folded(network, monkeypatch), [images(2, (96, 64))])
        batch = normalise(images(1, (128, 64)))
        with torch.no_grad():
            torch.testing.assert_close(got(batch), network(batch), rtol=1e-3, atol=1e-3)

    def test_clips_measure_a_network_of_single_images(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = random_network("icnet:width=8")
        batch = images(4)
        clips, single = (
            network_from_model(folded(network, monkeypatch), [part]).state_dict()
            for part in (batch.unflatten(0, (2, 2)), batch)
        )
        for name, value in clips.items():
            if not name.startswith(("fuse_low.classify", "fuse_high.classify")):  # auxiliary heads have fresh weights
                assert torch.equal(value, single[name]), name

    def test_images_are_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(
            CheckpointError, match=r"no images to measure the batch norm of every\.onnx on: give --data"
        ):
            network_from_model(folded(random_network("icnet:width=8"), monkeypatch), [])

    def test_images_of_other_channels_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = torch.zeros((1, 4, 64, 96), dtype=torch.uint8)
        with pytest.raises(CheckpointError, match="takes images of 3 channels, the training data have 4"):
            network_from_model(folded(random_network("icnet:width=8"), monkeypatch), [wrong])

    def test_a_file_of_another_program_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"small\.onnx holds no network of rtseg: it can be run, but not"):
            network_from_model(small_model(tmp_path), [images()])

    def test_an_int8_file_is_refused(self, tmp_path: Path) -> None:
        model = small_model(tmp_path)
        model.graph.graph.node[0].op_type = "QuantizeLinear"
        quantized = replace(model, spec=replace(model.spec, architecture="icnet:width=8"))
        with pytest.raises(CheckpointError, match="is INT8, which cannot be trained: give the file that it was made"):
            network_from_model(quantized, [images()])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    network = random_network("icnet:width=4", 11)
    path = tmp_path_factory.mktemp("model") / "street.onnx"
    spec = replace(
        SPEC,
        classes=SyntheticStreet.classes,
        palette=SyntheticStreet.palette,
        architecture=network.architecture,
    )
    export_network(network, spec, path)
    return network, path


def test_other_classes_get_a_fresh_head(exported: tuple[Network, Path]) -> None:
    network = create_model("icnet:width=4", 3)
    fresh = network.state_dict()["classify.weight"].clone()
    notice = load_initial_weights(network, exported[1], ("x", "y", "z"), [images()])
    assert "it has 11 other classes; classify.bias, classify.weight" in notice
    assert torch.equal(network.state_dict()["classify.weight"], fresh)
    torch.testing.assert_close(
        fuse_batch_norm(network).state_dict()["stem.0.0.weight"],
        fuse_batch_norm(exported[0]).state_dict()["stem.0.0.weight"],
        rtol=2e-3,
        atol=1e-4,
    )


def test_training_starts_from_a_model_file(exported: tuple[Network, Path], tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=500)
    options = TrainOptions(
        data=("synthetic:street,frames=4",),
        output=tmp_path / "run",
        model="icnet:width=4",
        init=exported[1],
        size=(64, 96),
        crop=(64, 96),
        epochs=1,
        batch=2,
        lr=1e-9,
        amp="none",
        workers=0,
        device="cpu",
    )
    train(options, console)
    assert isinstance(console.file, io.StringIO)
    assert "it lacks parts of this network; fuse_high.classify.bias" in console.file.getvalue()
    trained = create_model("icnet:width=4", 11)
    trained.load_state_dict(load_checkpoint(tmp_path / "run" / "last.safetensors")["network"])
    with torch.no_grad():
        wanted, got = (run_network(one.eval(), normalise(images())) for one in (exported[0], trained))
    assert (wanted.argmax(1) == got.argmax(1)).float().mean() > 0.9


def test_a_bundled_model_is_known_by_its_name() -> None:
    from rtseg.training.data import find_weights

    assert find_weights(Path("icnet-camvid")).suffix == ".onnx"
    with pytest.raises(CheckpointError, match=r"no checkpoint at missing; give a file with weights, or .*icnet-camvid"):
        find_weights(Path("missing"))
