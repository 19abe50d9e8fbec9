from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.cli import main
from rtseg.datasets import open_dataset
from rtseg.deploy.export import export_checkpoint
from rtseg.errors import CheckpointError, DatasetError, OptionError
from rtseg.models import create_model
from rtseg.models.label_network import normalise
from rtseg.preprocess import resize
from rtseg.training.average import average
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint, save_checkpoint

DATA = "synthetic:street,frames=6"
SIZE = (64, 96)


def drawn(path: Path, seed: int, architecture: str = "icnet:width=4", **changes: Any) -> Path:
    """A checkpoint of a network with random weights."""
    torch.manual_seed(seed)
    state = {
        "network": create_model(architecture, len(CLASSES)).state_dict(),
        "architecture": architecture,
        "classes": list(CLASSES),
        "palette": [list(colour) for colour in PALETTE],
        "size": list(SIZE),
        "preprocess": [],
        "trained_on": "drawn streets",
        "licence": "none",
        "validated_on": "nothing",
        "scores": None,
        "recipe": {"seed": seed},
        "epoch": seed,
        "hours": 0.5,
    }
    save_checkpoint(path, state | changes)
    return path


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("three")
    return [drawn(folder / f"{seed}.safetensors", seed) for seed in (1, 2, 3)]


def test_every_weight_is_the_mean_of_the_parts(three: list[Path], tmp_path: Path) -> None:
    assert average(three, tmp_path / "mean.safetensors", data=DATA) is not None
    parts = [load_checkpoint(path)["network"] for path in three]
    mean = load_checkpoint(tmp_path / "mean.safetensors")["network"]
    kernels = [name for name in mean if name.endswith(("weight", "bias"))]
    assert len(kernels) > 50
    for name in kernels:
        torch.testing.assert_close(mean[name], sum(part[name] for part in parts) / 3)


def test_the_statistics_of_batch_norm_are_those_of_the_mean_network_on_the_data(
    three: list[Path], tmp_path: Path
) -> None:
    average(three, tmp_path / "mean.safetensors", data=DATA, batch=6)
    state = load_checkpoint(tmp_path / "mean.safetensors")
    network = network_from_checkpoint(state, tmp_path / "mean.safetensors")
    first = network.get_submodule("stem.0.1")
    seen: list[torch.Tensor] = []
    network.get_submodule("stem.0.0").register_forward_hook(lambda _, inputs, output: seen.append(output))
    dataset = open_dataset(DATA, "train")
    images = [torch.from_numpy(resize(dataset.load(index)[0], SIZE)[..., ::-1].copy()) for index in range(6)]
    with torch.no_grad():
        network(normalise(torch.stack(images).permute(0, 3, 1, 2), 3))
    # Half of the images are mirrored when statistics are taken, which moves borders alone, and resized by another
    # library.
    torch.testing.assert_close(first.running_mean, seen[0].mean((0, 2, 3)), rtol=0.1, atol=0.02)
    torch.testing.assert_close(first.running_var, seen[0].var((0, 2, 3)), rtol=0.1, atol=0.02)


def test_the_mean_is_a_checkpoint_like_any_other(three: list[Path], tmp_path: Path) -> None:
    scores = average(three, tmp_path / "mean.safetensors", data=DATA)
    assert scores is not None
    state = load_checkpoint(tmp_path / "mean.safetensors")
    assert state["scores"]["miou"] == scores.miou
    assert state["validated_on"] == "synthetic street val (6 frames)"
    assert (state["epoch"], state["hours"]) == (3, 1.5)
    assert [part["recipe"]["seed"] for part in state["recipe"]["mean_of"]] == [1, 2, 3]
    spec = export_checkpoint(tmp_path / "mean.safetensors", tmp_path / "mean.onnx")
    assert spec.miou == scores.miou


def test_a_single_checkpoint_keeps_its_weights_and_gets_other_statistics(three: list[Path], tmp_path: Path) -> None:
    average(three[:1], tmp_path / "mean.safetensors", data=DATA)
    before, after = (load_checkpoint(path)["network"] for path in (three[0], tmp_path / "mean.safetensors"))
    assert torch.equal(before["classify.weight"], after["classify.weight"])
    assert not torch.equal(before["stem.0.1.running_mean"], after["stem.0.1.running_mean"])


