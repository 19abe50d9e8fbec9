from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers.doubles import FakeBackend, blue_graph, wide_spec
from numpy.typing import NDArray

from rtseg.app.options import PredictOptions
from rtseg.app.predict import Prediction, PredictRun
from rtseg.backends.base import Ticket
from rtseg.cli import _end_cleanly_at_sigterm, main
from rtseg.errors import OptionError, SinkError, SourceError, SourceNotFound
from rtseg.model_file.spec import ModelSpec, file_sha256, write_spec

SPEC = wide_spec((4, 6))
"""Metadata of a model that labels every pixel with its blue value."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "wide.onnx"
    model = blue_graph()
    write_spec(model, SPEC)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paint(path: str | Path, blue: int, size: tuple[int, int] = (8, 12)) -> Path:
    """Write an image of one colour, whose label is ``blue``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), (blue, 90, 160), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    return path


def predict(wide: Path, *images: str | Path, **options: Any) -> list[Prediction]:
    """Predict with the model that labels by blue value; return the results of all images."""
    done: list[Prediction] = []
    with PredictRun(PredictOptions(images, Path("out"), str(wide), backend="onnxruntime", **options)) as run:
        run.run(done.append)
    return done


def files(folder: str | Path = "out") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def class_ids(path: str | Path) -> NDArray[np.uint8]:
    with PIL.Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


