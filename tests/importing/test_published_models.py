"""Real foreign models of ``../shared/models``, each with the options that stand beside it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rtseg.app.evaluate import Evaluation
from rtseg.app.options import EvaluationOptions
from rtseg.cli import main
from rtseg.model_file.load import load_model

pytest.importorskip("onnxruntime")

SHARED = Path(__file__).resolve().parents[3] / "shared"
MODELS = sorted((SHARED / "models").glob("*.onnx"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS, reason="the models of ../shared/models are not here"),
]


def imported(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    output = folder / path.name
    options = shlex.split(path.with_suffix(".args").read_text())
    assert main(["import", str(path), *options, "--output", str(output)]) == 0
    return output, capsys.readouterr().out


@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_every_one_agrees_with_its_original(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, text = imported(path, tmp_path, capsys)
    assert "labels agree with the original on 100.000 % of pixels" in text
    assert "guessed" not in text
    assert load_model(output).spec.classes


@pytest.mark.parametrize(
    ("name", "data", "miou"),
    [
        ("espnet_p2q8_camvid12", "camvid:{0}/data/camvid", 0.694),
        ("espnetv2_s2.0_voc21", "voc:{0}/data/voc_mini", 0.550),
    ],
)
def test_the_miou_is_the_published_one(
    name: str, data: str, miou: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, _ = imported(SHARED / "models" / f"{name}.onnx", tmp_path, capsys)
    options = EvaluationOptions(data.format(SHARED), str(output), "val", backend="openvino", precision="fp32")
    with Evaluation(options) as evaluation:
        assert evaluation.run()["miou"] == pytest.approx(miou, abs=0.001)