def test_class_weights_are_kept_if_every_part_records_them(three: list[Path], tmp_path: Path) -> None:
    parts = [
        drawn(tmp_path / f"{number}.safetensors", number, class_weights=[weight] * 10 + [0.0])
        for number, weight in ((4, 1.0), (5, 4.0))
    ]
    average(parts, tmp_path / "mean.safetensors", data=DATA)
    assert load_checkpoint(tmp_path / "mean.safetensors")["class_weights"] == pytest.approx([2.0] * 10 + [0.0])
    average([parts[0], three[0]], tmp_path / "other.safetensors", data=DATA)
    assert load_checkpoint(tmp_path / "other.safetensors")["class_weights"] == []


def test_what_one_part_may_not_be_used_for_the_mean_may_not_either(three: list[Path], tmp_path: Path) -> None:
    bound = drawn(tmp_path / "bound.safetensors", 4, trained_on="CamVid", licence="non-commercial")
    average([*three, bound], tmp_path / "mean.safetensors", data=DATA)
    state = load_checkpoint(tmp_path / "mean.safetensors")
    assert (state["trained_on"], state["licence"]) == ("drawn streets; CamVid", "none; non-commercial")


def test_a_network_without_batch_norm_needs_no_data(tmp_path: Path) -> None:
    parts = [drawn(tmp_path / f"{seed}.safetensors", seed, "fcn32s-vgg11:hidden=4") for seed in (1, 2)]
    assert average(parts, tmp_path / "mean.safetensors") is None
    assert load_checkpoint(tmp_path / "mean.safetensors")["scores"] is None


def test_a_network_that_remembers_can_be_averaged(tmp_path: Path) -> None:
    parts = [drawn(tmp_path / f"{seed}.safetensors", seed, "icnet-gru:width=4") for seed in (1, 2)]
    assert average(parts, tmp_path / "mean.safetensors", data=DATA, batch=2) is not None


class TestRefusals:
    def test_one_checkpoint_has_no_mean(self, three: list[Path], tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="at least two checkpoints, or one and --data"):
            average(three[:1], tmp_path / "mean.safetensors")

    def test_batch_norm_needs_data(self, three: list[Path], tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="icnet:width=4 has batch norm: give --data KIND:PATH"):
            average(three, tmp_path / "mean.safetensors")

    def test_no_checkpoint_is_overwritten(self, three: list[Path]) -> None:
        with pytest.raises(OptionError, match="is one of the checkpoints: give another name"):
            average(three, three[2], data=DATA)

    def test_data_with_other_classes_are_refused(self, three: list[Path], tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"synthetic fringes .* has Outside, .* the checkpoints have Sky"):
            average(three, tmp_path / "mean.safetensors", data="synthetic:fringes,frames=2,size=128x128")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"architecture": "icnet:width=8"}, "another architecture than .*: icnet:width=8 and icnet:width=4"),
            ({"size": [32, 32]}, "another size"),
            ({"classes": [str(number) for number in range(11)]}, "another classes"),
            ({"preprocess": ["clahe"]}, "another preprocess"),
        ],
    )
    def test_different_checkpoints_are_refused(
        self, three: list[Path], tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        other = drawn(tmp_path / "other.safetensors", 4, **changes)
        with pytest.raises(CheckpointError, match=message):
            average([three[0], other], tmp_path / "mean.safetensors", data=DATA)
        assert not (tmp_path / "mean.safetensors").exists()


def test_the_command_says_what_it_wrote(three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mean.safetensors"
    command = ["average", *map(str, three), "--output", str(output), "--data", DATA]
    assert main(command) == 0
    assert f"wrote {output}, the mean of 3 checkpoints, validation mIoU " in capsys.readouterr().out
    assert main(["average", str(three[0]), str(three[1]), "--output", str(tmp_path / "a.pt")]) == 2
    assert "--output must end in .safetensors" in capsys.readouterr().err