class TestResults:
    def test_an_image_gets_a_mask_a_colour_map_and_an_overlay_of_its_size(
        self, wide: Path, working_folder: Path
    ) -> None:
        predict(wide, paint("a.png", 7, (9, 13)))
        assert files() == {"masks/a.png", "colours/a.png", "overlays/a.jpg"}
        assert class_ids("out/masks/a.png").shape == (9, 13)
        assert (class_ids("out/masks/a.png") == 7).all()
        with PIL.Image.open("out/masks/a.png") as mask:
            assert (mask.getpalette() or [])[21:24] == list(SPEC.palette[7])
        with PIL.Image.open("out/colours/a.png") as colours:
            assert (colours.mode, colours.size) == ("RGB", (13, 9))
            assert (np.asarray(colours) == SPEC.palette[7]).all()

    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
    def test_the_overlay_blends_image_and_colours_by_alpha(
        self, wide: Path, working_folder: Path, alpha: float
    ) -> None:
        predict(wide, paint("a.png", 7), alpha=alpha)
        overlay = cv2.imread("out/overlays/a.jpg")[..., ::-1].astype(float)
        expected = (1 - alpha) * np.array([160, 90, 7]) + alpha * np.array(SPEC.palette[7])
        assert np.abs(overlay - expected).max() <= 4  # JPEG

    def test_only_the_requested_results_are_written(self, wide: Path, working_folder: Path) -> None:
        (prediction,) = predict(wide, paint("a.png", 7), only=("colours", "masks"))
        assert files() == {"masks/a.png", "colours/a.png"}
        assert prediction.files == {"masks": Path("out/masks/a.png"), "colours": Path("out/colours/a.png")}

    def test_the_labels_equal_those_of_streaming_the_folder(self, icnet_file: Path, working_folder: Path) -> None:
        from rtseg.cli import main

        rng = np.random.default_rng(0)
        for name, size in (("a.png", (90, 130)), ("b.bmp", (64, 96)), ("c.jpg", (200, 160))):
            Path("in").mkdir(exist_ok=True)
            noise = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
            cv2.imwrite(f"in/{name}", cv2.resize(noise, size[::-1]))
        assert main(["stream", "--source", "in", "--model", str(icnet_file), "--masks", "streamed", "--quiet"]) == 0
        with PredictRun(PredictOptions(("in",), Path("out"), str(icnet_file))) as run:
            run.run()
        assert files("streamed") == files("out/masks") == {"a.png", "b.png", "c.png"}
        for name in files("streamed"):
            labels = class_ids(f"out/masks/{name}")
            assert len(np.unique(labels)) > 1
            np.testing.assert_array_equal(labels, class_ids(f"streamed/{name}"))

    def test_each_result_has_size_and_class_shares(self, wide: Path, working_folder: Path) -> None:
        half = np.zeros((8, 12, 3), np.uint8)
        half[:, 6:] = 5
        cv2.imwrite("half.png", half)
        first, second = predict(wide, "half.png", paint("b.png", 9))
        assert (first.image, first.name, first.size, first.fault) == (Path("half.png"), "half.png", (8, 12), None)
        assert {name: share for name, share in first.shares.items() if share} == {"class 0": 0.5, "class 5": 0.5}
        assert second.shares["class 9"] == 1.0

    def test_a_recurrent_model_is_reset_before_each_image(
        self, wide: Path, working_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Sum(FakeBackend):
            """Predicts the sum of the blue values since the last reset."""

            total = 0

            def reset(self) -> None:
                self.total = 0

            def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
                self.total += int(frames[0, 0, 0, 0])
                return super()._submit(np.full_like(frames, self.total))

        monkeypatch.setattr("rtseg.app.predict.open_backend", lambda *args, **options: Sum(SPEC))
        predict(wide, paint("a.png", 3), paint("b.png", 4))
        assert [class_ids(f"out/masks/{name}.png").max() for name in "ab"] == [3, 4]


class TestInputs:
    def test_files_folders_and_globs_keep_their_order_and_each_image_is_used_once(
        self, wide: Path, working_folder: Path
    ) -> None:
        for number, name in enumerate(("in/10.png", "in/2.png", "in/deep/x.png", "b1.jpg", "b2.jpg", "a.png")):
            paint(name, number)
        (working_folder / "in" / "notes.txt").write_text("no image")
        predictions = predict(wide, "b*.jpg", "in", "in/2.png", "./a.png", "a.png", working_folder / "a.png")
        assert [image.name for image in predictions] == ["b1.jpg", "b2.jpg", "in/2.png", "in/10.png", "a.png"]

    def test_an_input_without_an_image_is_refused_and_nothing_is_written(
        self, wide: Path, working_folder: Path
    ) -> None:
        paint("a.png", 1)
        with pytest.raises(SourceNotFound, match=r"\*\.tif matches no image"):
            predict(wide, "a.png", "*.tif")
        assert files(".") == {"a.png"}

    @pytest.mark.parametrize("only", [(), ("masks", "colors")])
    def test_an_unknown_kind_of_result_is_refused_and_the_message_lists_the_known_ones(
        self, wide: Path, working_folder: Path, only: tuple[str, ...]
    ) -> None:
        with pytest.raises(OptionError, match=r"--only must name some of masks, colours, overlays, .*; got"):
            predict(wide, paint("a.png", 1), only=only)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"alpha": 2.0}, "alpha must be in"),
            ({"size": (9, 9)}, "size"),
            ({"precision": "int3"}, "--precision must be one of"),
        ],
    )
    def test_an_invalid_option_is_refused_before_anything_is_written(
        self, wide: Path, working_folder: Path, options: dict[str, Any], message: str
    ) -> None:
        paint("a.png", 1)
        with pytest.raises(OptionError, match=message):
            predict(wide, "a.png", report=Path("r.json"), **options)
        assert files(".") == {"a.png"}


