"""Checkpoints with the names and shapes of mmsegmentation 1.2, whose modules are listed here from its source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rtseg.errors import CheckpointError
from rtseg.models import create_model
from rtseg.training.checkpoint import load_initial_weights

CLASSES = ("a", "b", "c")
WIDTH = 32


class Weights(dict[str, Tensor]):
    """Drawn weights by name."""

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(1)

    def put(self, name: str, *shape: int) -> None:
        scale = (shape[1] * shape[2] * shape[3]) ** -0.5 if len(shape) == 4 else 1.0
        self[name] = scale * (torch.rand(shape, generator=self._generator) + (0.5 if len(shape) == 1 else -0.5))

    def norm(self, name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.put(f"{name}.{part}", width)
        self[f"{name}.num_batches_tracked"] = torch.tensor(3)

    def conv(self, name: str, outputs: int, inputs: int, side: int, *, bias: bool = True) -> None:
        self.put(f"{name}.weight", outputs, inputs, side, side)
        if bias:
            self.put(f"{name}.bias", outputs)

    def conv_module(self, name: str, outputs: int, inputs: int, side: int, *, norm_first: bool = False) -> None:
        """mmcv's ConvModule."""
        self.conv(f"{name}.conv", outputs, inputs, side, bias=False)
        self.norm(f"{name}.bn", inputs if norm_first else outputs)

    def block(self, name: str, inputs: int, width: int, *, wide: bool, downsample: str) -> None:
        """A basic block, or a bottleneck that doubles the width."""
        sides = (1, 3, 1) if wide else (3, 3)
        outputs = 2 * width if wide else width
        for number, side in enumerate(sides, 1):
            last = number == len(sides)
            self.conv_module(f"{name}.conv{number}", outputs if last else width, inputs if number == 1 else width, side)
        if downsample == "module":
            self.conv_module(f"{name}.downsample", outputs, inputs, 1)
        if downsample == "sequential":
            self.conv(f"{name}.downsample.0", outputs, inputs, 1, bias=False)
            self.norm(f"{name}.downsample.1", outputs)

    def stage(self, name: str, inputs: int, width: int, blocks: int, downsample: str, *, wide: bool = False) -> None:
        outputs = 2 * width if wide else width
        for index in range(blocks):
            at = f"backbone.{name}.{index}"
            first = downsample if index == 0 else ""
            self.block(at, inputs if index == 0 else outputs, width, wide=wide, downsample=first)

    def stem(self, w: int, downsample: str) -> None:
        self.conv("backbone.stem.0.conv", w, 3, 3)
        self.norm("backbone.stem.0.bn", w)
        self.conv("backbone.stem.1.conv", w, w, 3)
        self.norm("backbone.stem.1.bn", w)
        self.stage("stem.2", w, w, 2, "")
        self.stage("stem.4", w, 2 * w, 2, downsample)

    def branches(self, w: int, context: str, details: str, blocks: tuple[int, int, int], downsample: str) -> None:
        """The branch of the context, with ``blocks`` in each stage, and that of the details, with 2, 2 and 1."""
        for index, (inputs, width) in enumerate(((2 * w, 4 * w), (4 * w, 8 * w), (8 * w, 8 * w))):
            wide = index == 2
            self.stage(f"{context}_layers.{index}", inputs, width, blocks[index], downsample, wide=wide)
            narrow = downsample if wide else ""
            self.stage(f"{details}_layers.{index}", 2 * w, 2 * w, 1 if wide else 2, narrow, wide=wide)

    def pyramid(self, inputs: int, width: int, outputs: int, *, parallel: bool) -> None:
        for index in range(5):
            at = "backbone.spp.scales.0" if index == 0 else f"backbone.spp.scales.{index}.1"
            self.conv_module(at, width, inputs, 1, norm_first=True)
        if parallel:
            self.conv("backbone.spp.processes.conv", 4 * width, width, 3, bias=False)
            self.norm("backbone.spp.processes.bn", 4 * width)
        for index in range(0 if parallel else 4):
            self.conv_module(f"backbone.spp.processes.{index}", width, width, 3, norm_first=True)
        self.conv_module("backbone.spp.compression", outputs, 5 * width, 1, norm_first=True)
        self.conv_module("backbone.spp.shortcut", outputs, inputs, 1, norm_first=True)


def ddrnet(w: int) -> Weights:
    weights = Weights()
    weights.stem(w, "sequential")
    weights.branches(w, "context_branch", "spatial_branch", (2, 2, 1), "sequential")
    weights.conv_module("backbone.compression_1", 2 * w, 4 * w, 1)
    weights.conv_module("backbone.compression_2", 2 * w, 8 * w, 1)
    weights.conv_module("backbone.down_1", 4 * w, 2 * w, 3)
    weights.conv_module("backbone.down_2.0", 4 * w, 2 * w, 3)
    weights.conv_module("backbone.down_2.1", 8 * w, 4 * w, 3)
    weights.pyramid(16 * w, 128, 4 * w, parallel=False)
    for head, inputs, classify in (("head", 4 * w, "conv_seg"), ("aux_head", 2 * w, "aux_cls_seg")):
        weights.conv_module(f"decode_head.{head}.0", 2 * w, inputs, 3, norm_first=True)
        weights.norm(f"decode_head.{head}.1", 2 * w)
        weights.conv(f"decode_head.{classify}", 3, 2 * w, 1)
    return weights


