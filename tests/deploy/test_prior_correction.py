from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.cli import main
from rtseg.deploy.export import export_checkpoint
from rtseg.deploy.options import PriorCorrection
from rtseg.deploy.prior_correction import correct_model_file, logit_offsets
from rtseg.errors import ModelError, OptionError
from rtseg.model_file.load import load_model
from rtseg.models.icnet import ICNet
from rtseg.training.checkpoint import save_checkpoint

SIZE = (64, 96)
WEIGHTS = [1.0] * 9 + [4.0, 0.0]
DATA = "synthetic:street,frames=2"


@pytest.fixture(scope="module")
def checkpoint(icnet: ICNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "best.safetensors"
    facts = {
        "network": icnet.state_dict(),
        "architecture": "icnet",
        "classes": list(CLASSES),
        "palette": [list(colour) for colour in PALETTE],
        "size": list(SIZE),
        "preprocess": [],
        "trained_on": "nothing",
        "licence": "none",
        "validated_on": "nothing",
        "scores": {"miou": 0.25, "iou": dict.fromkeys(CLASSES, 0.25), "pixel_accuracy": 0.5},
        "recipe": {"class_weights": "enet"},
        "epoch": 1,
        "hours": 0.0,
        "class_weights": WEIGHTS,
    }
    save_checkpoint(path, facts)
    return path


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> Path:
    path = checkpoint.parent / "plain.onnx"
    export_checkpoint(checkpoint, path)
    return path


def bias(path: Path) -> np.ndarray:
    graph = load_model(path).graph.graph
    (tensor,) = [each for each in graph.initializer if each.name == "network.classify.bias"]
    return numpy_helper.to_array(tensor)


def test_offsets_undo_the_logarithm_of_the_weight() -> None:
    offsets = logit_offsets([1.0, math.e, math.e, 0.0], 0.5, ("road", "pole", "sign", "never"), ["sign"])
    assert offsets == pytest.approx({"road": 0, "pole": -0.5, "sign": 0, "never": 0})


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(OptionError, match="--prior-except: there is no class 'Polle'; the classes are a, b"):
        logit_offsets([1.0, 1.0], 1.0, ("a", "b"), ["Polle"])


def test_checkpoint_and_model_file_get_the_same_bias_and_say_so(checkpoint: Path, plain: Path, tmp_path: Path) -> None:
    correction = PriorCorrection(alpha=0.75)
    of_checkpoint = export_checkpoint(checkpoint, tmp_path / "a.onnx", correction=correction)
    of_file = correct_model_file(plain, tmp_path / "b.onnx", correction, name="a")
    added = bias(tmp_path / "a.onnx") - bias(plain)
    np.testing.assert_allclose(added, [0] * 9 + [-0.75 * math.log(4), 0], atol=1e-6)
    np.testing.assert_array_equal(bias(tmp_path / "a.onnx"), bias(tmp_path / "b.onnx"))
    assert of_checkpoint == of_file == load_model(tmp_path / "b.onnx").spec
    assert (of_file.miou, of_file.measured_on) == (None, "")
    assert of_file.extra["prior_correction"]["alpha"] == 0.75
    assert of_file.extra["prior_correction"]["added"]["Pedestrian"] == pytest.approx(-1.0397)
    assert "iou" not in of_file.extra


def test_weights_that_no_file_records_are_counted_in_the_data(plain: Path, tmp_path: Path) -> None:
    spec = correct_model_file(plain, tmp_path / "b.onnx", PriorCorrection(0.5, ("Pole",), (DATA,)))
    added = spec.extra["prior_correction"]["added"]
    assert added["Road"] > 0 > added["SignSymbol"]
    assert added["Pole"] == 0


def test_a_file_is_corrected_once(plain: Path, tmp_path: Path) -> None:
    correct_model_file(plain, tmp_path / "b.onnx", PriorCorrection(alpha=0.75))
    with pytest.raises(ModelError, match=r"b\.onnx is corrected already"):
        correct_model_file(tmp_path / "b.onnx", tmp_path / "c.onnx", PriorCorrection(alpha=0.75))
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prior-correction", "3"], "--prior-correction must be 0 to 2, got 3"),
        (["--prior-except", "Pole"], "--prior-except and --prior-data need --prior-correction, e.g. 0.75"),
        ([], "is a model file already: only --prior-correction and --margin can change it"),
        (["--prior-correction", "1", "--prior-data", "synthetic:fringes,frames=1"], "has other classes than the model"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    plain: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(plain), "--output", str(tmp_path / "b.onnx"), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "b.onnx").exists()


def test_the_command_corrects_a_model_file(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "b.onnx"
    assert main(["export", str(plain), "--output", str(output), "--prior-correction", "0.5"]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {output} (")
    assert bias(output)[9] < bias(plain)[9]
