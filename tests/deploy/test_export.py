from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg.backends import open_backend
from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.deploy.export import export_checkpoint, export_network
from rtseg.errors import CheckpointError, ModelError, OptionError, SinkError
from rtseg.model_file.load import load_model
from rtseg.model_file.spec import ModelSpec
from rtseg.models.base import Network
from rtseg.models.icnet import ICNet
from rtseg.models.label_network import LabelNetwork
from rtseg.training.checkpoint import save_checkpoint

SIZE = (64, 96)


class Spot(Network):
    """The smallest network: one convolution. With ``lies``, the exporter gets another result than other callers."""

    multiple = 4
    stride = 4

    def __init__(self, *, lies: bool = False) -> None:
        nn.Module.__init__(self)
        self.classes, self.channels, self.lies = 2, 3, lies
        self.layer = nn.Conv2d(3, 2, 4, 4)
        nn.init.constant_(self.layer.weight, 0.1)
        self.layer.weight.data[1] *= -1

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images)
        return -logits if self.lies and torch.compiler.is_exporting() else logits


class Echo(Spot):
    """The smallest sequence model: how much brighter an image is than the previous one.

    With ``lies``, the exporter gets another state than other callers.
    """

    recurrent = True

    def state_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 2, height // 4, width // 4

    def forward(self, images: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = self.layer(images)
        before = torch.zeros_like(logits) if state is None else state
        return logits - before, -logits if self.lies and torch.compiler.is_exporting() else logits


SPOT = ModelSpec("spot", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), SIZE)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    patches = np.random.default_rng(3).integers(0, 256, (4, 8, 12, 3), dtype=np.uint8)
    return patches.repeat(8, 1).repeat(8, 2)


def checkpoint(path: Path, network: Network, **changes: object) -> Path:
    facts = {
        "network": network.state_dict(),
        "architecture": "icnet",
        "classes": list(CLASSES),
        "palette": [list(colour) for colour in PALETTE],
        "size": list(SIZE),
        "preprocess": [],
        "trained_on": "nothing",
        "licence": "none",
        "validated_on": "three images",
        "scores": {"miou": 0.25, "iou": {"Sky": 0.5}, "pixel_accuracy": 0.75},
        "recipe": {"seed": 3},
        "epoch": 7,
        "hours": 0.5,
    }
    save_checkpoint(path, {key: value for key, value in (facts | changes).items() if value is not ...})
    return path


class TestModelFile:
    def test_its_labels_are_those_of_torch_before_rounding_but_for_a_few_pixels(
        self, icnet: ICNet, icnet_file: Path, images: NDArray[np.uint8]
    ) -> None:
        with torch.no_grad():
            expected = LabelNetwork(deepcopy(icnet))(torch.from_numpy(images)).numpy()
        assert len(np.unique(expected)) > 3
        with open_backend("onnxruntime", icnet_file) as backend:
            assert (backend.infer(images) == expected).mean() >= 0.99

    def test_it_is_no_larger_than_15_mb(self, icnet_file: Path) -> None:
        assert icnet_file.stat().st_size <= 15_000_000

    def test_kernels_and_nothing_else_are_stored_as_fp16(self, icnet_file: Path) -> None:
        graph = load_model(icnet_file).graph.graph
        half = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
        widened = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        assert len(convolutions) > 50
        assert half == {widened[node.input[1]] for node in convolutions}

    def test_the_arithmetic_is_fp32(self, icnet_file: Path) -> None:
        graph = onnx.shape_inference.infer_shapes(load_model(icnet_file).graph).graph
        kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        outputs = [node.output[0] for node in graph.node if node.op_type in ("Conv", "MatMul", "Resize")]
        assert len(outputs) > 50
        assert {kinds[name] for name in outputs} == {onnx.TensorProto.FLOAT}

    def test_the_frames_are_cast_before_anything_else_is_done_with_them(self, icnet_file: Path) -> None:
        users = [node.op_type for node in load_model(icnet_file).graph.graph.node if "frames" in node.input]
        assert users == ["Cast"]

    def test_it_is_a_valid_graph_with_the_metadata_that_were_asked_for(
        self, icnet_file: Path, tiny_spec: ModelSpec
    ) -> None:
        model = load_model(icnet_file)
        onnx.checker.check_model(model.graph, full_check=True)
        assert model.spec == tiny_spec

    def test_it_tells_nothing_of_the_machine_that_made_it(self, icnet_file: Path) -> None:
        content = icnet_file.read_bytes()
        for place in (str(Path.cwd()), "site-packages", "/opt/", "/home/"):
            assert place.encode() not in content

    def test_exporting_leaves_the_network_as_it_was(self, icnet: ICNet, icnet_file: Path) -> None:
        assert any(isinstance(module, nn.BatchNorm2d) for module in icnet.modules())
        weights = icnet.classify.weight
        assert (weights != weights.half().float()).any(), "rounded for the file, not in the network"

    def test_nothing_but_the_file_is_left_in_its_folder(self, icnet_file: Path) -> None:
        assert [path.name for path in icnet_file.parent.iterdir()] == ["tiny.onnx"]