def pidnet(w: int) -> Weights:
    weights = Weights()
    weights.stem(w, "module")
    weights.branches(w, "i_branch", "p_branch", (3, 3, 2), "module")
    weights.block("backbone.d_branch_layers.0", 2 * w, w, wide=False, downsample="module")
    weights.stage("d_branch_layers.1", w, w, 1, "module", wide=True)
    weights.stage("d_branch_layers.2", 2 * w, 2 * w, 1, "module", wide=True)
    for index, inputs in ((1, 4 * w), (2, 8 * w)):
        weights.conv_module(f"backbone.compression_{index}", 2 * w, inputs, 1)
        weights.conv_module(f"backbone.pag_{index}.f_i", w, 2 * w, 1)
        weights.conv_module(f"backbone.pag_{index}.f_p", w, 2 * w, 1)
        weights.conv_module(f"backbone.diff_{index}", w * index, inputs, 3)
    weights.pyramid(16 * w, 96, 4 * w, parallel=True)
    weights.conv_module("backbone.dfm.f_p", 4 * w, 4 * w, 1)
    weights.conv_module("backbone.dfm.f_i", 4 * w, 4 * w, 1)
    for head, inputs, width in (("i_head", 4 * w, 128), ("p_head", 2 * w, 128), ("d_head", 2 * w, w)):
        weights.conv_module(f"decode_head.{head}.conv", width, inputs, 3, norm_first=True)
        weights.norm(f"decode_head.{head}.norm", width)
    for name, outputs, width in (("conv_seg", 3, 128), ("p_cls_seg", 3, 128), ("d_cls_seg", 1, w)):
        weights.conv(f"decode_head.{name}", outputs, width, 1)
    return weights


@pytest.mark.parametrize(
    ("architecture", "weights", "pairs"),
    [
        (
            "ddrnet23-slim",
            ddrnet(WIDTH),
            {
                "stem.4.1.conv2.bn.bias": "layer2.1.bn2.bias",
                "spatial_branch_layers.1.0.conv1.conv.weight": "layer4_.0.conv1.weight",
                "context_branch_layers.1.0.conv1.conv.weight": "layer4.0.conv1.weight",
                "spp.processes.2.conv.weight": "spp.process3.2.weight",
                "down_2.1.bn.running_mean": "down4.4.running_mean",
            },
        ),
        (
            "pidnet-s",
            pidnet(WIDTH),
            {
                # In the attention, y is the context, which comes from the I branch.
                "pag_1.f_i.conv.weight": "pag3.f_y.0.weight",
                "pag_2.f_p.bn.weight": "pag4.f_x.1.weight",
                "dfm.f_i.conv.weight": "dfm.conv_i.0.weight",
                "i_branch_layers.0.2.conv1.conv.weight": "layer3.2.conv1.weight",
                "p_branch_layers.0.0.conv1.conv.weight": "layer3_.0.conv1.weight",
                "d_branch_layers.2.0.conv3.bn.bias": "layer5_d.0.bn3.bias",
                "spp.scales.3.1.conv.weight": "spp.scale3.3.weight",
            },
        ),
    ],
)
def test_every_weight_of_mmsegmentation_has_its_place(
    tmp_path: Path, architecture: str, weights: Weights, pairs: dict[str, str]
) -> None:
    torch.save({"meta": {"epoch": 1}, "state_dict": dict(weights)}, tmp_path / "mmseg.pth")
    network = create_model(architecture, 3)
    assert load_initial_weights(network, tmp_path / "mmseg.pth", CLASSES) == ""
    own = network.state_dict()
    assert len(own) == len(weights)
    for theirs, ours in pairs.items():
        assert torch.equal(own[ours], weights[f"backbone.{theirs}"]), theirs


def test_other_classes_get_fresh_heads_and_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": dict(pidnet(WIDTH))}, tmp_path / "mmseg.pth")
    remark = load_initial_weights(create_model("pidnet-s", 5), tmp_path / "mmseg.pth", tuple("abcde"))
    assert "it has another number of classes; final_layer.conv2.bias, final_layer.conv2.weight, seghead_p" in remark
    with pytest.raises(CheckpointError, match="holds weights, which does not fit"):
        load_initial_weights(create_model("ddrnet23-slim", 3), tmp_path / "mmseg.pth", CLASSES)


SCTNET = {
    "^former3": "layer3_2",
    "^former4": "layer4",
    "^former5": "layer5",
    "^down4": "convdown4",
    "attention.norm": "attn_l.norm",
    "attention.columns.weight": "attn_l.kv",
    "attention.rows.weight": "attn_l.kv3",
    r"mlp\.0": "mlp_l.norm",
    r"mlp\.1": "mlp_l.conv1",
    r"mlp\.3": "mlp_l.conv2",
    "^(?!head|auxiliary_head|alignment)": "backbone.",
    r"^(auxiliary_)?head\.conv2": r"\1head.conv_seg",
    "^head": "decode_head",
    "^auxiliary_head": "auxiliary_head.0",
    "^alignment": "auxiliary_head.1",
}


def test_the_published_form_of_sctnet_starts_its_transformer_fresh(tmp_path: Path) -> None:
    network = create_model("sctnet-s:transformer=0", 3)
    weights = {}
    for name, value in network.state_dict().items():
        for ours, theirs in SCTNET.items():
            name = re.sub(ours, theirs, name)
        weights[name] = torch.full_like(value, 2)
    assert {"backbone.layer4.attn_l.kv3", "backbone.layer3_2.mlp_l.conv1.bias", "decode_head.conv_seg.bias"} <= set(
        weights
    )
    torch.save({"state_dict": weights}, tmp_path / "sctnet.pth")
    remark = load_initial_weights(network, tmp_path / "sctnet.pth", CLASSES)
    assert "it lacks parts of this network; alignment.decoder.bias" in remark
    loaded = network.state_dict()
    assert all((value == 2).all() for name, value in loaded.items() if not name.startswith("alignment."))
