from __future__ import annotations

import io
import json
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rtseg.datasets import open_dataset
from rtseg.datasets.evaluate import evaluate
from rtseg.errors import (
    BackendUnavailable,
    CheckpointError,
    DatasetError,
    ModelError,
    OptionError,
    SinkError,
    TrainingError,
)
from rtseg.image_io.options import ReadOptions
from rtseg.metrics.confusion import Scores
from rtseg.models import create_model
from rtseg.models.icnet import ICNet
from rtseg.models.label_network import LabelNetwork
from rtseg.preprocess import resize
from rtseg.system.opencv import cv2
from rtseg.system.output_lock import locked_folder
from rtseg.training.checkpoint import load_checkpoint, network_from_checkpoint, save_checkpoint
from rtseg.training.objective import make_loss, multi_resolution_loss
from rtseg.training.options import Augmentation, TrainOptions
from rtseg.training.train import train

DATA = "synthetic:street,frames=4"
SIZE = (64, 96)
FOLDER = {"config.json", "metrics.jsonl", "tensorboard", "best.safetensors", "last.safetensors"}


def options(output: Path, **changes: Any) -> TrainOptions:
    """Two epochs of two steps each, in fp32 on the CPU: the same on every run."""
    facts: dict[str, Any] = {
        "data": (DATA,),
        "output": output,
        "model": "icnet:width=4",
        "size": SIZE,
        "crop": SIZE,
        "epochs": 2,
        "batch": 2,
        "amp": "none",
        "eval_every": 1,
        "workers": 0,
        "device": "cpu",
    }
    return TrainOptions(**(facts | changes))


def unreachable(*_: Any, **__: Any) -> None:
    raise URLError("no route to host")


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


class Interrupting(Console):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: str) -> None:
        super().__init__(file=io.StringIO())
        self.epoch = epoch

    def print(self, *objects: Any, **settings: Any) -> None:
        if any(str(each).startswith(f"epoch {self.epoch}") for each in objects):
            raise KeyboardInterrupt


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores, str]:
    """The folder of a run of two epochs, its scores and its console output."""
    folder = tmp_path_factory.mktemp("run") / "made" / "by train"
    console = quiet()
    scores = train(options(folder), console)
    assert isinstance(console.file, io.StringIO)
    return folder, scores, console.file.getvalue()


