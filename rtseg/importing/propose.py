"""Proposes size and normalization of a foreign network, from the options, files beside it, its graph and producer."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, numpy_helper

from rtseg.errors import ModelError, OptionError
from rtseg.importing.options import ImportOptions
from rtseg.importing.plan import IMAGENET_MEAN, IMAGENET_STD, Fact, NetworkInput, Normalization, Size, Triple
from rtseg.importing.side_files import SideFacts
from rtseg.model_file.foreign import producer_of

__all__ = ["INPUT_VALUES", "candidates", "choose_normalization", "choose_sizes"]

INPUT_VALUES = "input values"
"""What the table calls the normalization."""
_MAX_SIDE = 8192
_NONE: Triple = (0.0, 0.0, 0.0)
_ONE: Triple = (1.0, 1.0, 1.0)
_RAW = Normalization(1, _NONE, _ONE)
_UNIT = Normalization(255, _NONE, _ONE)
_IMAGENET = Normalization(255, IMAGENET_MEAN, IMAGENET_STD)
_SYMMETRIC = Normalization(255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Sizes:
    """All (H, W) in pixels."""

    network: Size
    """What the network gets."""
    frame: Size
    """The frames of the model file."""
    content: Size | None = None
    """The frame within the network's input, between grey bars; None where it is stretched to the whole input."""


def choose_sizes(
    network: NetworkInput, options: ImportOptions, sides: list[SideFacts], title: str
) -> tuple[Sizes, Fact]:
    """Return the sizes and the reason.

    Raises:
        ModelError: the network takes any size and nothing says which, or one of more than 8192 pixels on a side.
    """
    given = options.size
    side = next((each for each in sides if each.size is not None), None)
    height, width = network.size
    if max(height or 1, width or 1) > _MAX_SIDE:
        raise ModelError(f"{title} takes images of more than {_MAX_SIDE} pixels on a side: export it for smaller ones")
    if height is not None and width is not None:
        return _fixed_sizes((height, width), options, any(each.letterbox for each in sides))
    if given is not None:
        return Sizes(given, given), Fact("size", _text(given), "--size")
    if side is not None and side.size is not None:
        return Sizes(side.size, side.size), Fact("size", _text(side.size), side.source)
    raise ModelError(f"{title} takes images of any size: give --size HEIGHTxWIDTH, e.g. the size of its training")


def _fixed_sizes(own: Size, options: ImportOptions, is_letterboxed: bool) -> tuple[Sizes, Fact]:
    given = options.size
    letterbox = is_letterboxed if options.letterbox is None else options.letterbox
    if given is None or given == own:
        hint = "; give --size of your frames to letterbox them" if letterbox else ""
        return Sizes(own, own), Fact("size", _text(own), f"fixed in the graph{hint}")
    factor = min(own[0] / given[0], own[1] / given[1])
    content = (max(1, round(given[0] * factor)), max(1, round(given[1] * factor)))
    if letterbox and content != own:
        text = f"frames {_text(given)}, in the graph {_text(content)} between grey bars of {_text(own)}"
        reason = "--letterbox" if options.letterbox else "ultralytics letterboxes"
        return Sizes(own, given, content), Fact("size", text, f"--size, {reason}")
    text = f"frames {_text(given)}, resized in the graph to {_text(own)}"
    return Sizes(own, given), Fact("size", text, "--size; fixed in the graph")


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def choose_normalization(
    model: onnx.ModelProto, network: NetworkInput, options: ImportOptions, sides: list[SideFacts]
) -> tuple[Normalization, list[Fact]]:
    """Return how the network wants its input, and the reasons.

    Raises:
        OptionError: --mean or --std is not one or three numbers.
    """
    proposed, reason, is_guess = _proposal(model, network, sides)
    given = {
        "--scale": options.scale is not None,
        "--mean": bool(options.mean),
        "--std": bool(options.std),
        "--bgr" if options.bgr else "--rgb": options.bgr is not None,
    }
    bgr = proposed.bgr if options.bgr is None else options.bgr
    if any(list(given.values())[:3]):
        # A part that is not given is that of no normalization: a mixture of two would be neither.
        scale = options.scale if options.scale is not None else _scale_for(options)
        mean = parse_triple("--mean", options.mean, bgr) if options.mean else _NONE
        std = parse_triple("--std", options.std, bgr) if options.std else _ONE
        if not all(std):
            raise OptionError(f"--std must not be 0, got {options.std}")
        proposed = Normalization(scale, mean, std, bgr)
        reason, is_guess = ", ".join(name for name, was_given in given.items() if was_given), False
    elif options.bgr is not None and options.bgr != proposed.bgr:
        proposed = Normalization(proposed.scale, proposed.mean[::-1], proposed.std[::-1], bgr)
        reason = f"{'--bgr' if bgr else '--rgb'}; else {reason}"
    return proposed, [Fact(INPUT_VALUES, str(proposed), reason, is_guess)]


