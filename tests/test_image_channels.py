"""Images with an extra channel (grey + 1 or BGR + 1), from the file to the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.doubles import UINT8, FakeBackend, FakeSink, FakeSource, blue_graph, wide_spec
from helpers.extra_channel_images import png, to_tensor
from numpy.typing import NDArray
from onnx import numpy_helper

from rtseg.backends import open_backend
from rtseg.cli import main
from rtseg.datasets import open_dataset
from rtseg.datasets.check import check_data
from rtseg.datasets.mask_files import read_mask
from rtseg.errors import DatasetError, ModelError, OptionError, SourceError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec, write_spec
from rtseg.pipeline.runner import Pipeline
from rtseg.preprocess import Prepare, clahe, resize
from rtseg.sources import open_source
from rtseg.system.opencv import cv2
from rtseg.visualize.overlay import VIEWS, Overlay, OverlayOptions

SIZE = (4, 6)
TINY = (64, 96)
KINDS = [2, 4]
STORED = {2: [0, 1], 4: [2, 1, 0, 3]}
"""Order of an image's channels in a file: grey and extra, or RGB and extra."""
CLASSES = "+".join(f"class {number}" for number in range(200))

pytestmark = pytest.mark.usefixtures("no_thread_left")


def pixels(channels: int, seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Return a noise image with values below 200, so that every value can be a class."""
    return np.random.default_rng([channels, seed]).integers(0, 200, (*size, channels), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for images."""
    path = tmp_path / "images"
    path.mkdir()
    return path


def save(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image with 2 or 4 channels as a PNG."""
    path.write_bytes(png(image[..., STORED[image.shape[2]]]))


def last_channel_graph(channels: int) -> onnx.ModelProto:
    """Return a graph whose labels are its last input channel."""
    graph = blue_graph(frames=("frames", UINT8, ["N", *SIZE, channels]))
    for tensor in graph.graph.initializer:
        if tensor.name in ("start", "end"):
            value = channels - 1 if tensor.name == "start" else channels
            tensor.CopyFrom(numpy_helper.from_array(np.array([value]), tensor.name))
    return graph


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model file with ``request.param`` channels that labels each pixel with its last channel."""
    graph = last_channel_graph(request.param)
    write_spec(graph, wide_spec(SIZE, channels=request.param))
    path = tmp_path / "last.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


class TestModelFile:
    @pytest.mark.parametrize("channels", KINDS)
    def test_metadata_store_the_channels_and_default_to_three(self, channels: int) -> None:
        spec = wide_spec(channels=channels)
        assert ModelSpec.from_json(spec.to_json()) == spec
        facts = json.loads(spec.to_json())
        del facts["channels"]
        assert ModelSpec.from_json(json.dumps(facts)).channels == 3

    @pytest.mark.parametrize("channels", [0, 1, 5, 3.0, "3", None])
    def test_an_unsupported_number_of_channels_is_refused(self, channels: object) -> None:
        with pytest.raises(ModelError, match="channels must be 2, 3, 4, got"):
            wide_spec(channels=channels)

    @pytest.mark.parametrize("channels", KINDS)
    def test_a_graph_whose_channels_differ_from_the_metadata_is_refused(self, channels: int, tmp_path: Path) -> None:
        graph = last_channel_graph(channels)
        write_spec(graph, wide_spec(SIZE))
        path = tmp_path / "other.onnx"
        path.write_bytes(graph.SerializeToString())
        with pytest.raises(ModelError, match=rf"expected one input frames: uint8 \(N, 4, 6, 3\), .*4, 6, {channels}"):
            load_model(path)


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 4])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model file of a small network with ``request.param`` channels and random weights."""
    import torch

    from rtseg.deploy.export import export_network
    from rtseg.models import create_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = create_model("icnet:width=4", 3, channels=request.param)
        network.train()
        with torch.no_grad():  # update batch norm statistics, else the deep layers have almost no effect
            for _ in range(3):
                network(torch.randn(4, request.param, *TINY))
    palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    spec = ModelSpec("channels", ("a", "b", "c"), palette, TINY, request.param, architecture=network.architecture)
    path = tmp_path_factory.mktemp("channels") / "channels.onnx"
    export_network(network, spec, path)
    return path


class TestNetwork:
    def test_every_backend_agrees_with_torch_also_at_another_size(self, exported: Path) -> None:
        channels = load_model(exported).spec.channels
        for size in (TINY, (96, 64)):
            frames = np.stack([resize(pixels(channels, seed, (8, 8)), size) for seed in range(4)])
            labels = {}
            for name in ("torch", "onnxruntime", "openvino"):
                with open_backend(name, exported, size=size, precision="fp32") as backend:
                    assert backend.spec.channels == channels
                    labels[name] = np.concatenate([backend.infer(frame[None]).copy() for frame in frames])
            assert len(np.unique(labels["torch"])) > 1
            for name in ("onnxruntime", "openvino"):
                assert (labels[name] == labels["torch"]).mean() >= 0.999

    def test_every_channel_affects_the_labels(self, exported: Path) -> None:
        channels = load_model(exported).spec.channels
        frame = resize(pixels(channels, 1, (8, 8)), TINY)
        with open_backend("onnxruntime", exported) as backend:
            labels = backend.infer(frame[None]).copy()
            for channel in range(channels):
                changed = frame.copy()
                changed[..., channel] = 255 - changed[..., channel]
                assert (backend.infer(changed[None]) != labels).any(), f"channel {channel}"

    def test_frames_without_the_extra_channel_are_refused_and_the_message_has_the_shape(self, exported: Path) -> None:
        with open_backend("onnxruntime", exported) as backend:
            expected = rf"\(N, 64, 96, {backend.spec.channels}\), got uint8 \(1, 64, 96, 3\)"
            with pytest.raises(ValueError, match=expected):
                backend.submit(np.zeros((1, *TINY, 3), np.uint8))


class TestPrepare:
    @pytest.mark.parametrize("channels", KINDS)
    @pytest.mark.parametrize("size", [(40, 60), (200, 300), (97, 51)])
    def test_each_channel_is_resized_independently(self, channels: int, size: tuple[int, int]) -> None:
        image = pixels(channels, size=(80, 120))
        out = resize(image, size)
        assert (out.dtype, out.shape) == (np.uint8, (*size, channels))
        for channel in range(channels):
            alone = resize(np.ascontiguousarray(image[..., [channel] * 3]), size)[..., 0]
            assert np.abs(out[..., channel].astype(int) - alone).max() <= 1

    def test_clahe_does_not_change_the_extra_channel(self) -> None:
        image = pixels(4, size=(80, 120)) // 8
        out = clahe(image)
        np.testing.assert_array_equal(out[..., :3], clahe(np.ascontiguousarray(image[..., :3])))
        np.testing.assert_array_equal(out[..., 3], image[..., 3])
        assert (out[..., :3] != image[..., :3]).any()

    def test_clahe_of_two_channels_is_applied_to_the_grey_channel(self) -> None:
        image = pixels(2, size=(80, 120)) // 8
        out = clahe(image)
        expected = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(np.ascontiguousarray(image[..., 0]))
        np.testing.assert_array_equal(out[..., 0], expected)
        np.testing.assert_array_equal(out[..., 1], image[..., 1])
        assert out[..., 0].std() > 2 * image[..., 0].std()

    @pytest.mark.parametrize("channels", KINDS)
    def test_the_background_is_subtracted_from_every_channel(self, channels: int, tmp_path: Path) -> None:
        background, image = pixels(channels, 1), pixels(channels, 2)
        save(tmp_path / "still.png", background)
        steps = (f"background:{tmp_path / 'still.png'}",)
        out = Prepare(wide_spec(SIZE, channels=channels, preprocess=steps))(image)
        np.testing.assert_array_equal(out, (image.astype(int) - background + 128).clip(0, 255))

    def test_a_background_without_the_extra_channel_is_refused(self, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "still.png"), pixels(3))
        steps = (f"background:{tmp_path / 'still.png'}",)
        with pytest.raises(OptionError, match=r"still\.png has 3 channels, not the required 4"):
            Prepare(wide_spec(SIZE, channels=4, preprocess=steps))


@pytest.mark.parametrize("view", VIEWS)
def test_the_overlay_ignores_the_extra_channel(view: str) -> None:
    four, two = pixels(4, size=(32, 48)), pixels(2, size=(32, 48))
    labels = np.zeros((32, 48), np.uint8)
    labels[16:] = 1
    overlay = Overlay(wide_spec(), OverlayOptions(view=view, contours=True))
    for image, visible in ((four, four[..., :3]), (two, two[..., [0, 0, 0]])):
        np.testing.assert_array_equal(overlay.draw(image, labels), overlay.draw(np.ascontiguousarray(visible), labels))


class TestSources:
    @pytest.mark.parametrize("channels", KINDS)
    def test_a_folder_gives_the_requested_channels(self, channels: int, folder: Path) -> None:
        for seed in range(3):
            save(folder / f"{seed}.png", pixels(channels, seed))
        source = open_source(folder)
        source.set_output_format(channels)
        for seed, frame in enumerate(source):
            np.testing.assert_array_equal(frame.image, pixels(channels, seed))
        assert frame.index == 2

    def test_an_image_without_the_extra_channel_raises_after_the_images_before_it(self, folder: Path) -> None:
        save(folder / "0.png", pixels(4))
        (folder / "1.png").write_bytes(b"damaged")
        cv2.imwrite(str(folder / "2.png"), pixels(3))
        source = open_source(folder)
        source.set_output_format(4)
        frames = iter(source)
        assert next(frames).name == "0.png"
        with pytest.raises(SourceError, match=r"2\.png has 3 channels, not the required 4: save colours and"):
            next(frames)
        assert source.damaged_names == ["1.png"]

    @pytest.mark.parametrize("channels", KINDS)
    def test_a_source_without_the_extra_channel_is_refused_before_the_first_frame(self, channels: int) -> None:
        source, backend = FakeSource(), FakeBackend(wide_spec(channels=channels))
        message = f"fake has 3 channels, but the model needs {channels}: give a folder of images"
        with pytest.raises(OptionError, match=message):
            Pipeline(source, backend, [FakeSink()], Overlay(backend.spec))
        assert (backend.submitted, source.closed) == (0, 0)


class TestData:
    @pytest.fixture(params=KINDS)
    def pairs(self, request: pytest.FixtureRequest, folder: Path) -> str:
        """The ``--data`` value for two images whose mask is their last channel."""
        masks = folder.parent / "masks"
        masks.mkdir()
        for seed in range(2):
            image = pixels(request.param, seed)
            save(folder / f"{seed}.png", image)
            cv2.imwrite(str(masks / f"{seed}.png"), image[..., -1])
        return f"pairs:{folder},{masks},classes={CLASSES},val=0"

    def test_pairs_load_the_requested_channels(self, pairs: str, request: pytest.FixtureRequest) -> None:
        channels = request.node.callspec.params["pairs"]
        dataset = open_dataset(pairs, "train", channels=channels)
        for seed in range(2):
            image, labels = dataset.load(seed)
            np.testing.assert_array_equal(image, pixels(channels, seed))
            np.testing.assert_array_equal(labels, image[..., -1])
        assert open_dataset(pairs, "train").load(0)[0].shape == (*SIZE, 3)

    def test_boxes_load_the_requested_channels(self, folder: Path) -> None:
        save(folder / "a.png", pixels(4))
        (folder / "boxes.csv").write_text("image,x,y,width,height\na.png,1,1,2,2\n")
        image, labels = open_dataset(f"boxes:{folder},val=0", "train", channels=4).load(0)
        np.testing.assert_array_equal(image, pixels(4))
        assert labels.sum() == 4

    def test_an_image_with_too_few_channels_is_named_by_load_and_by_data_check(self, pairs: str, folder: Path) -> None:
        cv2.imwrite(str(folder / "1.png"), pixels(3))
        with pytest.raises(DatasetError, match=r"1\.png has 3 channels, not the required 4"):
            open_dataset(pairs, "train", channels=4).load(1)
        problems = check_data(pairs, ["train"], channels=4).problems
        assert [f"{folder / '1.png'} has 3" in problem for problem in problems].count(True) == 1

    def test_training_gets_the_channels_in_network_order(self, pairs: str, request: pytest.FixtureRequest) -> None:
        from rtseg.training.augment import Augmentation, RandomViews

        channels = request.node.callspec.params["pairs"]
        still = Augmentation(scale=(1.0, 1.0), stretch=1.0, flips="none", colour=False)
        dataset = open_dataset(pairs, "train", channels=channels)
        views = RandomViews([dataset], SIZE, size=SIZE, augmentation=still, seed=0)
        for index in range(2):
            np.testing.assert_array_equal(views[index][0].numpy(), to_tensor(pixels(channels, index)).numpy())

    @pytest.mark.parametrize("kind", ["synthetic:street", "synthetic:fringes", "voc:nowhere", "camvid:nowhere"])
    def test_a_dataset_without_extra_channels_refuses_and_names_those_that_support_them(self, kind: str) -> None:
        with pytest.raises(OptionError, match=f"images of {kind} have 3 channels, not 4: use pairs: or boxes:"):
            open_dataset(kind, "train", channels=4)


@pytest.mark.parametrize("model", KINDS, indirect=True)
class TestCommands:
    def test_stream_uses_the_extra_channel_of_a_folder(
        self, model: Path, folder: Path, request: pytest.FixtureRequest
    ) -> None:
        channels = request.node.callspec.params["model"]
        for seed in range(3):
            save(folder / f"{seed}.png", pixels(channels, seed))
        masks, video = folder.parent / "masks", folder.parent / "out.mp4"
        options = ["--source", str(folder), "--model", str(model), "--masks", str(masks), "--output", str(video)]
        assert main(["stream", *options, "--quiet"]) == 0
        assert video.stat().st_size > 0
        for seed in range(3):
            mask = open_dataset(f"pairs:{folder},{masks},classes={CLASSES},val=0", "train").load(seed)[1]
            np.testing.assert_array_equal(mask, pixels(channels, seed)[..., -1])

    def test_stream_refuses_the_demo_source_in_one_line_and_writes_nothing(
        self, model: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["stream", "--source", "demo:1", "--model", str(model), "--output", "out.mp4"]) == 2
        message = capfd.readouterr().err
        assert message.startswith("rtseg: demo has 3 channels, but the model needs ")
        assert message.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["last.onnx"]

    def test_eval_uses_the_extra_channel(self, model: Path, folder: Path, request: pytest.FixtureRequest) -> None:
        channels = request.node.callspec.params["model"]
        masks, figures = folder.parent / "masks", folder.parent / "figures.json"
        masks.mkdir()
        save(folder / "a.png", pixels(channels))
        cv2.imwrite(str(masks / "a.png"), pixels(channels)[..., -1])
        data = f"pairs:{folder},{masks},classes={CLASSES},val=1"
        assert main(["eval", "--model", str(model), "--data", data, "--report", str(figures)]) == 0
        assert json.loads(figures.read_text())["pixel_accuracy"] == 1

    def test_eval_refuses_data_without_the_extra_channel(self, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["eval", "--model", str(model), "--data", "synthetic:street"]) == 2
        assert "images of synthetic:street have 3 channels, not " in capfd.readouterr().err


def test_data_check_accepts_the_channels_option_of_training(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = folder.parent / "masks"
    masks.mkdir()
    cv2.imwrite(str(folder / "a.png"), pixels(3))
    cv2.imwrite(str(masks / "a.png"), np.zeros(SIZE, np.uint8))
    command = ["data", "check", f"pairs:{folder},{masks},classes=a,val=0", "--split", "train", "--channels"]
    assert main([*command, "1"]) == 0
    assert main([*command, "4"]) == 1
    assert "has 3 channels, not the required 4" in capsys.readouterr().out


@pytest.mark.parametrize("channels", KINDS)
def test_a_network_with_extra_channels_trains_averages_exports_and_predicts(channels: int, tmp_path: Path) -> None:
    """Only the last channel shows the class."""
    random = np.random.default_rng(channels)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        image = random.integers(0, 200, (*TINY, channels), dtype=np.uint8)
        mask = np.zeros(TINY, np.uint8)
        mask[:, : TINY[1] // 2] = 1
        image[..., -1] = np.where(mask == 1, 220, 20)
        save(tmp_path / "images" / f"{number}.png", image)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    data = f"pairs:{tmp_path / 'images'},{tmp_path / 'masks'},classes=right+left"
    small = "--size 64x96 --crop 64x96 --batch 4 --workers 0 --amp none --device cpu --flips none --scale 1/1 --ema 0"
    recipe = f"--epochs 30 --lr 1e-2 --eval-every 30 --model icnet:width=4 --channels {channels}".split()
    run, mean, file = tmp_path / "run", tmp_path / "mean.safetensors", tmp_path / "channels.onnx"
    assert main(["train", "--data", data, *small.split(), *recipe, "--output", str(run)]) == 0
    both = [str(run / "best.safetensors"), str(run / "last.safetensors")]
    assert main(["average", *both, "--data", data, "--output", str(mean)]) == 0
    assert main(["export", str(mean), "--output", str(file)]) == 0
    assert load_model(file).spec.channels == channels
    out = tmp_path / "out"
    command = ["predict", "--model", str(file), str(tmp_path / "images"), "--output", str(out), "--precision", "fp32"]
    assert main([*command, "--only", "masks"]) == 0
    for number in range(5):
        labels = read_mask(out / "masks" / f"{number}.png").numbers
        assert labels is not None
        assert (labels[:, : TINY[1] // 2] == 1).mean() > 0.9
        assert (labels[:, TINY[1] // 2 :] == 0).mean() > 0.9