class TestRun:
    def test_the_folder_has_config_metrics_and_both_checkpoints_and_nothing_else(
        self, finished: tuple[Path, Scores, str]
    ) -> None:
        assert {path.name for path in finished[0].iterdir()} == FOLDER

    def test_the_config_is_what_was_asked_for(self, finished: tuple[Path, Scores, str]) -> None:
        config = json.loads((finished[0] / "config.json").read_text())
        assert (config["data"], config["epochs"], config["crop"]) == ([DATA], 2, list(SIZE))
        assert config["torch"] == torch.__version__

    def test_every_epoch_has_a_line_of_metrics(self, finished: tuple[Path, Scores, str]) -> None:
        lines = metrics(finished[0])
        assert [line["epoch"] for line in lines] == [1, 2]
        for line in lines:
            assert np.isfinite(line["loss"])
            assert line["loss"] > 0
            assert 0 <= line["val_miou"] <= 1

    def test_every_epoch_is_printed_with_the_remaining_time(self, finished: tuple[Path, Scores, str]) -> None:
        said = finished[2]
        assert "epoch 1/2  loss" in said
        assert "epoch 2/2  loss" in said
        assert "val mIoU" in said
        assert "ETA" in said

    def test_the_best_checkpoint_scores_what_the_run_says_it_does(self, finished: tuple[Path, Scores, str]) -> None:
        folder, scores, _ = finished
        state = load_checkpoint(folder / "best.safetensors")
        labels_of = LabelNetwork(network_from_checkpoint(state, folder / "best.safetensors"))

        def label(image: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return labels_of(torch.from_numpy(resize(image, SIZE)[None]))[0].numpy()

        again = evaluate(label, open_dataset(DATA, "val"))
        assert again == scores
        assert state["scores"]["miou"] == scores.miou == max(line["val_miou"] for line in metrics(folder))

    def test_the_best_checkpoint_says_how_it_was_made_but_not_where(self, finished: tuple[Path, Scores, str]) -> None:
        state = load_checkpoint(finished[0] / "best.safetensors")
        assert state["architecture"] == "icnet:width=4"
        assert state["size"] == list(SIZE)
        assert state["trained_on"] == "synthetic street train (4 frames)"
        assert state["validated_on"] == "synthetic street val (4 frames)"
        assert state["recipe"]["seed"] == 0
        assert state["recipe"]["batch"] == 2
        assert not {"data", "output", "init", "val_data"} & set(state["recipe"])
        assert str(finished[0]) not in str({key: value for key, value in state.items() if key != "network"})

    def test_the_checkpoint_records_the_class_weights(self, finished: tuple[Path, Scores, str]) -> None:
        weights = load_checkpoint(finished[0] / "best.safetensors")["class_weights"]
        assert len(weights) == 11
        assert weights[3] < 1 < weights[2]  # Road and Pole

    def test_the_averaged_weights_are_not_the_raw_ones(self, finished: tuple[Path, Scores, str]) -> None:
        state = load_checkpoint(finished[0] / "last.safetensors")
        assert not torch.equal(state["network"]["classify.weight"], state["raw_network"]["classify.weight"])

    def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
        self, finished: tuple[Path, Scores, str], tmp_path: Path
    ) -> None:
        first = load_checkpoint(finished[0] / "last.safetensors")["raw_network"]
        train(options(tmp_path / "again"), quiet())
        again = load_checkpoint(tmp_path / "again" / "last.safetensors")["raw_network"]
        assert all(torch.equal(first[name], again[name]) for name in first)
        train(options(tmp_path / "other", seed=1, epochs=1), quiet())
        other = load_checkpoint(tmp_path / "other" / "last.safetensors")["raw_network"]
        assert not torch.equal(first["stem.0.0.weight"], other["stem.0.0.weight"])

    def test_validation_images_can_be_taken_from_the_training_images(self, tmp_path: Path) -> None:
        train(options(tmp_path, epochs=1, split_by="2-fold", fold="1"), quiet())
        state = load_checkpoint(tmp_path / "last.safetensors")
        assert state["trained_on"] == "synthetic street train (4 frames): without part 1 (2 images)"
        assert state["validated_on"] == "synthetic street train (4 frames): part 1 (2 images)"
        assert (state["recipe"]["split_by"], state["recipe"]["fold"]) == ("2-fold", "1")

    def test_bf16_and_sgd_train_too_and_the_last_epoch_is_always_validated(self, tmp_path: Path) -> None:
        scores = train(options(tmp_path, amp="bf16", optimizer="sgd", lr=0.01, epochs=1, eval_every=9), quiet())
        assert 0 <= scores.miou <= 1
        assert "val_miou" in metrics(tmp_path)[0]