class TestProof:
    def test_a_good_file_appears_under_its_name_in_a_folder_that_is_made_for_it(self, tmp_path: Path) -> None:
        output = tmp_path / "new" / "folder" / "spot.onnx"
        export_network(Spot(), SPOT, output)
        assert [path.name for path in output.parent.iterdir()] == ["spot.onnx"]
        frames = np.stack([np.full((*SIZE, 3), value, np.uint8) for value in (0, 255)])
        with open_backend("openvino", output) as backend:
            assert [labels.max() for labels in backend.infer(frames)] == [1, 0]

    def test_a_file_that_disagrees_with_torch_is_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"and torch agree on only \d+\.\d+% of pixels: nothing was written"):
            export_network(Spot(lies=True), SPOT, tmp_path / "spot.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_weights_that_are_no_numbers_are_refused(self, tmp_path: Path, icnet: ICNet) -> None:
        broken = deepcopy(icnet)
        with torch.no_grad():
            broken.classify.bias[0] = float("nan")
        spec = ModelSpec(name="broken", classes=CLASSES, palette=PALETTE, size=(64, 96))
        with pytest.raises(ModelError, match="broken has weights that are NaN or infinite: its training failed"):
            export_network(broken, spec, tmp_path / "broken.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_stood_there_is_kept_when_the_new_one_fails(self, tmp_path: Path) -> None:
        output = tmp_path / "spot.onnx"
        output.write_bytes(b"the old one")
        with pytest.raises(ModelError, match="nothing was written"):
            export_network(Spot(lies=True), SPOT, output)
        assert output.read_bytes() == b"the old one"
        assert list(tmp_path.iterdir()) == [output]

    @pytest.mark.parametrize("place", ["a file/spot.onnx", "folder.onnx", "/proc/spot.onnx"])
    def test_a_place_that_cannot_be_written_is_told_before_the_work_begins(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "a file").touch()
        (tmp_path / "folder.onnx").mkdir()
        with pytest.raises(SinkError, match=r"spot\.onnx|folder\.onnx"):
            export_network(Spot(), SPOT, tmp_path / place)
        assert {path.name for path in tmp_path.iterdir()} == {"a file", "folder.onnx"}


class TestSequenceModel:
    def test_its_state_is_one_more_input_and_output_of_the_graph_for_any_number_of_videos(
        self, sequence_file: Path
    ) -> None:
        model = load_model(sequence_file)
        onnx.checker.check_model(model.graph, full_check=True)
        found = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*model.graph.graph.input, *model.graph.graph.output)
        }
        assert found == {
            "frames": ["N", 64, 96, 3],
            "state": ["N", 32, 2, 3],
            "labels": ["N", 64, 96],
            "next_state": ["N", 32, 2, 3],
        }
        assert model.state_shape == (32, 2, 3)

    def test_a_good_one_compares_each_image_with_the_one_before(self, tmp_path: Path) -> None:
        export_network(Echo(), SPOT, tmp_path / "echo.onnx")
        with open_backend("onnxruntime", tmp_path / "echo.onnx") as backend:
            labels = [backend.infer(np.full((1, *SIZE, 3), value, np.uint8)).max() for value in (30, 130, 90, 250)]
        assert labels == [1, 0, 1, 0]

    def test_one_whose_memory_disagrees_with_torch_is_not_kept(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"and torch agree on only \d+\.\d+% of pixels: nothing was written"):
            export_network(Echo(lies=True), SPOT, tmp_path / "echo.onnx")
        assert list(tmp_path.iterdir()) == []


class TestCheckpoint:
    def test_a_size_that_the_network_cannot_take_is_refused_and_leaves_nothing(
        self, icnet: ICNet, tmp_path: Path
    ) -> None:
        path = checkpoint(tmp_path / "best.safetensors", icnet)
        with pytest.raises(OptionError, match="try --size 96x96"):
            export_checkpoint(path, tmp_path / "street.onnx", size=(100, 100))
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("missing", ["size", "preprocess", "trained_on", "validated_on", "recipe"])
    def test_a_checkpoint_that_lacks_a_fact_is_refused_with_its_name(
        self, icnet: ICNet, tmp_path: Path, missing: str
    ) -> None:
        path = checkpoint(tmp_path / "best.safetensors", icnet, **{missing: ...})
        with pytest.raises(CheckpointError, match=f"lacks metadata of a model file.*{missing}"):
            export_checkpoint(path, tmp_path / "street.onnx")

    def test_a_size_of_one_number_is_refused(self, icnet: ICNet, tmp_path: Path) -> None:
        path = checkpoint(tmp_path / "best.safetensors", icnet, size=[64])
        with pytest.raises(CheckpointError, match="lacks metadata of a model file"):
            export_checkpoint(path, tmp_path / "street.onnx")

    def test_a_preprocessing_step_that_is_not_known_gets_into_no_file(self, icnet: ICNet, tmp_path: Path) -> None:
        path = checkpoint(tmp_path / "best.safetensors", icnet, preprocess=["sharpen"])
        with pytest.raises(ModelError, match="unknown preprocessing step 'sharpen'"):
            export_checkpoint(path, tmp_path / "street.onnx")
        assert list(tmp_path.iterdir()) == [path]

    def test_a_missing_checkpoint_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint at"):
            export_checkpoint(tmp_path / "best.safetensors", tmp_path / "street.onnx")
