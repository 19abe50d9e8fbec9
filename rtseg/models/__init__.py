"""Segmentation networks, created by name.

A network maps normalised images, float (N, channels, H, W), to logits at its own stride. In training mode it returns a
tuple of logits, the main prediction first, with ``loss_weights``. A ``recurrent`` network also takes and returns a
state. ``rtseg.deploy.export`` adds normalisation, upsampling and argmax.

The architecture is a string, ``NAME`` or ``NAME:key=value,key=value``, e.g. ``icnet:width=64``. It is the value of
``--model``, is stored in checkpoints and model files, and is sufficient to build the network again.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from rtseg.errors import MissingExtra, OptionError

if TYPE_CHECKING:
    from rtseg.models.base import Network

__all__ = ["MODELS", "channels_of", "create_model", "is_known"]

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "icnet": ("rtseg.models.icnet", "ICNet", {}),
    "icnet-gru": ("rtseg.models.icnet_gru", "ICNetGRU", {}),
    "icnet-resnet18": ("rtseg.models.icnet_resnet", "ICNetResNet", {"depth": 18}),
    "icnet-resnet50": ("rtseg.models.icnet_resnet", "ICNetResNet", {"depth": 50}),
    "deeplabv3-mobilenet": ("rtseg.models.deeplabv3", "DeepLabV3", {"backbone": "mobilenet_v3_large"}),
    "deeplabv3-resnet50": ("rtseg.models.deeplabv3", "DeepLabV3", {"backbone": "resnet50"}),
    "deeplabv3-resnet101": ("rtseg.models.deeplabv3", "DeepLabV3", {"backbone": "resnet101"}),
    "deeplabv3plus-mobilenet": ("rtseg.models.deeplabv3plus", "DeepLabV3Plus", {"backbone": "mobilenet_v3_large"}),
    "deeplabv3plus-resnet50": ("rtseg.models.deeplabv3plus", "DeepLabV3Plus", {"backbone": "resnet50"}),
    "deeplabv3plus-resnet101": ("rtseg.models.deeplabv3plus", "DeepLabV3Plus", {"backbone": "resnet101"}),
    "ddrnet23-slim": ("rtseg.models.ddrnet", "DDRNet", {"width": 32}),
    "ddrnet23": ("rtseg.models.ddrnet", "DDRNet", {"width": 64}),
    "pidnet-s": ("rtseg.models.pidnet", "PIDNet", {"width": 32}),
    "sctnet-s": ("rtseg.models.sctnet", "SCTNet", {"width": 32}),
    "sctnet-b": ("rtseg.models.sctnet", "SCTNetB", {}),
    "seaformer-tiny": ("rtseg.models.seaformer", "SeaFormer", {}),
    "fcn-resnet18": ("rtseg.models.fcn", "FCNResNet18", {}),
    "fcn-resnet50": ("rtseg.models.fcn", "FCNDilated", {"backbone": "resnet50"}),
    "fcn-resnet101": ("rtseg.models.fcn", "FCNDilated", {"backbone": "resnet101"}),
    **{
        f"fcn{step}s-vgg{depth}": ("rtseg.models.fcn", "FCNVGG", {"step": step, "depth": depth})
        for step in (32, 16, 8)
        for depth in (11, 13, 16, 19)
    },
}
"""Name -> (module, class, options that the name implies)."""


def create_model(architecture: str, classes: int, *, pretrained: bool = False, **options: Any) -> Network:
    """Create a network.

    Args:
        architecture: a name in ``MODELS``, optionally with a colon and options.
        classes: number of classes, 1..255.
        pretrained: start from the weights that torchvision publishes, downloaded once and cached by torch. The first
            convolution is adapted to ``channels``; heads for another number of classes keep random weights.
        options: of the network, e.g. ``width`` of ICNet; they override those in ``architecture``. Every network has
            the option ``channels``: 1 (grey, computed from BGR), 2 (grey and an extra channel), 3 (RGB, the default)
            or 4 (RGB and an extra channel).

    Raises:
        OptionError: the name or an option is unknown, or a value is out of range.
        CheckpointError: the published weights cannot be downloaded.
        MissingExtra: torch or torchvision is not installed.
    """
    name, text_options = _parse(architecture)
    if not 1 <= classes <= 255:
        raise OptionError(f"a network has 1 to 255 classes, got {classes}")
    module, class_name, implied = MODELS[name]
    try:
        factory: Callable[..., Network] = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise MissingExtra.for_feature(f"network {name!r}", error.name, "train") from error
    options = {"pretrained": pretrained, **text_options, **options}
    _check_options(name, factory, implied, options)
    load_pretrained = options.pop("pretrained")
    network = factory(classes, **implied, **options)
    pairs = ",".join(f"{key}={_format(options[key])}" for key in sorted(options))
    network.architecture = f"{name}:{pairs}" if options else name
    if load_pretrained:
        network.load_pretrained()
    return network


def channels_of(architecture: str) -> int:
    """Return the input channels in ``architecture``, by default 3, without building the network.

    Raises:
        OptionError: the name is unknown, or the options cannot be parsed.
    """
    channels = _parse(architecture)[1].get("channels", 3)
    if type(channels) is not int or channels not in (1, 2, 3, 4):
        raise OptionError(f"a network takes images of 1 to 4 channels, got {_format(channels)!r}")
    return channels


def is_known(architecture: str) -> bool:
    """Return whether the name in ``architecture`` is in ``MODELS``."""
    return architecture.partition(":")[0] in MODELS


def _parse(architecture: str) -> tuple[str, dict[str, Any]]:
    name, _, text = architecture.partition(":")
    if name not in MODELS:
        raise OptionError(f"unknown network {name!r}; known are {', '.join(sorted(MODELS))}")
    options: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not sign or not value or key in options:
            raise OptionError(f"cannot parse the options in {architecture!r}: write NAME:key=value,key=value")
        options[key] = _parse_value(value)
    return name, options


def _parse_value(text: str) -> Any:
    """Parse a bool, an int, a float, or several values like ``1/0.4/0.4``; otherwise return the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return tuple(_parse_value(part) for part in text.split("/")) if "/" in text else text


def _format(value: Any) -> str:
    """Reverse ``_parse_value``."""
    if isinstance(value, bool):
        return str(value).lower()
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_options(
    name: str, factory: Callable[..., Network], implied: dict[str, Any], options: dict[str, Any]
) -> None:
    """Raise OptionError for an unknown option or a value of the wrong type. An int is accepted as a float."""
    kinds = {
        key: parameter.annotation
        for key, parameter in signature(factory, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in implied
    } | {"pretrained": bool}
    for key, value in options.items():
        if key not in kinds:
            raise OptionError(f"network {name!r} has no option {key!r}; it has {', '.join(sorted(kinds))}")
        if not _has_type(value, kinds[key]):
            expected = {bool: "true or false", int: "an integer", float: "a number"}.get(
                kinds[key], "numbers like 1/0.4"
            )
            raise OptionError(f"option {key} of network {name!r} must be {expected}, got {_format(value)!r}")


def _has_type(value: Any, kind: Any) -> bool:
    if kind in (bool, int):
        return type(value) is kind
    numbers = value if isinstance(value, tuple) else (value,)
    return (kind is float) != isinstance(value, tuple) and all(type(number) in (int, float) for number in numbers)