class TestResume:
    def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(
        self, finished: tuple[Path, Scores, str], tmp_path: Path
    ) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(options(tmp_path), Interrupting("1/2"))
        assert load_checkpoint(tmp_path / "last.safetensors")["epoch"] == 1
        scores = train(options(tmp_path, resume=True), quiet())
        whole, resumed = (load_checkpoint(folder / "last.safetensors") for folder in (finished[0], tmp_path))
        assert resumed["epoch"] == whole["epoch"] == 2
        for part in ("network", "raw_network"):
            assert whole[part].keys() == resumed[part].keys()
            different = [name for name in whole[part] if not torch.equal(whole[part][name], resumed[part][name])]
            assert not different
        assert resumed["averaged"] == whole["averaged"]
        assert resumed["best_miou"] == whole["best_miou"]
        assert scores == finished[1]

    def test_metrics_are_appended_to_the_same_file(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(options(tmp_path, epochs=3), Interrupting("2/3"))
        train(options(tmp_path, epochs=3, resume=True), quiet())
        assert [line["epoch"] for line in metrics(tmp_path)] == [1, 2, 3]

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"schedule": "step", "optimizer": "sgd", "lr": 0.01, "loss": "ce+dice"},
            {"augmentation": Augmentation(cameras=True, paste=1.0), "class_weight_power": 0.5},
        ],
    )
    def test_two_epochs_and_two_resumed_ones_equal_four(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        train(options(tmp_path / "whole", epochs=4, **changes), quiet())
        with pytest.raises(KeyboardInterrupt):
            train(options(tmp_path / "parts", epochs=4, **changes), Interrupting("2/4"))
        train(options(tmp_path / "parts", epochs=4, resume=True, **changes), quiet())
        whole, parts = (metrics(tmp_path / name) for name in ("whole", "parts"))
        assert [line["epoch"] for line in parts] == [1, 2, 3, 4]
        for key in ("loss", "lr", "val_miou"):
            assert [line[key] for line in parts] == [line[key] for line in whole]

    def test_a_finished_run_has_nothing_left_to_do(self, finished: tuple[Path, Scores, str]) -> None:
        before = (finished[0] / "last.safetensors").read_bytes()
        assert train(options(finished[0], resume=True), quiet()) == finished[1]
        assert (finished[0] / "last.safetensors").read_bytes() == before

    def test_a_new_run_does_not_overwrite_the_one_that_the_folder_holds(
        self, finished: tuple[Path, Scores, str]
    ) -> None:
        before = {path: path.read_bytes() for path in finished[0].rglob("*") if path.is_file()}
        with pytest.raises(OptionError, match="already holds a run: continue it with --resume"):
            train(options(finished[0], epochs=1), quiet())
        assert {path: path.read_bytes() for path in finished[0].rglob("*") if path.is_file()} == before

    def test_resuming_without_a_run_is_refused_and_nothing_is_created(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"no checkpoint at .*last\.safetensors"):
            train(options(tmp_path / "none", resume=True), quiet())
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("resume", [False, True])
    def test_a_second_run_into_the_same_folder_is_refused(self, tmp_path: Path, resume: bool) -> None:
        message = f"^{tmp_path} is being written by another run: choose another --output$"
        with locked_folder(tmp_path), pytest.raises(SinkError, match=message):
            train(options(tmp_path, resume=resume), quiet())
        assert list(tmp_path.iterdir()) == []

    def test_a_run_with_another_optimizer_cannot_be_resumed(
        self, finished: tuple[Path, Scores, str], tmp_path: Path
    ) -> None:
        for name in ("best.safetensors", "last.safetensors"):
            (tmp_path / name).write_bytes((finished[0] / name).read_bytes())
        state = load_checkpoint(tmp_path / "last.safetensors")
        state["optimizer"]["param_groups"] = state["optimizer"]["param_groups"][:1]
        save_checkpoint(tmp_path / "last.safetensors", state)
        with pytest.raises(CheckpointError, match=r"does not fit this run: use the options in config\.json"):
            train(options(tmp_path, resume=True), quiet())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size": (96, 96)}, r"another size \(\[64, 96\], not \[96, 96\]\): use the options in config\.json"),
            ({"loss": "dice"}, r"another loss \(ce, not dice\)"),
            ({"schedule": "step"}, "another schedule"),
            ({"batch": 4}, "another batch"),
            ({"model": "icnet:width=8"}, "is a run of 'icnet:width=4', not of 'icnet:width=8'"),
            ({"data": ("synthetic:fringes,frames=4,size=128x128",)}, "has the classes Sky, .*: give the --data of"),
        ],
    )
    def test_a_run_cannot_be_resumed_with_another_recipe(
        self, finished: tuple[Path, Scores, str], changes: dict[str, Any], message: str
    ) -> None:
        before = {path: path.read_bytes() for path in finished[0].rglob("*") if path.is_file()}
        with pytest.raises(CheckpointError, match=message):
            train(options(finished[0], resume=True, epochs=3, **changes), quiet())
        assert {path: path.read_bytes() for path in finished[0].rglob("*") if path.is_file()} == before

    def test_a_run_resumes_with_more_epochs_and_another_rate_but_not_without_its_best_checkpoint(
        self, finished: tuple[Path, Scores, str], tmp_path: Path
    ) -> None:
        for name in ("best.safetensors", "last.safetensors"):
            (tmp_path / name).write_bytes((finished[0] / name).read_bytes())
        train(options(tmp_path, resume=True, epochs=3, lr=1e-4, eval_every=3), quiet())
        assert load_checkpoint(tmp_path / "last.safetensors")["epoch"] == 3
        (tmp_path / "best.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"best\.safetensors is missing: start again with --init"):
            train(options(tmp_path, resume=True, epochs=4), quiet())


class TestBreaking:
    def test_an_infinite_gradient_stops_the_run_before_the_step(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
        with pytest.raises(TrainingError, match="the gradient is inf in epoch 1, step 1, at learning rate"):
            train(options(tmp_path), quiet())
        assert not (tmp_path / "last.safetensors").exists()

    def test_weights_that_are_not_finite_are_never_saved(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rtseg.training.state.TrainingState.is_finite", False)
        with pytest.raises(TrainingError, match="the weights are NaN or infinite after epoch 1; start again"):
            train(options(tmp_path), quiet())
        assert not list(tmp_path.glob("*.safetensors"))

    def test_an_image_lost_during_training_is_reported_in_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(*_: object) -> None:
            raise DatasetError("cannot read a.png: it is gone")

        monkeypatch.setattr("rtseg.training.augment.RandomViews.view", lost)
        with pytest.raises(DatasetError, match=r"^cannot read a\.png: it is gone$"):
            train(options(tmp_path), quiet())

    def test_files_are_read_through_the_cache_which_the_config_names(self, tmp_path: Path) -> None:
        labelled = tmp_path / "labelled"
        for name in ("images", "masks"):
            (labelled / name).mkdir(parents=True)
            for number in range(6):
                noise = np.random.default_rng(number).integers(0, 2, SIZE, dtype=np.uint8)
                assert cv2.imwrite(str(labelled / name / f"{number}.png"), noise)
        data = f"pairs:{labelled}/images,{labelled}/masks,classes=a+b,val=[45]"
        cache = tmp_path / "cache"
        train(options(tmp_path / "run", data=(data,), epochs=1, reading=ReadOptions(ssd_cache=cache)), quiet())
        assert len(list(cache.rglob("*.entry"))) == 12
        assert json.loads((tmp_path / "run" / "config.json").read_text())["reading"]["ssd_cache"] == str(cache)
        assert "reading" not in load_checkpoint(tmp_path / "run" / "best.safetensors")["recipe"]

    def test_a_full_disk_under_tensorboard_is_reported_and_the_epoch_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_image", full)
        with pytest.raises(
            SinkError, match=r"cannot write .*/tensorboard \(.*No space left.*\): make room and --resume"
        ):
            train(options(tmp_path), quiet())
        assert load_checkpoint(tmp_path / "last.safetensors")["epoch"] == 1

    def test_a_bad_validation_image_is_reported_before_training(self, tmp_path: Path) -> None:
        for folder in ("p", "m"):
            (tmp_path / folder).mkdir()
            for name in ("1", "2", "bad"):
                side = (10, 10) if (folder, name) == ("m", "bad") else (64, 96)
                cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.zeros(side, np.uint8))
        data = f"pairs:{tmp_path / 'p'},{tmp_path / 'm'},classes=a+b"
        with pytest.raises(DatasetError, match=r"bad\.png"):
            train(options(tmp_path / "run", data=(f"{data},val=b*",)), quiet())
        assert not (tmp_path / "run").exists()

    def test_a_nan_loss_stops_the_run_and_the_last_good_epoch_is_kept(self, tmp_path: Path) -> None:
        train(options(tmp_path, epochs=1), quiet())
        before = {name: (tmp_path / name).read_bytes() for name in ("best.safetensors", "last.safetensors")}
        state = load_checkpoint(tmp_path / "last.safetensors")
        state["raw_network"]["classify.bias"][0] = float("nan")
        save_checkpoint(tmp_path / "last.safetensors", state)
        message = (
            r"the loss is nan in epoch 2, step 1, at learning rate 0\.\d+, on image \d of synthetic street.*; "
            r".*last\.safetensors holds epoch 1: --resume, or if that fails too start again with a smaller --lr"
        )
        broken = (tmp_path / "last.safetensors").read_bytes()
        with pytest.raises(TrainingError, match=message):
            train(options(tmp_path, resume=True), quiet())
        assert (tmp_path / "last.safetensors").read_bytes() == broken != before["last.safetensors"]
        assert (tmp_path / "best.safetensors").read_bytes() == before["best.safetensors"]
        assert len(metrics(tmp_path)) == 1

    def test_a_learning_rate_that_is_too_high_is_reported_before_anything_is_saved(self, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"in epoch 1, .*; start again with a smaller --lr than 1e\+30"):
            train(options(tmp_path, lr=1e30, optimizer="sgd", epochs=1), quiet())
        assert not (tmp_path / "last.safetensors").exists()


class TestChoices:
    @pytest.mark.parametrize(
        "changes",
        [
            {"optimizer": "adam", "schedule": "cosine", "loss": "asymmetric"},
            {"amp": "fp16", "loss": "ohem"},
            {"model": "icnet-gru:width=4", "clip": 3},
            {"channels": 1},
            {"preprocess": ("clahe:clip=2,tiles=4",), "augmentation": Augmentation(rotation=180.0, flips="both")},
            {"loss_weights": (1.0, 0.0, 0.0), "class_weights": "median", "loss": "lovasz"},
        ],
        ids=lambda changes: "-".join(changes),
    )
    def test_a_run_with_other_options_trains_and_records_them(self, tmp_path: Path, changes: dict[str, Any]) -> None:
        scores = train(options(tmp_path, epochs=1, **changes), quiet())
        assert 0 <= scores.miou <= 1
        state = load_checkpoint(tmp_path / "best.safetensors")
        for name, value in changes.items():
            if name in ("model", "channels"):
                continue
            wanted = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            assert state["recipe"][name] == json.loads(json.dumps(wanted))
        begun = create_model(state["architecture"], 11).state_dict()
        assert state["network"].keys() == begun.keys()

    def test_the_number_of_channels_reaches_the_checkpoint(self, tmp_path: Path) -> None:
        train(options(tmp_path, epochs=1, channels=1), quiet())
        assert load_checkpoint(tmp_path / "best.safetensors")["architecture"] == "icnet:channels=1,width=4"

    def test_without_a_network_published_weights_are_an_error_and_nothing_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
        monkeypatch.setattr("torch.hub.urlopen", unreachable)
        with pytest.raises(CheckpointError, match="cannot download the published weights https://"):
            train(options(tmp_path / "run", model="fcn-resnet18", pretrained=True), quiet())
        assert not (tmp_path / "run").exists()

    def test_tensorboard_has_scalars_and_images(self, finished: tuple[Path, Scores, str]) -> None:
        board = EventAccumulator(str(finished[0] / "tensorboard"))
        board.Reload()
        assert [event.step for event in board.Scalars("train/loss")] == [1, 2]
        assert [event.value for event in board.Scalars("val/miou")] == pytest.approx(
            [line["val_miou"] for line in metrics(finished[0])]
        )
        assert "val/iou/Road" in board.Tags()["scalars"]
        shown = board.Images("val/0")[-1]
        assert (shown.height, shown.width) == (SIZE[0], 2 * SIZE[1])


class TestInit:
    def test_training_starts_from_the_averaged_weights_of_the_checkpoint(
        self, finished: tuple[Path, Scores, str], tmp_path: Path
    ) -> None:
        path = finished[0] / "last.safetensors"
        train(options(tmp_path, init=path, epochs=1, lr=1e-30, seed=9), quiet())
        begun = load_checkpoint(path)["network"]
        kept = load_checkpoint(tmp_path / "last.safetensors")["raw_network"]
        kernels = [name for name in begun if begun[name].ndim == 4]
        assert len(kernels) > 50
        assert all(torch.equal(begun[name], kept[name]) for name in kernels)

    def test_a_missing_checkpoint_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            train(options(tmp_path / "run", init=tmp_path / "none.pt"), quiet())


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"batch": 5}, DatasetError, "4 training images are fewer than --batch 5"),
            ({"data": ("camvid:/nowhere",)}, DatasetError, "no /nowhere/train.txt"),
            ({"data": ("images:/nowhere",)}, OptionError, "--data must be KIND:PATH"),
            ({"val_data": "camvid:/nowhere"}, DatasetError, "no /nowhere/val.txt"),
            ({"model": "lenet"}, OptionError, "unknown network 'lenet'"),
            ({"loss_weights": (1.0, 0.4)}, OptionError, "must be 3 numbers, e.g. 1.0/0.4/0.4"),
            ({"preprocess": ("sharpen",)}, ModelError, "unknown preprocessing step 'sharpen'"),
            ({"crop": (60, 96)}, OptionError, "got 60x96: try --crop 64x96"),
            ({"size": (64, 90)}, OptionError, "got 64x90: try --size 64x96"),
        ],
    )
    def test_unusable_options_are_refused_and_nothing_is_created(
        self, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            train(options(tmp_path / "run", **changes), quiet())
        assert not (tmp_path / "run").exists()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
    def test_a_missing_gpu_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(BackendUnavailable, match="use --device cpu"):
            train(options(tmp_path / "run", device="cuda"), quiet())

    def test_an_output_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "run").touch()
        with pytest.raises(SinkError, match=r"cannot write into .*run: File exists; choose another --output"):
            train(options(tmp_path / "run"), quiet())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"optimizer": "lamb"}, "--optimizer must be one of adamw, adam, sgd, got 'lamb'"),
            ({"amp": "fp8"}, "--amp must be one of bf16, fp16, none"),
            ({"schedule": "flat"}, "--schedule must be one of poly, cosine, step"),
            ({"channels": 5}, "--channels must be 1 to 4, got 5"),
            ({"loss": "hinge"}, "--loss"),
            ({"clip": 1}, "--clip must be at least 2 frames, got 1"),
            ({"seed": 1 << 40}, "--seed must be 0 to 2147483647"),
            ({"loss_weights": (0.0, 0.0, 0.0)}, "--loss-weights must not be negative or all 0, got 0.0/0.0/0.0"),
            ({"loss_weights": (1.0, -1.0)}, "--loss-weights must not be negative"),
            ({"weight_decay": -0.1}, "--weight-decay must not be negative, got -0.1"),
            ({"pretrained": True, "init": Path("a")}, "--pretrained and --init both set the initial weights"),
            ({"class_weights": "best"}, "--class-weights must be one of none, enet, median"),
            ({"split_by": "drive"}, "--split-by must be video, folder or e.g. 5-fold, got 'drive'"),
            ({"split_by": "1-fold"}, "--split-by must be video"),
            ({"split_by": "video", "val_data": DATA}, "--split-by and --val-data both define the validation images"),
            ({"class_weight_power": 3.0}, "--class-weight-power must be 0 to 2, got 3"),
            ({"device": "tpu"}, "--device must be one of auto, cpu, cuda"),
            ({"epochs": 0}, "--epochs must be more than 0, got 0"),
            ({"lr": 0.0}, "--lr must be more than 0"),
            ({"lr": float("nan")}, "--lr must be more than 0, got nan"),
            ({"eval_every": 0}, "--eval-every must be more than 0"),
            ({"batch": 1}, r"--batch must be at least 2 for batch norm, got 1"),
            ({"ema": 1.0}, r"--ema must be in \[0, 1\), got 1.0"),
            ({"workers": -1}, "--workers must not be negative"),
            ({"data": ()}, "training needs --data KIND:PATH"),
        ],
    )
    def test_an_option_out_of_range_is_named_with_its_value(
        self, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(OptionError, match=message):
            replace(options(tmp_path), **changes)


def test_the_loss_falls_when_one_batch_is_shown_again_and_again() -> None:
    torch.manual_seed(0)
    network = ICNet(3).train()
    labels = torch.arange(3).repeat_interleave(32).expand(4, 64, 96).clone()
    images = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float() + 0.1 * torch.randn(4, 3, 64, 96)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    loss_of = make_loss("ce", torch.ones(3))
    losses = []
    for _ in range(8):
        loss = multi_resolution_loss(network(images), labels, network.loss_weights, loss_of, coarse=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