class TestNames:
    def test_results_keep_paths_relative_to_the_common_folder(self, wide: Path, working_folder: Path) -> None:
        paint("top/x/a.png", 1), paint("top/y/a.png", 2), paint("top/y/z/a.png", 3)
        predictions = predict(wide, "top/x", "top/y/**/*.png", only=("masks",))
        assert {name: int(class_ids(f"out/{name}").max()) for name in files()} == {
            "masks/x/a.png": 1,
            "masks/y/a.png": 2,
            "masks/y/z/a.png": 3,
        }
        assert [image.name for image in predictions] == ["x/a.png", "y/a.png", "y/z/a.png"]

    def test_images_keep_their_suffix_in_a_folder_where_two_differ_only_in_it(
        self, wide: Path, working_folder: Path
    ) -> None:
        for number, name in enumerate(("x/a.png", "x/a.bmp", "x/a.png.bmp", "x/b.v2.png", "y/a.png", "y/b.v2.png")):
            paint(name, number)
        predict(wide, "x", "y", only=("masks",))
        masks = {name.removeprefix("masks/"): int(class_ids(f"out/{name}").max()) for name in files()}
        assert masks == {
            "x/a.png.png": 0,
            "x/a.bmp.png": 1,
            "x/a.png.bmp.png": 2,
            "x/b.v2.png.png": 3,
            "y/a.png": 4,
            "y/b.v2.png": 5,
        }

    def test_the_result_of_a_link_has_the_name_of_the_link(self, wide: Path, working_folder: Path) -> None:
        paint("store/0001.png", 6)
        Path("in").mkdir()
        Path("in/car.png").symlink_to(working_folder / "store" / "0001.png")
        predict(wide, "in", only=("masks",))
        assert files() == {"masks/car.png"}

    def test_an_existing_file_with_brackets_is_not_a_glob(self, wide: Path, working_folder: Path) -> None:
        predict(wide, paint("in/[1] a.png", 6), only=("masks",))
        assert files() == {"masks/[1] a.png"}


class TestExistingFiles:
    def test_results_are_replaced_only_with_overwrite(self, wide: Path, working_folder: Path) -> None:
        predict(wide, paint("x/a.png", 1))
        before = {name: (working_folder / "out" / name).read_bytes() for name in files()}
        paint("y/a.png", 2), paint("y/b.png", 3)
        with pytest.raises(OptionError, match=r"3 of 6 results already exist, e\.g\. out/masks/a\.png: .*--overwr"):
            predict(wide, "y")
        assert {name: (working_folder / "out" / name).read_bytes() for name in files()} == before
        predict(wide, "y", overwrite=True)
        assert [int(class_ids(f"out/masks/{name}.png").max()) for name in "ab"] == [2, 3]

    def test_results_may_be_added_to_an_output_folder(self, wide: Path, working_folder: Path) -> None:
        predict(wide, paint("a.png", 1), only=("masks",))
        predict(wide, paint("b.png", 2), only=("masks",))
        predict(wide, "a.png", only=("overlays",))
        assert files() == {"masks/a.png", "masks/b.png", "overlays/a.jpg"}

    def test_the_images_are_never_replaced(self, wide: Path, working_folder: Path) -> None:
        image = paint("out/masks/a.png", 1)
        before = image.read_bytes()
        with pytest.raises(OptionError, match=r"out/masks/a\.png, which is an input: give another --output"):
            predict(wide, image, overwrite=True)
        assert (image.read_bytes(), files()) == (before, {"masks/a.png"})

    @pytest.mark.parametrize("report", ["a.png", "out/masks/a.png", "MODEL"])
    def test_the_report_never_replaces_an_image_a_result_or_the_model(
        self, wide: Path, working_folder: Path, report: str
    ) -> None:
        image = paint("a.png", 1)
        before = image.read_bytes(), file_sha256(wide)
        with pytest.raises(OptionError, match="is an image, a result or the model: give another name"):
            predict(wide, image, report=wide if report == "MODEL" else Path(report), overwrite=True)
        assert (image.read_bytes(), file_sha256(wide)) == before

    def test_an_output_that_is_a_file_is_refused(self, wide: Path, working_folder: Path) -> None:
        Path("out").write_text("mine")
        with pytest.raises(SinkError, match="--output out cannot be written, out is a file"):
            predict(wide, paint("a.png", 1))
        assert Path("out").read_text() == "mine"

    def test_a_file_with_the_name_of_a_result_folder_raises_a_one_line_error(
        self, wide: Path, working_folder: Path
    ) -> None:
        Path("out").mkdir()
        Path("out/colours").write_text("mine")
        with pytest.raises(SinkError, match=r"cannot create the folder out/colours: .*; give another --output"):
            predict(wide, paint("a.png", 1))


