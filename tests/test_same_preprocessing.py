"""Training, calibration, streaming, prediction and evaluation feed a network the same bytes for the same file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.small_network import SIZE, SPEC, small_data, small_model
from numpy.typing import NDArray

from rtseg.app.evaluate import Evaluation
from rtseg.app.options import EvaluationOptions, PredictOptions, StreamOptions
from rtseg.app.predict import PredictRun
from rtseg.app.stream import StreamRun
from rtseg.backends.base import Backend, Ticket
from rtseg.datasets import open_dataset
from rtseg.deploy.calibrate import calibrate
from rtseg.deploy.options import CalibrateOptions
from rtseg.model_file.load import load_model
from rtseg.preprocess import Prepare, parse_steps

Bytes = NDArray[np.uint8]

COUNT = 24
HEIGHT, WIDTH = SIZE


class RecordingBackend(Backend):
    """Records every image that it gets, and predicts class 0 everywhere."""

    name, precision, device, version, model_sha256 = "recording", "fp32", "CPU", "1", "0" * 64

    def __init__(self) -> None:
        self.spec = SPEC
        self.images: list[Bytes] = []

    def _submit(self, frames: Bytes) -> Ticket:
        self.images.extend(frames.copy())
        return Ticket(len(frames), frames)

    def _wait(self, ticket: Ticket) -> Bytes:
        return np.zeros((ticket.handle, *SIZE), np.uint8)


@pytest.fixture(params=["grey", "colour"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, masks and the file ``still, scene.png``; it is the working folder."""
    random = np.random.default_rng(4)
    shape = (4 * HEIGHT, 3 * WIDTH) if request.param == "grey" else (4 * HEIGHT, 3 * WIDTH, 3)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    scene = cv2.GaussianBlur(random.integers(0, 256, shape, dtype=np.uint8), (0, 0), 9)
    cv2.imwrite(str(tmp_path / "still, scene.png"), scene)
    for number in range(COUNT):
        noise = cv2.GaussianBlur(random.integers(0, 256, shape, dtype=np.uint8), (0, 0), 2).astype(int)
        cv2.imwrite(str(tmp_path / "images" / f"{number:02}.png"), np.clip(scene + 3 * (noise - 128), 0, 255))
        mask = random.integers(0, 3, shape[:2], dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "masks" / f"{number:02}.png"), mask)
    monkeypatch.chdir(tmp_path)
    return tmp_path


STEPS = parse_steps("resize,background:still, scene.png,clahe:clip=3,tiles=4")
DATA = f"pairs:images,masks,classes={'+'.join(SPEC.classes)}"


def reference(path: Path) -> Bytes:
    """Apply the steps directly with OpenCV, always in colour."""
    image, still = (
        cv2.resize(cv2.imread(str(file), cv2.IMREAD_COLOR), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for file in (path, Path("still, scene.png"))
    )
    difference = np.clip(image.astype(int) - still + 128, 0, 255).astype(np.uint8)
    lab = cv2.cvtColor(difference, cv2.COLOR_BGR2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=3, tileGridSize=(4, 4)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2BGR), dtype=np.uint8)


def references() -> list[Bytes]:
    return [reference(path) for path in sorted(Path("images").iterdir())]


def use_recording_backend(monkeypatch: pytest.MonkeyPatch, module: str) -> RecordingBackend:
    backend = RecordingBackend()
    monkeypatch.setattr(f"{module}.open_backend", lambda *_, **__: backend)
    return backend


@pytest.mark.usefixtures("files")
class TestTheSameBytes:
    def test_in_streaming(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = use_recording_backend(monkeypatch, "rtseg.app.model_pool")
        StreamRun(StreamOptions(source="images", output=("null",), preprocess=STEPS)).run()
        np.testing.assert_array_equal(backend.images, references())

    def test_in_prediction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = use_recording_backend(monkeypatch, "rtseg.app.predict")
        with PredictRun(PredictOptions(("images",), Path("out"), only=("masks",), preprocess=STEPS)) as run:
            run.run()
        np.testing.assert_array_equal(backend.images, references())

    def test_in_evaluation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = use_recording_backend(monkeypatch, "rtseg.app.evaluate")
        with Evaluation(EvaluationOptions(DATA, "icnet-camvid", "train", preprocess=STEPS)) as evaluation:
            evaluation.run()
            expected = [reference(Path(evaluation.dataset.title(index))) for index in range(len(evaluation.dataset))]
        assert len(expected) > COUNT // 2
        np.testing.assert_array_equal(backend.images, expected)

    def test_in_calibration(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        recorded: list[Bytes] = []

        class RecordedError(Exception):
            """Stops the calibration once the images are recorded."""

        def record_ranges(model: Any, images: Any, *_: Any) -> None:
            recorded.extend(images)
            raise RecordedError

        monkeypatch.setattr("rtseg.deploy.calibrate.record_ranges", record_ranges)
        with pytest.raises(RecordedError):
            calibrate(CalibrateOptions(small_model(tmp_path).path, DATA, frames=10, preprocess=STEPS))
        expected = {image.tobytes() for image in references()}
        assert len(expected) == COUNT
        assert len({image.tobytes() for image in recorded} & expected) == len(recorded) == 10

    def test_in_training(self) -> None:
        from rtseg.training.augment import Augmentation, RandomViews

        dataset = open_dataset(DATA, "train")
        still = Augmentation(scale=(1.0, 1.0), stretch=1.0, flips="none", colour=False)
        prepare = Prepare(replace(SPEC, preprocess=STEPS or ()))
        views = RandomViews([dataset], SIZE, size=SIZE, augmentation=still, seed=0, prepare=prepare)
        assert len(views) > COUNT // 2
        for index in range(len(views)):
            rgb = views[index][0].numpy()
            np.testing.assert_array_equal(rgb[::-1].transpose(1, 2, 0), reference(Path(views.title(index))))


@pytest.mark.usefixtures("files")
def test_reports_contain_the_steps_used_and_the_steps_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    use_recording_backend(monkeypatch, "rtseg.app.model_pool")
    run = StreamRun(StreamOptions(source="images", output=("null",), preprocess=STEPS))
    run.run()
    assert run.report()["preprocess"] == ["background:still, scene.png", "clahe:clip=3,tiles=4"]
    assert run.report()["preprocess_of_model"] == []
    assert any("small was trained with resize" in notice for notice in run.notices)
    use_recording_backend(monkeypatch, "rtseg.app.evaluate")
    with Evaluation(EvaluationOptions(DATA, "icnet-camvid", "train")) as evaluation:
        facts = evaluation.run([0])
        assert evaluation.notice == ""
    assert facts["preprocess"] == facts["preprocess_of_model"] == []


def test_ranges_and_the_quantized_graph_contain_the_steps_used_for_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, messages = small_model(tmp_path), list[str]()
    data = small_data(model, tmp_path / "data")
    options = CalibrateOptions(
        model.path, data, method="minmax", frames=10, save_model=Path("int8.onnx"), preprocess=("clahe:clip=1",)
    )
    done = calibrate(options, notify=messages.append)
    assert load_model(Path("int8.onnx")).spec.preprocess == ("clahe:clip=1",)
    assert messages[0] == "images are prepared by resize,clahe:clip=1; small was trained with resize"
    assert done.ranges.data.endswith(messages[0])
