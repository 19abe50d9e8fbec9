from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from rtseg.backends import open_backend
from rtseg.deploy.export import export_checkpoint
from rtseg.errors import CheckpointError
from rtseg.models import create_model
from rtseg.training.checkpoint import (
    load_initial_weights,
    network_from_checkpoint,
    save_checkpoint,
    strip_wrapper_prefixes,
)
from rtseg.training.options import TrainOptions
from rtseg.training.train import train

OLD = ("a", "b", "c")
HEADS = {
    "icnet:width=4": [
        "classify.bias",
        "classify.weight",
        *(f"fuse_{which}.classify.{what}" for which in ("high", "low") for what in ("bias", "weight")),
    ],
    "fcn16s-vgg11:hidden=4": [
        "doublings.0.weight",
        "enlarge.weight",
        *(f"{where}.{what}" for where in ("head.6", "skips.0") for what in ("bias", "weight")),
    ],
}


def saved(path: Path, architecture: str, **changes: Any) -> dict[str, Any]:
    """A checkpoint of a drawn network of three classes; returns what it holds."""
    network = create_model(architecture, len(OLD))
    generator = torch.Generator().manual_seed(3)
    weights = {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    state = {"network": weights, "architecture": architecture, "classes": list(OLD), "palette": [[0, 0, 0]] * 3}
    save_checkpoint(path, state | changes)
    return weights


@pytest.mark.parametrize("architecture", HEADS)
@pytest.mark.parametrize("classes", [("a", "b", "c", "d", "e"), ("x", "y", "z"), ("c", "b", "a"), ("a",)])
def test_heads_for_other_classes_get_fresh_weights_and_a_notice(
    tmp_path: Path, architecture: str, classes: tuple[str, ...]
) -> None:
    path = tmp_path / "best.safetensors"
    weights = saved(path, architecture)
    network = create_model(architecture, len(classes))
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    remark = load_initial_weights(network, path, classes)
    heads = HEADS[architecture]
    assert (
        remark
        == f"{path}: it has 3 other classes; {', '.join(heads)} start with fresh weights for {len(classes)} classes"
    )
    for name, value in network.state_dict().items():
        assert torch.equal(value, fresh[name] if name in heads else weights[name]), name


def test_with_the_same_classes_everything_is_loaded_without_a_notice(tmp_path: Path) -> None:
    weights = saved(tmp_path / "best.safetensors", "icnet:width=4")
    network = create_model("icnet:width=4", 3)
    assert load_initial_weights(network, tmp_path / "best.safetensors", OLD) == ""
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_without_auxiliary_heads_will_do(tmp_path: Path) -> None:
    weights = saved(tmp_path / "best.safetensors", "icnet:width=4")
    kept = {name: value for name, value in weights.items() if "fuse_low.classify" not in name}
    saved(tmp_path / "best.safetensors", "icnet:width=4", network=kept)
    remark = load_initial_weights(create_model("icnet:width=4", 3), tmp_path / "best.safetensors", OLD)
    assert "it lacks parts of this network; fuse_low.classify.bias, fuse_low.classify.weight start with" in remark


def test_a_recurrent_network_starts_from_the_weights_of_a_single_image_network(tmp_path: Path) -> None:
    weights = saved(tmp_path / "best.safetensors", "icnet:width=4")
    network = create_model("icnet-gru:width=4", 3)
    remark = load_initial_weights(network, tmp_path / "best.safetensors", OLD)
    assert "it lacks parts of this network; gru.candidate.bias, gru.candidate.weight, gru.reset.bias" in remark
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())


