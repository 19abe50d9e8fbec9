"""``--teacher``, ``--unlabelled`` and ``--pseudo``."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import random_network
from rich.console import Console

from rtseg.datasets import open_dataset
from rtseg.datasets.synthetic import SyntheticStreet
from rtseg.errors import CheckpointError, DatasetError, OptionError
from rtseg.model_file.spec import VOID
from rtseg.models.label_network import normalise
from rtseg.system.opencv import cv2
from rtseg.training.checkpoint import load_checkpoint, save_checkpoint
from rtseg.training.options import TrainOptions
from rtseg.training.teacher import Teacher, Teachers, load_teacher, soft_label_loss
from rtseg.training.teaching_options import TeachingOptions
from rtseg.training.train import train
from rtseg.training.unlabelled import UNLABELLED, UnlabelledFrames

CPU = torch.device("cpu")
STREET = tuple(SyntheticStreet.classes)
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 3, 64, 96), dtype=np.uint8))


def teachers(*names: str, **options: object) -> Teachers:
    networks = [Teacher(name, random_network(name), "", "") for name in names or ("icnet:width=4",)]
    return Teachers(networks, TeachingOptions(**options), CPU)  # type: ignore[arg-type]


class TestSoftLabels:
    def test_the_loss_is_zero_only_for_the_teachers_own_distribution(self) -> None:
        logits = torch.randn((2, 5, 6, 8), generator=torch.Generator().manual_seed(1))
        wanted = (logits / 3).softmax(1)
        assert float(soft_label_loss(logits, wanted, 3.0)) == pytest.approx(0, abs=1e-5)
        assert float(soft_label_loss(logits + 7.0, wanted, 3.0)) == pytest.approx(0, abs=1e-5)
        assert float(soft_label_loss(-logits, wanted, 3.0)) > 0.1

    def test_the_loss_is_the_divergence_times_the_square_of_the_temperature(self) -> None:
        wanted = torch.tensor([0.8, 0.2]).view(1, 2, 1, 1)
        got = float(soft_label_loss(torch.zeros(1, 2, 1, 1), wanted, 2.0))
        assert got == pytest.approx(4 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4)), rel=1e-5)

    def test_several_teachers_give_the_mean_of_their_probabilities(self) -> None:
        both = teachers("icnet:width=4", "icnet:width=8").probabilities(IMAGES, 2.0)
        one, other = (teachers(name).probabilities(IMAGES, 2.0) for name in ("icnet:width=4", "icnet:width=8"))
        torch.testing.assert_close(both, (one + other) / 2)
        torch.testing.assert_close(both.sum(1), torch.ones(2, 16, 24))

    def test_mirrored_images_give_mirrored_probabilities(self) -> None:
        flipping = teachers(teacher_flip=True)
        torch.testing.assert_close(
            flipping.probabilities(IMAGES, 1.0).flip(-1), flipping.probabilities(IMAGES.flip(-1), 1.0)
        )

    def test_teachers_of_other_strides_are_resized(self) -> None:
        both = teachers("icnet:width=4", "deeplabv3-mobilenet").probabilities(IMAGES, 1.0)
        assert both.shape == (2, 5, 16, 24)


class TestHardLabels:
    def test_only_unlabelled_pixels_get_a_label_where_the_teachers_are_sure(self) -> None:
        taught = teachers(pseudo=0.5)
        labels = torch.full((2, 64, 96), UNLABELLED)
        labels[:, :20], labels[:, 20:30] = 3, VOID
        filled = taught.fill_labels(IMAGES, labels)
        assert (filled[:, :20] == 3).all()
        assert (filled[:, 20:30] == VOID).all()
        found = filled[:, 30:]
        assert 0 < (found == VOID).float().mean() < 1
        with torch.no_grad():
            logits = taught._networks[0](normalise(IMAGES)).softmax(1)
        sure, best = torch.nn.functional.interpolate(logits, size=(64, 96), mode="bilinear").max(1)
        torch.testing.assert_close(found, torch.where(sure < 0.5, VOID, best)[:, 30:])

    def test_with_hard_labels_there_is_no_soft_loss(self) -> None:
        logits = torch.randn((2, 5, 16, 24))
        assert float(teachers(pseudo=0.5).loss(logits, IMAGES)) == 0
        assert float(teachers().loss(logits, IMAGES)) > 0

    def test_with_soft_labels_unlabelled_pixels_become_void(self) -> None:
        labels = torch.full((2, 64, 96), UNLABELLED)
        assert (teachers().fill_labels(IMAGES, labels) == VOID).all()


def folder(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        cv2.imwrite(str(path / f"{number:02}.png"), np.full((72, 100, 3), 10 * number, np.uint8))
    return path


class TestUnlabelledFrames:
    def test_frames_are_spread_over_the_source(self, tmp_path: Path) -> None:
        like = open_dataset("synthetic:street,frames=2", "train")
        frames = UnlabelledFrames(str(folder(tmp_path / "images", 10)), like, 4)
        assert len(frames) == 4
        assert frames.classes == like.classes
        images = [frames.load(index)[0] for index in range(4)]
        assert [round(float(image.mean()) / 10) for image in images] == [0, 3, 6, 9]
        assert (frames.load(0)[1] == UNLABELLED).all()
        assert frames.load(0)[1].shape == (72, 100)

    def test_an_endless_source_ends_at_the_limit(self) -> None:
        frames = UnlabelledFrames("demo:@96x64", open_dataset("synthetic:street", "train"), 3)
        assert [frames.load(index)[0].shape for index in range(len(frames))] == [(64, 96, 3)] * 3

    def test_too_many_classes_are_refused(self) -> None:
        like = open_dataset("synthetic:street", "train")
        like.classes = tuple(map(str, range(255)))
        with pytest.raises(DatasetError, match="--unlabelled needs at most 254 classes, the data have 255"):
            UnlabelledFrames("demo", like, 3)

    def test_data_with_an_extra_channel_are_refused(self) -> None:
        like = open_dataset("synthetic:street", "train")
        like.channels = 4
        with pytest.raises(DatasetError, match="--unlabelled has images of 3 channels, the data have 4: leave it out"):
            UnlabelledFrames("demo", like, 3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for the classes of the street."""
    path = tmp_path_factory.mktemp("teacher") / "clever.safetensors"
    state = {
        "network": random_network("icnet:width=8", len(STREET)).state_dict(),
        "architecture": "icnet:width=8",
        "classes": list(STREET),
        "palette": [[0, 0, 0]] * len(STREET),
        "trained_on": "secret data",
        "licence": "not for sale",
    }
    save_checkpoint(path, state)
    return path


