"""Gives the weights of mmsegmentation's checkpoints the names that they have here.

The networks are DDRNet and PIDNet (mmseg/models/backbones and decode_heads of mmsegmentation 1.2) and SCTNet, whose
authors publish weights of the same form. Other networks of mmsegmentation with names as here are other networks: its
ICNet, FCN and DeepLabV3 have another stem, pyramid or head, so that their weights do not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor

__all__ = ["from_mmseg"]

_BACKBONE, _HEAD = "backbone.", "decode_head."


def _stage(suffix: str) -> Callable[[re.Match[str]], str]:
    """Branches are numbered from 0 there, and from stage 3 here."""
    return lambda match: f"layer{int(match[1]) + 3}{suffix}."


_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # The stem, and the stages of each branch.
    (r"^stem\.0\.conv\.", "conv1.0."),
    (r"^stem\.0\.bn\.", "conv1.1."),
    (r"^stem\.1\.conv\.", "conv1.3."),
    (r"^stem\.1\.bn\.", "conv1.4."),
    (r"^stem\.2\.", "layer1."),
    (r"^stem\.4\.", "layer2."),
    (r"^(?:i_branch|context_branch)_layers\.(\d)\.", _stage("")),
    (r"^(?:p_branch|spatial_branch)_layers\.(\d)\.", _stage("_")),
    (r"^d_branch_layers\.(\d)\.", _stage("_d")),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.bn\.", r".bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    # What connects the branches.
    (r"^down_2\.0\.conv\.", "down4.0."),
    (r"^down_2\.0\.bn\.", "down4.1."),
    (r"^down_2\.1\.conv\.", "down4.3."),
    (r"^down_2\.1\.bn\.", "down4.4."),
    (r"^(compression|diff|down|pag)_(\d)\.", lambda match: f"{match[1]}{int(match[2]) + 2}."),
    (r"^(pag\d)\.f_i\.", r"\1.f_y."),
    (r"^(pag\d)\.f_p\.", r"\1.f_x."),
    (r"^dfm\.f_([pi])\.", r"dfm.conv_\1."),
    (r"^((?:compression|diff|down)\d|pag\d\.f_[xy]|dfm\.conv_[pi])\.conv\.", r"\1.0."),
    (r"^((?:compression|diff|down)\d|pag\d\.f_[xy]|dfm\.conv_[pi])\.bn\.", r"\1.1."),
    # The pyramid: batch norm, ReLU and convolution, after the pooling if there is one.
    (r"^spp\.scales\.0\.bn\.", "spp.scale0.0."),
    (r"^spp\.scales\.0\.conv\.", "spp.scale0.2."),
    (r"^spp\.scales\.(\d)\.1\.bn\.", r"spp.scale\1.1."),
    (r"^spp\.scales\.(\d)\.1\.conv\.", r"spp.scale\1.3."),
    (r"^spp\.processes\.(\d)\.", lambda match: f"spp.process{int(match[1]) + 1}."),
    (r"^spp\.processes\.", "spp.scale_process."),
    (r"^spp\.(process\d|scale_process|compression|shortcut)\.bn\.", r"spp.\1.0."),
    (r"^spp\.(process\d|scale_process|compression|shortcut)\.conv\.", r"spp.\1.2."),
    # The blocks of SCTNet.
    (r"^layer3_2\.", "former3."),
    (r"^convdown4\.", "down4."),
    (r"^layer4\.(?=attn_l|mlp_l)", "former4."),
    (r"^layer5\.(?=attn_l|mlp_l)", "former5."),
    (r"\.attn_l\.norm\.", ".attention.norm."),
    (r"\.attn_l\.kv$", ".attention.columns.weight"),
    (r"\.attn_l\.kv3$", ".attention.rows.weight"),
    (r"\.mlp_l\.norm\.", ".mlp.0."),
    (r"\.mlp_l\.conv1\.", ".mlp.1."),
    (r"\.mlp_l\.conv2\.", ".mlp.3."),
)
"""Of the backbone: pattern -> replacement. Each is applied to the result of those before it."""

_HEADS = {
    "ddrnet": {
        "head.0.bn": "final_layer.bn1",
        "head.0.conv": "final_layer.conv1",
        "head.1": "final_layer.bn2",
        "conv_seg": "final_layer.conv2",
        "aux_head.0.bn": "seghead_extra.bn1",
        "aux_head.0.conv": "seghead_extra.conv1",
        "aux_head.1": "seghead_extra.bn2",
        "aux_cls_seg": "seghead_extra.conv2",
    },
    "pidnet": {
        "i_head.conv.bn": "final_layer.bn1",
        "i_head.conv.conv": "final_layer.conv1",
        "i_head.norm": "final_layer.bn2",
        "conv_seg": "final_layer.conv2",
        "p_head.conv.bn": "seghead_p.bn1",
        "p_head.conv.conv": "seghead_p.conv1",
        "p_head.norm": "seghead_p.bn2",
        "p_cls_seg": "seghead_p.conv2",
        "d_head.conv.bn": "seghead_d.bn1",
        "d_head.conv.conv": "seghead_d.conv1",
        "d_head.norm": "seghead_d.bn2",
        "d_cls_seg": "seghead_d.conv2",
    },
    "sctnet": {"bn1": "head.bn1", "conv1": "head.conv1", "bn2": "head.bn2", "conv_seg": "head.conv2"},
}
"""Network -> module of the head -> name here."""
_AUXILIARY = {
    "auxiliary_head.bn1": "auxiliary_head.bn1",
    "auxiliary_head.conv1": "auxiliary_head.conv1",
    "auxiliary_head.bn2": "auxiliary_head.bn2",
    "auxiliary_head.conv_seg": "auxiliary_head.conv2",
}
"""Of SCTNet."""


def from_mmseg(weights: dict[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Rename the weights of a checkpoint of mmsegmentation; return any other weights as they are.

    Args:
        weights: by name.
        architecture: the network that they are for, e.g. ``pidnet-s``.
    """
    family = next((name for name in _HEADS if architecture.startswith(name)), None)
    if family is None or not all(any(name.startswith(part) for name in weights) for part in (_BACKBONE, _HEAD)):
        return weights
    renamed = {_renamed(name, family): value for name, value in weights.items()}
    renamed.pop("", None)
    return renamed


def _renamed(name: str, family: str) -> str:
    """Return the name here; empty for weights that are only used in training, of which there are none here."""
    if name.startswith(_BACKBONE):
        name = name.removeprefix(_BACKBONE)
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        return name
    if name.startswith(_HEAD):
        module, _, what = name.removeprefix(_HEAD).rpartition(".")
        return f"{_HEADS[family].get(module, module)}.{what}"
    # Of SCTNet: its auxiliary prediction, and the transformer with its decoder, which has other parts than ours.
    module, _, what = name.replace("auxiliary_head.0.", "auxiliary_head.").rpartition(".")
    return f"{_AUXILIARY[module]}.{what}" if module in _AUXILIARY else ""