def _scale_for(options: ImportOptions) -> float:
    """Return 255 where mean and std are those of values in [0, 1], else 1."""
    if "imagenet" in (options.mean, options.std):
        return 255.0
    text = options.mean or options.std
    return 255.0 if all(abs(value) <= 1 for value in parse_triple("--mean", text, bgr=False)) else 1.0


def parse_triple(option: str, text: str, bgr: bool) -> Triple:
    """Return the numbers of an option, in the network's order of the channels.

    Raises:
        OptionError: it is neither ``imagenet`` nor one or three numbers.
    """
    if text == "imagenet":
        red, green, blue = IMAGENET_MEAN if option == "--mean" else IMAGENET_STD
        return (blue, green, red) if bgr else (red, green, blue)
    try:
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == 1:
            numbers *= 3
        first, second, third = numbers
    except ValueError as error:
        raise OptionError(
            f"{option} must be imagenet, or one or three numbers, e.g. 0.5,0.5,0.5; got {text!r}"
        ) from error
    if not all(abs(value) < float("inf") for value in numbers):
        raise OptionError(f"{option} must be finite numbers, got {text!r}")
    return first, second, third


def _proposal(model: onnx.ModelProto, network: NetworkInput, sides: list[SideFacts]) -> tuple[Normalization, str, bool]:
    """Return a normalization, the reason, and whether it is a guess."""
    if network.kind == TensorProto.UINT8:
        return _RAW, "the input is uint8: the graph normalizes it", False
    for side in sides:
        if side.normalization is not None:
            return side.normalization, side.source, False
    baked = _baked_normalization(model, network.name)
    if baked is not None:
        return baked
    producer = producer_of(model).lower()
    if "tf" in producer or "keras" in producer:
        return _SYMMETRIC, f"exported by {producer_of(model)}: TensorFlow's networks want -1..1", True
    if "paddle" in producer:
        return _SYMMETRIC, f"exported by {producer_of(model)}: the default of PaddleSeg", True
    return _IMAGENET, "most networks use the statistics of ImageNet", True


def _baked_normalization(model: onnx.ModelProto, name: str) -> tuple[Normalization, str, bool] | None:
    """Return what a graph wants that begins with a subtraction, division or batch norm of the input; else None."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = [node for node in model.graph.node if name in node.input]
    if len(readers) != 1 or readers[0].op_type not in ("Sub", "Div", "Mul", "Add"):
        return None
    constants = [weights[each] for each in readers[0].input if each in weights]
    if not constants or max([1, *constants[0].dims]) > 3:
        return None
    size = float(abs(numpy_helper.to_array(constants[0])).max())
    is_of_bytes = size > 2 if readers[0].op_type != "Mul" else size < 0.1
    text = f"the graph begins with {readers[0].op_type} by {size:.3g}: it normalizes"
    return (_RAW, f"{text} 0..255", False) if is_of_bytes else (_UNIT, f"{text} 0..1", False)


def candidates(chosen: Normalization) -> list[Normalization]:
    """Return the normalizations that networks use, with the chosen one first: each in RGB and in BGR."""
    found = [chosen]
    for each in (_IMAGENET, _UNIT, _SYMMETRIC, _RAW):
        found += [each, Normalization(each.scale, each.mean[::-1], each.std[::-1], bgr=True)]
    found.append(Normalization(chosen.scale, chosen.mean[::-1], chosen.std[::-1], bgr=not chosen.bgr))
    return list(dict.fromkeys(found))
