"""The networks, by name. Each maps a normalised image to logits; ``rtseg.deploy.export`` adds head and tail.

A network takes float (N, channels, H, W) and returns logits at its own stride; in training mode it returns a tuple
of logits, the main prediction first, whose weights in the loss are ``loss_weights``. A sequence model (``recurrent``)
takes and returns a state as well.

The architecture of a network is one text, ``NAME`` or ``NAME:key=value,key=value``, e.g. ``icnet:width=64``. It is
what ``--model`` takes, what checkpoints and model files keep, and all that is needed to build the network again.
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
    "fcn-resnet18": ("rtseg.models.fcn", "FCNResNet18", {}),
    "fcn-resnet50": ("rtseg.models.fcn", "FCNDilated", {"backbone": "resnet50"}),
    "fcn-resnet101": ("rtseg.models.fcn", "FCNDilated", {"backbone": "resnet101"}),
    **{
        f"fcn{step}s-vgg{depth}": ("rtseg.models.fcn", "FCNVGG", {"step": step, "depth": depth})
        for step in (32, 16, 8)
        for depth in (11, 13, 16, 19)
    },
}
"""Name -> (module, class, what the name says of its options)."""

_COMMON = ("pretrained", "channels")
"""Options that every network has, beside those of its class."""


def create_model(architecture: str, classes: int, *, pretrained: bool = False, **options: Any) -> Network:
    """A network with fresh weights.

    Args:
        architecture: one of ``MODELS``, with or without options behind a colon.
        classes: number of classes, 1..255.
        pretrained: begin with the weights that torchvision publishes, fetched once and kept by torch. The first
            convolution is adapted to ``channels``, a head made for another number of classes begins anew.
        options: of the network, e.g. ``width`` for ICNet; they go before those in the text. Every network takes
            ``channels``: 1 (grey, mixed of BGR), 2 (grey and a second plane), 3 (RGB, the default) or 4 (RGB and a
            fourth plane) of the input.

    Raises:
        OptionError: the name or an option is not known, or a value is out of range.
        CheckpointError: the published weights cannot be fetched.
        MissingExtra: torch or torchvision is not installed.
    """
    name, written = _parse(architecture)
    if not 1 <= classes <= 255:
        raise OptionError(f"a network has 1 to 255 classes, got {classes}")
    module, class_name, given = MODELS[name]
    try:
        factory: Callable[..., Network] = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise MissingExtra.of(f"network {name!r}", error.name, "train") from error
    wanted = _checked(name, factory, given, {"pretrained": pretrained, **written, **options})
    fetch = wanted.pop("pretrained")
    network = factory(classes, **given, **wanted)
    network.architecture = (
        name + ":" * bool(wanted) + ",".join(f"{key}={_written(wanted[key])}" for key in sorted(wanted))
    )
    if fetch:
        network.load_published()
    return network


def channels_of(architecture: str) -> int:
    """The ``channels`` that are written in ``architecture``, or 3: known before there are classes to build it for.

    Raises:
        OptionError: the name is not known, or the options cannot be read.
    """
    channels = _parse(architecture)[1].get("channels", 3)
    if type(channels) is not int or channels not in (1, 2, 3, 4):
        raise OptionError(f"a network takes images of 1 to 4 channels, got {_written(channels)!r}")
    return channels


def is_known(architecture: str) -> bool:
    """Whether ``create_model`` knows the name in ``architecture``."""
    return architecture.partition(":")[0] in MODELS


def _parse(architecture: str) -> tuple[str, dict[str, Any]]:
    name, _, text = architecture.partition(":")
    if name not in MODELS:
        raise OptionError(f"unknown network {name!r}; known are {', '.join(sorted(MODELS))}")
    options: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not sign or not value or key in options:
            raise OptionError(f"cannot read the options in {architecture!r}: write NAME:key=value,key=value")
        options[key] = _value(value)
    return name, options


def _value(text: str) -> Any:
    """``true``/``false``, a whole number, a number, several of them as ``1/0.4/0.4``; else the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return tuple(_value(part) for part in text.split("/")) if "/" in text else text


def _written(value: Any) -> str:
    """What ``_value`` reads as ``value``."""
    if isinstance(value, bool):
        return str(value).lower()
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _checked(
    name: str, factory: Callable[..., Network], given: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    """``options``, once each is known and of its type; a whole number will do where the class wants a number."""
    kinds = {
        key: parameter.annotation
        for key, parameter in signature(factory, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key not in given
    } | {"pretrained": bool}
    for key, value in options.items():
        if key not in kinds:
            raise OptionError(f"network {name!r} has no option {key!r}; it has {', '.join(sorted(kinds))}")
        if not _is_a(value, kinds[key]):
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(
                kinds[key], "numbers as 1/0.4"
            )
            raise OptionError(f"option {key} of network {name!r} must be {wanted}, got {_written(value)!r}")
    return options


def _is_a(value: Any, kind: Any) -> bool:
    if kind in (bool, int):
        return type(value) is kind
    numbers = value if isinstance(value, tuple) else (value,)
    return (kind is float) != isinstance(value, tuple) and all(type(number) in (int, float) for number in numbers)