class TestLoadTeacher:
    def test_a_checkpoint_and_a_bundled_model_can_teach(self, teacher: Path) -> None:
        assert load_teacher(teacher, STREET, 3).trained_on == "secret data"
        bundled = load_teacher(Path("icnet-camvid"), STREET, 3)
        assert bundled.name == "icnet-camvid"
        with torch.no_grad():
            assert bundled.network(normalise(IMAGES)).shape == (2, 11, 16, 24)

    def test_other_classes_are_refused(self, teacher: Path) -> None:
        with pytest.raises(CheckpointError, match=r"clever\.safetensors knows Sky, .*, not a, b: give another one"):
            load_teacher(teacher, ("a", "b"), 3)

    def test_other_channels_are_refused(self, teacher: Path) -> None:
        with pytest.raises(CheckpointError, match="takes other images than the --channels of the training"):
            load_teacher(teacher, STREET, 4)


def options(folder: Path, first_teacher: Path, **changes: object) -> TrainOptions:
    facts = {
        "data": ("synthetic:street,frames=2",),
        "output": folder,
        "teacher": (str(first_teacher),),
        "model": "icnet:width=4",
        "size": (64, 96),
        "crop": (64, 96),
        "epochs": 1,
        "batch": 2,
        "amp": "none",
        "workers": 0,
        "device": "cpu",
    }
    return TrainOptions(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("pseudo", [None, 0.2])
def test_a_run_with_a_teacher_and_unlabelled_frames(tmp_path: Path, teacher: Path, pseudo: float | None) -> None:
    teaching = TeachingOptions(pseudo=pseudo, unlabelled_frames=2)
    wanted = options(tmp_path / "run", teacher, unlabelled=("demo:@96x64",), teaching=teaching)
    train(replace(wanted), Console(file=io.StringIO()))
    saved = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert "2 unlabelled frames + predictions of clever (secret data)" in saved["trained_on"]
    assert saved["licence"].endswith("not for sale")
    assert saved["recipe"]["teaching"]["pseudo"] == pseudo
    assert "teacher" not in saved["recipe"]
    assert saved["network"].keys() == random_network("icnet:width=4", 11).state_dict().keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabelled": ("demo",), "teacher": ()}, "--unlabelled needs a network that labels: give --teacher"),
        ({"teaching": TeachingOptions(pseudo=0.9), "teacher": ()}, "--pseudo needs a network that labels"),
        ({"teaching": TeachingOptions(pseudo=0.9)}, "--pseudo labels unlabelled images: give --unlabelled"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        options(tmp_path, tmp_path / "x", **changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "--temperature must be more than 0"),
        ({"teacher_weight": math.inf}, "--teacher-weight must be more than 0"),
        ({"pseudo": 1.5}, r"--pseudo must be a probability in \[0, 1\], got 1.5"),
        ({"unlabelled_frames": 0}, "--unlabelled-frames must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TeachingOptions(**values)  # type: ignore[arg-type]
