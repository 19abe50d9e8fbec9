"""What every network does alike. A new one is tested by its line in ``MODELS``."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import CLASSES, random_network, run_network
from numpy.typing import NDArray
from torch import nn

from rtseg.backends import open_backend
from rtseg.deploy.export import export_network
from rtseg.errors import OptionError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec
from rtseg.models import MODELS, create_model
from rtseg.models.base import Network, Output
from rtseg.models.label_network import LabelNetwork, fuse_batch_norm

SIZES = [(64, 96), (96, 32)]
OTHER = (128, 96)
SPEC = ModelSpec("every", tuple("abcde"), tuple((value, 0, 0) for value in range(CLASSES)), SIZES[0])
SHORT = {
    "icnet-gru",
    "icnet-resnet18",
    "deeplabv3-mobilenet",
    "deeplabv3plus-mobilenet",
    "fcn-resnet18",
    "fcn8s-vgg11",
    "pidnet-s",
    "sctnet-s",
    "seaformer-tiny",
}
"""One of each family, whose export is quick; that of the others is marked ``slow``."""
OPTIONS = {
    "icnet-gru": "width=8",
    "icnet-resnet18": "channels=1,pyramid=false",
    "deeplabv3plus-mobilenet": "channels=1,se=true",
    "fcn-resnet18": "step=8",
    "fcn8s-vgg11": "hidden=64,norm=true",
    "sctnet-s": "transformer=0",
}
"""With which they are exported, so that options are, too."""
SMALL = {name: f"{name}:transformer=0" for name in ("sctnet-s", "sctnet-b")}
"""With a small transformer in training, which is not in the model file."""
ONE_SIZE = {"seaformer-tiny"}
"""Their files run only at the size that they were exported with."""


@pytest.fixture(scope="module", params=MODELS)
def network(request: pytest.FixtureRequest) -> Network:
    return random_network(SMALL.get(request.param, request.param))


def images(network: Network, size: tuple[int, int], count: int = 2) -> torch.Tensor:
    return torch.randn((count, network.channels, *size), generator=torch.Generator().manual_seed(1))


class TestEveryNetwork:
    @pytest.mark.parametrize("size", SIZES)
    def test_inference_gives_logits_at_its_stride(self, network: Network, size: tuple[int, int]) -> None:
        network.check_size(*size)
        network.eval()
        with torch.no_grad():
            logits = run_network(network, images(network, size))
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (2, CLASSES, size[0] // network.stride, size[1] // network.stride)
        assert logits.std() > 0.01

    @pytest.mark.parametrize("size", SIZES)
    def test_training_gives_a_prediction_for_every_loss_weight_and_a_gradient_to_every_parameter(
        self, network: Network, size: tuple[int, int]
    ) -> None:
        # Attention along an axis of one position, at 1/64, has no gradient.
        factor = 4 if network.architecture == "seaformer-tiny" else 1
        size = (factor * size[0], factor * size[1])
        network.train().zero_grad()
        outputs = run_network(network, images(network, size))
        assert isinstance(outputs, tuple)
        assert len(outputs) == len(network.loss_weights)
        assert outputs[0].shape[2:] == (size[0] // network.stride, size[1] // network.stride)
        kinds = network.outputs or (Output.CLASSES,) * len(outputs)
        for output, kind in zip(outputs, kinds, strict=True):
            assert output.shape[:2] == {Output.BOUNDARY: (2, 1), Output.ALIGNMENT: (2, 2)}.get(kind, (2, CLASSES))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []
        network.zero_grad()

    def test_folding_batch_norm_changes_no_logit_and_leaves_no_batch_norm(self, network: Network) -> None:
        exact = deepcopy(network).double().eval()  # in fp32 a hundred drawn layers make much of a rounding
        fused = fuse_batch_norm(exact)
        with torch.no_grad():
            wanted, got = (run_network(one, images(network, SIZES[0]).double()) for one in (exact, fused))
        assert (wanted - got).abs().max() <= 1e-9 * wanted.abs().max()
        assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
        assert any(isinstance(part, nn.BatchNorm2d) for part in exact.modules()) != ("vgg" in network.architecture)

    def test_auxiliary_heads_are_gone_from_inference(self, network: Network) -> None:
        names = fuse_batch_norm(network).state_dict()
        assert bool(network.auxiliary) == (len(network.loss_weights) > 1)
        assert not [name for name in names if name.startswith(network.auxiliary)]
        assert all(network.get_submodule(name) for name in network.auxiliary)

    def test_a_size_that_does_not_fit_is_refused_with_one_that_does(self, network: Network) -> None:
        with pytest.raises(OptionError, match=r"takes sizes in multiples of \d+, got 100x100: try --size \d+x\d+"):
            network.check_size(100, 100)


def exports() -> list[object]:
    """The short ones, then all of them, marked as slow."""
    short = [f"{name}:{OPTIONS[name]}" if name in OPTIONS else name for name in sorted(SHORT)]
    return [*short, *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS)]


@pytest.fixture(scope="module", params=exports())
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Path]:
    """A network and its model file at 64x96."""
    network = random_network(request.param)
    path = tmp_path_factory.mktemp("model") / "every.onnx"
    export_network(network, replace(SPEC, architecture=network.architecture), path)
    return network, path


def frames(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Four images of noise in patches, uint8 (4, H, W, 3)."""
    patches = np.random.default_rng(3).integers(0, 256, (4, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return patches.repeat(8, 1).repeat(8, 2)


def labels_of(path: Path, backend: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    with open_backend(backend, path, size=size, precision="fp32") as opened:
        return np.concatenate([opened.infer(frame[None]).copy() for frame in frames(size)])


def true_labels(network: Network, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the labels of the network itself for ``frames``, one after the other."""
    labels_in_torch, state = LabelNetwork(deepcopy(network)), None
    found = []
    with torch.no_grad():
        for frame in torch.from_numpy(frames(size)):
            if network.recurrent:
                labels, state = labels_in_torch(frame[None], state)
            else:
                labels = labels_in_torch(frame[None])
            found.append(labels.numpy())
    return np.concatenate(found)


class TestExport:
    @pytest.mark.parametrize("size", [SIZES[0], OTHER])
    def test_runtimes_agree_with_torch_at_the_size_of_the_file_and_at_another(
        self, exported: tuple[Network, Path], size: tuple[int, int]
    ) -> None:
        network, path = exported
        if size != SIZES[0] and network.architecture in ONE_SIZE:
            with pytest.raises(OptionError, match="runs only at its own size 64x96: export it again"):
                labels_of(path, "onnxruntime", size)
            return
        true = true_labels(network, size)
        rebuilt = labels_of(path, "torch", size)
        assert len(np.unique(true)) > 1
        assert (rebuilt == true).mean() > 0.97, "kernels are rounded to fp16 in the file, nothing else"
        for backend in ("onnxruntime", "openvino"):
            assert (labels_of(path, backend, size) == rebuilt).mean() >= 0.999

    @pytest.mark.slow
    def test_a_file_brought_to_another_size_labels_as_one_that_was_exported_at_it(
        self, exported: tuple[Network, Path], tmp_path: Path
    ) -> None:
        network, path = exported
        if network.architecture in ONE_SIZE:
            pytest.skip("its files run only at their own size")
        fresh = tmp_path / "fresh.onnx"
        export_network(network, replace(SPEC, size=OTHER, architecture=network.architecture), fresh)
        np.testing.assert_array_equal(labels_of(path, "onnxruntime", OTHER), labels_of(fresh, "onnxruntime", OTHER))

    def test_the_file_says_how_to_build_the_network_again(self, exported: tuple[Network, Path]) -> None:
        network, path = exported
        spec = load_model(path).spec
        again = create_model(spec.architecture, len(spec.classes))
        assert type(again) is type(network)
        assert {name: value.shape for name, value in again.state_dict().items()} == {
            name: value.shape for name, value in network.state_dict().items()
        }
        assert spec.architecture == again.architecture
