"""Proposes size and normalization of a foreign network, from the options, files beside it, its graph and producer."""

from __future__ import annotations

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
_NONE: Triple = (0.0, 0.0, 0.0)
_ONE: Triple = (1.0, 1.0, 1.0)
_RAW = Normalization(1, _NONE, _ONE)
_UNIT = Normalization(255, _NONE, _ONE)
_IMAGENET = Normalization(255, IMAGENET_MEAN, IMAGENET_STD)
_SYMMETRIC = Normalization(255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def choose_sizes(
    network: NetworkInput, given: Size | None, sides: list[SideFacts], title: str
) -> tuple[Size, Size, Fact]:
    """Return the size that the network gets, the size of the frames, and the reason.

    Raises:
        ModelError: the network takes any size, and nothing says which.
    """
    height, width = network.size
    if height is not None and width is not None:
        own = (height, width)
        if given is None or given == own:
            return own, own, Fact("size", f"{height}x{width}", "fixed in the graph")
        text = f"frames {given[0]}x{given[1]}, resized in the graph to {height}x{width}"
        return own, given, Fact("size", text, "--size; fixed in the graph")
    side = next((each for each in sides if each.size is not None), None)
    if given is not None:
        return given, given, Fact("size", f"{given[0]}x{given[1]}", "--size")
    if side is not None and side.size is not None:
        return side.size, side.size, Fact("size", f"{side.size[0]}x{side.size[1]}", side.source)
    raise ModelError(f"{title} takes images of any size: give --size HEIGHTxWIDTH, e.g. the size of its training")


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