class TestUnusableImages:
    @pytest.fixture
    def mixed(self, working_folder: Path) -> Path:
        """Three good and three bad images, alternating."""
        folder = working_folder / "in"
        for number, name in enumerate(("a.png", "c.png", "e.png")):
            paint(folder / name, number + 1)
        (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
        (folder / "d.jpg").write_text("text")
        (folder / "f.png").touch()
        return folder

    def test_unusable_images_are_listed_with_the_reason_and_the_others_are_done(self, wide: Path, mixed: Path) -> None:
        done: list[Prediction] = []
        options = PredictOptions((mixed,), Path("out"), str(wide), only=("masks",))
        with PredictRun(options) as run, pytest.raises(SourceError) as caught:
            run.run(done.append)
        text = str(caught.value)
        assert text.startswith(f"3 of 6 images cannot be used: {mixed / 'b.png'} (damaged")
        assert all(name in text for name in ("d.jpg", "f.png", "the others are done"))
        assert files() == {"masks/a.png", "masks/c.png", "masks/e.png"}
        assert [image.fault is None for image in done] == [True, False] * 3
        assert all(image.size is None and not image.files for image in done if image.fault)

    def test_only_some_of_many_unusable_images_are_listed(self, wide: Path, mixed: Path) -> None:
        for number in range(20):
            (mixed / f"x{number}.png").touch()
        with pytest.raises(SourceError, match=r"^23 of 26 images .* and 20 more; the others are done$"):
            predict(wide, mixed)

    def test_the_message_does_not_mention_others_if_no_image_is_usable(self, wide: Path, working_folder: Path) -> None:
        Path("a.png").touch()
        with pytest.raises(SourceError, match=r"^1 of 1 images cannot be used: a\.png \(damaged .*\)$"):
            predict(wide, "a.png")
        assert files(".") == {"a.png"}

    def test_an_image_deleted_during_the_run_is_unusable(self, wide: Path, mixed: Path) -> None:
        options = PredictOptions((mixed / "a.png", mixed / "c.png"), Path("out"), str(wide))
        with PredictRun(options) as run:
            shutil.rmtree(mixed)
            with pytest.raises(SourceError, match=r"2 of 2 .*a\.png \(No such file or directory\)"):
                run.run()


class TestReport:
    def test_the_report_contains_model_backend_and_all_images(self, wide: Path, working_folder: Path) -> None:
        paint("in/a.png", 1, (9, 13)), paint("in/b.png", 2)
        Path("in/c.png").touch()
        with pytest.raises(SourceError, match="1 of 3"):
            predict(wide, "in", report=Path("r.json"), only=("masks", "overlays"))
        report = json.loads(Path("r.json").read_text())
        assert (report["model"], report["model_sha256"], report["size"]) == ("wide", file_sha256(wide), [4, 6])
        assert (report["backend"], report["output"]) == ("onnxruntime", "out")
        assert {"precision", "device", "runtime_version"} <= set(report)
        first, second = report["images"]
        assert (first["image"], first["size"]) == ("in/a.png", [9, 13])
        assert first["files"] == {"masks": "masks/a.png", "overlays": "overlays/a.jpg"}
        assert list(first["classes"]) == list(SPEC.classes)
        assert (first["classes"]["class 1"], second["classes"]["class 2"]) == (1.0, 1.0)
        assert [bad["image"] for bad in report["unusable"]] == ["in/c.png"]
        assert report["unusable"][0]["fault"].startswith("damaged")

    def test_an_interrupted_run_reports_the_finished_images(self, wide: Path, working_folder: Path) -> None:
        for name in "abc":
            paint(f"in/{name}.png", 1)

        def interrupt(done: Prediction) -> None:
            if done.name == "b.png":
                raise KeyboardInterrupt

        options = PredictOptions(("in",), Path("out"), str(wide), report=Path("r.json"))
        with PredictRun(options) as run, pytest.raises(KeyboardInterrupt):
            run.run(interrupt)
        assert [entry["image"] for entry in json.loads(Path("r.json").read_text())["images"]] == [
            "in/a.png",
            "in/b.png",
        ]
        assert files("out/masks") == {"a.png", "b.png"}


def test_a_model_with_an_extra_channel_reads_it_from_the_file(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch, wide: Path
) -> None:
    spec = ModelSpec("infrared", SPEC.classes, SPEC.palette, (8, 12), channels=4)

    class FourthChannel(FakeBackend):
        """Predicts the fourth channel."""

        def _submit(self, frames: NDArray[np.uint8]) -> Ticket:
            return super()._submit(frames[..., 3:].repeat(3, 3))

    monkeypatch.setattr("rtseg.app.predict.open_backend", lambda *args, **options: FourthChannel(spec))
    cv2.imwrite("a.png", np.full((8, 12, 4), (1, 2, 3, 77), np.uint8))
    paint("b.png", 5)
    with pytest.raises(SourceError, match=r"1 of 2 images cannot be used: b\.png \(has 3 channels"):
        predict(wide, "a.png", "b.png", alpha=0.0)
    assert (class_ids("out/masks/a.png") == 77).all()
    assert np.abs(cv2.imread("out/overlays/a.jpg").astype(int) - (1, 2, 3)).max() <= 4


def test_odd_images_are_told_in_one_line_each_and_in_the_report(
    wide: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = working_folder / "in"
    paint(folder / "a.png", 2)
    PIL.Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(folder / "low.png")
    page = PIL.Image.new("RGB", (6, 4))
    page.save(folder / "stack.tif", save_all=True, append_images=[page, page])
    (folder / "b.gif").touch()
    command = ["predict", str(folder), "--model", str(wide), "--output", "out", "--report", "r.json"]
    assert main([*command, "--only", "masks"]) == 0
    lines = [
        "low.png: values up to 1000 of 65535, so it looks dark: if it has fewer than 16 bits, use --bits 10",
        "stack.tif: 3 images in one file, only the first is used",
        "skipped 1 files (b.gif): not a supported format",
    ]
    assert capsys.readouterr().err.splitlines() == lines
    assert json.loads(Path("r.json").read_text())["notes"] == lines


def test_a_name_that_is_not_utf8_is_reported_escaped(
    wide: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    paint(working_folder / "a.png", 2).rename(working_folder / name)
    assert main(["predict", ".", "--model", str(wide), "--output", "out", "--report", "r.json"]) == 0
    assert json.loads(Path("r.json").read_text())["images"][0]["image"] == name
    assert "caf\\udce9.png" in capsys.readouterr().out
    assert (working_folder / "out" / "masks" / name).exists()


class TestOtherPlaces:
    def test_a_list_names_the_images(self, wide: Path, working_folder: Path) -> None:
        paint("in/a.png", 3)
        paint("in/b.png", 4)
        Path("list.txt").write_text("# chosen\nin/b.png\nin/a.png\n")
        assert [each.image.name for each in predict(wide, "@list.txt", only=("masks",))] == ["b.png", "a.png"]
        assert files() == {"masks/a.png", "masks/b.png"}

    def test_images_are_read_from_an_archive(self, wide: Path, working_folder: Path) -> None:
        pytest.importorskip("fsspec")
        paint("in/x/a.png", 3)
        paint("in/y/b.png", 4)
        shutil.make_archive("in", "zip", "in")
        done = predict(wide, "zip://*/*.png::in.zip", only=("masks",))
        assert [round(each.shares["class 3"] + each.shares["class 4"], 6) for each in done] == [1, 1]
        assert files() == {"masks/x/a.png", "masks/y/b.png"}

    def test_sigterm_leaves_a_report_of_what_is_done(self, wide: Path, working_folder: Path) -> None:
        for number in range(3):
            paint(f"in/{number}.png", number)
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            _end_cleanly_at_sigterm()
            options = PredictOptions(("in",), Path("out"), str(wide), backend="onnxruntime", report=Path("r.json"))
            with PredictRun(options) as run, pytest.raises(SystemExit) as ended:
                run.run(lambda done: os.kill(os.getpid(), signal.SIGTERM))
        finally:
            signal.signal(signal.SIGTERM, before)
        assert ended.value.code == 143
        assert len(json.loads(Path("r.json").read_text())["images"]) >= 1
