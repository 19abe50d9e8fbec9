"""From labelled images to a video of labels, by the commands alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from helpers.doubles import blue_graph, wide_spec

from rtseg.camvid_classes import CLASSES
from rtseg.cli import main
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import write_spec
from rtseg.training.checkpoint import load_checkpoint

DATA = "synthetic:street,frames=4"
TRAIN = ["train", "--data", DATA, "--size", "64x96", "--crop", "64x96", "--batch", "2", "--workers", "0"]
CPU = ["--device", "cpu", "--amp", "none"]
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*TRAIN, *CPU, "--epochs", "2", "--eval-every", "1", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """The model file of its best checkpoint."""
    path = trained.parent / "street.onnx"
    assert main(["export", str(trained / "best.safetensors"), "--output", str(path)]) == 0
    return path


def one_line(said: str) -> str:
    """``said`` if it is one line for a user."""
    assert said.startswith("rtseg: ")
    assert said.count("\n") == 1
    return said


class TestTheWholeRoad:
    def test_training_leaves_both_checkpoints(self, trained: Path) -> None:
        wanted = {"config.json", "metrics.jsonl", "tensorboard", "best.safetensors", "last.safetensors"}
        assert {path.name for path in trained.iterdir()} == wanted

    def test_the_model_file_says_what_the_checkpoint_says(self, trained: Path, exported: Path) -> None:
        state, spec = load_checkpoint(trained / "best.safetensors"), load_model(exported).spec
        assert (spec.name, spec.architecture, spec.size) == ("street", "icnet", (64, 96))
        assert spec.classes == CLASSES
        assert (spec.trained_on, spec.licence) == (state["trained_on"], state["licence"])
        assert (spec.miou, spec.extra["iou"]) == (state["scores"]["miou"], state["scores"]["iou"])
        assert spec.measured_on == "synthetic street val (4 frames), input 64x96"
        assert spec.extra["recipe"]["seed"] == 0
        assert spec.extra["epoch"] == state["epoch"]

    def test_nothing_but_the_model_file_is_left_by_the_export(self, exported: Path) -> None:
        assert {path.name for path in exported.parent.iterdir() if path.is_file()} == {"street.onnx"}

    @pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
    def test_every_backend_scores_what_training_measured(
        self, trained: Path, exported: Path, tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figures = tmp_path / "figures.json"
        options = ["--backend", backend, "--precision", "fp32", "--split", "val", "--report", str(figures)]
        assert main(["eval", "--model", str(exported), "--data", DATA, *options]) == 0
        facts: dict[str, Any] = json.loads(figures.read_text())
        scores = load_checkpoint(trained / "best.safetensors")["scores"]
        assert facts["miou"] == pytest.approx(scores["miou"], abs=0.001)
        assert (facts["backend"], facts["precision"], facts["images"]) == (backend, "fp32", 4)
        assert (facts["data"], facts["size"]) == ("synthetic street val (4 frames)", [64, 96])
        assert set(facts["iou"]) == set(CLASSES)
        assert 0 < facts["pixel_accuracy"] <= 1
        said = capsys.readouterr().out
        assert f"{100 * facts['miou']:.2f}" in said
        assert "pixel accuracy" in said

    def test_the_model_file_runs_on_a_video(self, exported: Path, tmp_path: Path) -> None:
        report = tmp_path / "run.json"
        options = ["--source", "demo:0.2@96x64", "--output", "null", "--report", str(report), "--quiet"]
        assert main(["stream", "--model", str(exported), *options]) == 0
        assert json.loads(report.read_text())["frames_written"] == 5

    def test_the_name_and_the_size_of_a_model_can_be_chosen_and_then_nothing_was_measured(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "a.onnx"
        command = ["export", str(trained / "last.safetensors"), "-o", str(path), "--name", "mine", "--size", "64x64"]
        assert main(command) == 0
        spec = load_model(path).spec
        assert (spec.name, spec.size, spec.miou, spec.measured_on) == ("mine", (64, 64), None, "")
        assert f"wrote {path} (" in capsys.readouterr().out


class TestPreprocessing:
    def test_steps_of_training_are_in_the_model_file_and_give_what_training_measured(self, tmp_path: Path) -> None:
        run, file, figures = tmp_path / "run", tmp_path / "clahe.onnx", tmp_path / "figures.json"
        step = "clahe:clip=4,tiles=2"
        small = ["--epochs", "2", "--eval-every", "2", "--model", "icnet:width=4", "--preprocess", step, "--ema", "0"]
        assert main([*TRAIN, *CPU, *small, "--lr", "1e-2", "--output", str(run)]) == 0
        assert main(["export", str(run / "best.safetensors"), "--output", str(file)]) == 0
        spec = load_model(file).spec
        assert spec.preprocess == (step,)
        words = ["eval", "--model", str(file), "--data", DATA, "--precision", "fp32", "--report", str(figures)]
        assert main(words) == 0
        assert json.loads(figures.read_text())["miou"] == pytest.approx(spec.miou, abs=0.002)


class TestInterrupting:
    def test_before_the_first_epoch_ends_there_is_nothing_to_go_on_with(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("rtseg.training.train._train_step", stop)
        assert main([*TRAIN, *CPU, "--output", str(tmp_path / "run")]) == 130
        assert "stopped; no epoch was finished, so start again" in capsys.readouterr().out

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
    def test_ctrl_c_ends_training_with_130_and_a_checkpoint_to_go_on_from(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        code = (
            "import signal, sys; from rtseg.cli import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
            "sys.exit(main(sys.argv[1:]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *TRAIN, *CPU, "--epochs", "9999", "--output", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        metrics = folder / "metrics.jsonl"
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not (metrics.exists() and metrics.read_text()):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "no epoch ended"
                Event().wait(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
        assert (process.returncode, err) == (130, "")
        assert "--resume" in out
        assert load_checkpoint(folder / "last.safetensors")["epoch"] >= 1


class TestBadInput:
    @pytest.fixture
    def wrong(self, tmp_path: Path) -> Path:
        """Files that are not what they should be."""
        place = tmp_path / "wrong"
        place.mkdir()
        for name in ("text.bin", "text.onnx"):
            (place / name).write_text("This is no such file.\n" * 50)
        (place / "empty.bin").touch()
        model = blue_graph()
        write_spec(model, wide_spec((4, 6)))
        (place / "wide.onnx").write_bytes(model.SerializeToString())
        return place

    @pytest.mark.parametrize(
        "arguments", ["--data camvid:nowhere", "--data synthetic:street,frames=1", "--data x:y --resume"]
    )
    def test_training_is_refused_before_torch_is_loaded(self, tmp_path: Path, arguments: str) -> None:
        code = (
            "import sys; from rtseg.cli import main\nassert main(sys.argv[1:]) == 2\nassert 'torch' not in sys.modules"
        )
        command = [sys.executable, "-c", code, "train", "--output", "run", *arguments.split()]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("command", "told"),
        [
            ("train --output RUN --data camvid:WRONG", "no WRONG/train.txt"),
            ("train --output RUN --data nothing", "--data must be KIND:PATH"),
            ("train --output RUN --data synthetic:street,frames=1", "fewer than --batch 8"),
            ("train --output RUN --data synthetic:street --model lenet", "unknown network 'lenet'"),
            ("train --output RUN --data synthetic:street --size 64", "--size must be HEIGHTxWIDTH"),
            ("train --output RUN --data synthetic:street --crop 60x96", "multiples of 32"),
            ("train --output RUN --data synthetic:street --epochs 0", "--epochs must be more than 0"),
            ("train --output RUN --data synthetic:street --epochs two", "--epochs"),
            ("train --output RUN --data synthetic:street --lr nan", "--lr must be more than 0"),
            ("train --output RUN --data synthetic:street --device tpu", "--device must be one of"),
            ("train --output RUN --data synthetic:street --init WRONG/text.bin", "text.bin is no checkpoint"),
            ("train --output RUN --data synthetic:street,frames=8 --resume", "no checkpoint at RUN/last.safetensors"),
            ("train --output WRONG/text.bin --data synthetic:street,frames=8", "cannot write into WRONG/text.bin"),
            ("train --output RUN", "Missing option '--data'"),
            ("export WRONG/none.bin --output RUN.onnx", "no checkpoint at WRONG/none.bin"),
            ("export WRONG/text.bin --output RUN.onnx", "text.bin is no checkpoint"),
            ("export WRONG/empty.bin --output RUN.onnx", "empty.bin is no checkpoint"),
            ("export WRONG --output RUN.onnx", "no checkpoint at WRONG"),
            ("export BEST --output RUN.txt", "--output must end in .onnx"),
            ("export BEST --output RUN.onnx --size 100x100", "try --size 96x96"),
            ("export BEST --output WRONG/text.bin/a.onnx", "cannot write WRONG/text.bin/a.onnx"),
            ("export BEST --output /proc/a.onnx", "/proc/a.onnx cannot be written"),
            ("eval --data camvid:WRONG", "no WRONG/val.txt"),
            ("eval --data nothing", "--data must be KIND:PATH"),
            ("eval --data synthetic:street --split dev", "splits train, val, test; got 'dev'"),
            ("eval --data synthetic:street --model none", "no model 'none'"),
            ("eval --data synthetic:street --model WRONG/text.onnx", "is not an ONNX file"),
            ("eval --data synthetic:street --model WRONG/wide.onnx", "say what they are with --map-classes"),
            ("eval --data synthetic:street --backend caffe", "unknown backend 'caffe'"),
            ("eval --data synthetic:street --size 9x9", "multiples of 32"),
            ("eval --data synthetic:street,frames=1 --model MODEL --report RUN/a.json", "there is no folder RUN"),
            ("eval", "Missing option '--data'"),
        ],
    )
    def test_it_is_one_line_and_code_2_and_nothing_is_left_behind(
        self, icnet_file: Path, best: Path, wrong: Path, capfd: pytest.CaptureFixture[str], command: str, told: str
    ) -> None:
        places = {"WRONG": wrong, "RUN": wrong.parent / "run", "BEST": best, "MODEL": icnet_file}

        def filled(text: str) -> str:
            for word, place in places.items():
                text = text.replace(word, str(place))
            return text

        before = sorted(wrong.parent.rglob("*"))
        capfd.readouterr()
        assert main(filled(command).split()) == 2
        assert filled(told) in one_line(capfd.readouterr().err)
        assert sorted(wrong.parent.rglob("*")) == before

    @pytest.fixture
    def best(self, trained: Path) -> Path:
        return trained / "best.safetensors"


class TestModels:
    def test_it_lists_the_bundled_models_and_the_networks(
        self, bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert main(["models"]) == 0
        said = capsys.readouterr().out
        assert bundled.stem in said
        assert "384x640" in said
        assert "icnet" in said.splitlines()[-1]

    def test_the_version_is_that_of_the_package(self, capsys: pytest.CaptureFixture[str]) -> None:
        import rtseg

        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"rtseg {rtseg.__version__}\n"

    @pytest.mark.parametrize("arguments", [[], ["--help"]])
    def test_help_names_every_command(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert all(command in said for command in ("stream", "train", "eval", "export", "models"))