class Bomb:
    """Unpickled by anyone who trusts it, it makes a file."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.crater,)


class TestWeightsOfOtherPrograms:
    @pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_a_state_dict_that_torch_saved_is_loaded(self, tmp_path: Path, wrapper: str | None, prefix: str) -> None:
        weights = create_model("icnet:width=4", 3).state_dict()
        named = {prefix + name: value for name, value in weights.items()}
        torch.save(named if wrapper is None else {wrapper: named, "epoch": 3}, tmp_path / "a.pth")
        network = create_model("icnet:width=4", 3)
        assert load_initial_weights(network, tmp_path / "a.pth", OLD) == ""
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())

    @pytest.mark.parametrize("prefix", ["model.", "model.net.", "module."])
    def test_a_checkpoint_of_lightning_is_loaded_without_what_is_beside_the_network(
        self, tmp_path: Path, prefix: str
    ) -> None:
        weights = create_model("icnet:width=4", 3).state_dict()
        named = {prefix + name: value for name, value in weights.items()} | {"criterion.weight": torch.ones(3)}
        torch.save({"state_dict": named, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, tmp_path / "a.ckpt")
        network = create_model("icnet:width=4", 3)
        assert load_initial_weights(network, tmp_path / "a.ckpt", OLD) == ""
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())

    def test_heads_for_another_number_of_classes_get_fresh_weights(self, tmp_path: Path) -> None:
        save_file(create_model("icnet:width=4", 5).state_dict(), tmp_path / "a.safetensors")
        remark = load_initial_weights(create_model("icnet:width=4", 3), tmp_path / "a.safetensors", OLD)
        assert "it has another number of classes; classify.bias, classify.weight," in remark
        assert remark.endswith("start with fresh weights for 3 classes")

    def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(self, tmp_path: Path) -> None:
        crater = tmp_path / "crater"
        network = create_model("icnet:width=4", 3)
        (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(crater)))
        torch.save(Bomb(crater), tmp_path / "wrapped.pt")
        torch.save({"model": {"a": Bomb(crater)}}, tmp_path / "inside.pt")
        torch.save({"a": Bomb(crater)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
        for path in tmp_path.glob("*.pt"):
            with pytest.raises(
                CheckpointError, match=f"{path.name} is no checkpoint: it is damaged, or holds more than weights"
            ):
                load_initial_weights(network, path, OLD)
        assert not crater.exists()
        pickle.loads((tmp_path / "plain.pt").read_bytes())
        assert crater.exists(), "it was a real bomb"

    @pytest.mark.parametrize("holds", [{"weight": torch.zeros(3)}, [1], "weights", torch.zeros(3), {"model": 3}])
    def test_weights_of_another_network_are_refused(self, tmp_path: Path, holds: object) -> None:
        torch.save(holds, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match=r"a\.pt holds weights, which does not fit.*: give its --model"):
            load_initial_weights(create_model("icnet:width=4", 3), tmp_path / "a.pt", OLD)


def test_a_colour_checkpoint_initialises_a_grey_network(tmp_path: Path) -> None:
    weights = saved(tmp_path / "best.safetensors", "icnet:width=4")
    network = create_model("icnet:width=4,channels=1", 3)
    load_initial_weights(network, tmp_path / "best.safetensors", OLD)
    torch.testing.assert_close(network.state_dict()["stem.0.0.weight"], weights["stem.0.0.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("changes", "architecture"),
    [
        ({}, "icnet:width=8"),
        ({}, "fcn-resnet18"),
        ({"network": {}}, "icnet:width=4"),
        ({"network": [1]}, "icnet:width=4"),
        ({"classes": 7}, "icnet:width=4"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, changes: dict[str, Any], architecture: str) -> None:
    saved(tmp_path / "best.safetensors", "icnet:width=4", **changes)
    with pytest.raises(CheckpointError, match=r"best.* holds 'icnet:width=4', which does not fit.*: give its --model"):
        load_initial_weights(create_model(architecture, 4), tmp_path / "best.safetensors", ("a", "b", "c", "d"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_the_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    weights = saved(tmp_path / "best.safetensors", "icnet:width=4")
    wrapped = {prefix + name: value for name, value in weights.items()}
    assert strip_wrapper_prefixes(wrapped).keys() == weights.keys()
    state = {"network": wrapped, "architecture": "icnet:width=4", "classes": list(OLD)}
    network = network_from_checkpoint(state, tmp_path / "best.safetensors")
    assert torch.equal(network.state_dict()["classify.weight"], weights["classify.weight"])


def test_a_part_that_is_called_module_keeps_its_name() -> None:
    weights = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert strip_wrapper_prefixes(weights) == weights


def test_a_network_with_options_can_be_trained_exported_and_run(tmp_path: Path) -> None:
    """The road of ``--model fcn-resnet18:step=8,channels=1``: its options reach the model file."""
    console = Console(file=io.StringIO())
    options = TrainOptions(
        data=("synthetic:street,frames=2",),
        output=tmp_path / "run",
        model="fcn-resnet18:step=8,channels=1",
        size=(32, 64),
        crop=(32, 64),
        epochs=1,
        batch=2,
        amp="none",
        workers=0,
        device="cpu",
    )
    train(options, console)
    spec = export_checkpoint(tmp_path / "run" / "last.safetensors", tmp_path / "grey.onnx")
    assert spec.architecture == "fcn-resnet18:channels=1,step=8"
    frames = np.random.default_rng(1).integers(0, 256, (1, 32, 64, 3), dtype=np.uint8)
    labels = []
    for name in ("torch", "onnxruntime"):
        with open_backend(name, tmp_path / "grey.onnx") as backend:
            labels.append(backend.infer(frames).copy())
    np.testing.assert_array_equal(*labels)
