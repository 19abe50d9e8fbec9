"""Records the activation ranges of a model for INT8, and verifies the quantized graph: ``rtseg calibrate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.backends import open_backend
from rtseg.backends.int8_check import CERTIFICATE
from rtseg.datasets import Dataset, ReadFile, open_dataset
from rtseg.datasets.loader import DatasetReader, LoadedItem
from rtseg.datasets.subset import Subset
from rtseg.deploy.options import CalibrateOptions
from rtseg.deploy.sensitivity import find_wrong_group, rank_float_groups
from rtseg.deploy.verify import BUDGETS, Budget, Verdict, open_verification_data, verify
from rtseg.errors import DatasetError, ModelError, ProofError
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import absent_classes
from rtseg.model_file.activation_ranges import Ranges, default_output, write_ranges
from rtseg.model_file.background import store_backgrounds
from rtseg.model_file.emulate_int8 import emulate_int8
from rtseg.model_file.graph import is_quantized
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import quantizable_groups, quantize, record_ranges, reject_sequence_model
from rtseg.model_file.spec import VOID, file_sha256, write_spec
from rtseg.preprocess import Prepare, override_steps, preprocess_notice
from rtseg.synthetic.variants import VARIANTS, alter_image
from rtseg.system.atomic_files import check_folder_writable, write_bytes
from rtseg.system.read_file import read_image_bytes
from rtseg.weights import find_model

__all__ = ["Calibrated", "calibrate"]

_HELD_OUT_STEP = 6
"""One image in so many is held out for verification."""
_MIN_IMAGES = 2 * _HELD_OUT_STEP
_ALTERED_IMAGES = 8
_RANKING_IMAGES = 8
"""Images to rank groups of nodes with; the verdict uses all held-out images."""
_RANKING_RUNS = 240
"""Images times groups of nodes. A graph of many groups is ranked with fewer images."""
_MAX_FLOAT_GROUPS = 12
"""Groups of nodes to keep in float. A model that needs more is not suited to INT8."""
_ARITHMETIC_IMAGES = 3
"""Images to look with for nodes that are computed wrongly; the verdict uses all."""
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The recorded ranges, and the verdict on the quantized graph."""

    path: Path
    ranges: Ranges
    verdict: Verdict


def calibrate(
    options: CalibrateOptions,
    on_progress: OnProgress = lambda phase, done, total: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Calibrated:
    """Record ranges, quantize and verify. Keep nodes that lose too much in float until the INT8 budget is met.

    Args:
        options: what to calibrate.
        on_progress: called with the phase, the steps done and the total.
        notify: called with messages for the user, e.g. that there are fewer images than requested.

    Raises:
        OptionError: an option does not suit the data.
        ModelError: the model is quantized already, is a sequence model, or has no convolution.
        DatasetError: the data cannot be used, has other classes or too few images.
        BackendUnavailable: ONNX Runtime is not installed.
        ProofError: too much accuracy is lost even with nodes kept in float; nothing was written.
        SinkError: a file cannot be written.
    """
    reader = DatasetReader(options.reading)
    original = load_model(find_model(options.model))
    _check_model(original)
    model = replace(original, spec=override_steps(original.spec, options.preprocess))
    notice = preprocess_notice(original.spec, model.spec)
    if notice:
        notify(notice)
        write_spec(model.graph, model.spec)  # the quantized graph must name the steps that the ranges depend on
    output = options.output or default_output(model)
    for path in filter(None, (output, options.save_model)):
        check_folder_writable(path.parent, str(path))
    data, held_out = _split_images(model, options)
    if len(data) < options.frames:
        notify(f"there are only {data.name} to record on, fewer than --frames {options.frames}: all are used")
    prepare = Prepare(model.spec)
    pixels = np.zeros(VOID + 1, np.int64)
    with closing(reader.load(data, range(len(data)))) as loaded:
        frames = (prepare(image) for image in _count_labels(loaded, pixels))
        tensors = record_ranges(
            model, frames, options.method, lambda done: on_progress("recording ranges", done, len(data))
        )
    ranges = Ranges(
        model=model.spec.name,
        model_sha256=file_sha256(model.path),
        method=options.method,
        data=f"{data.name}; {notice}" if notice else data.name,
        frames=len(data),
        tensors=tensors,
    )
    absent = absent_classes(pixels, model.spec.classes, data.name) if pixels[:VOID].any() else ""
    for line in filter(None, (reader.notice, absent, *data.notes.lines)):
        notify(line)
    searched: frozenset[str] | None = None
    while ranges.kept_nodes != searched:  # until both judge the same graph
        ranges, arithmetic = _correct_arithmetic(model, ranges, held_out, reader, on_progress, notify)
        searched = ranges.kept_nodes
        ranges, verdict = _find_float_groups(model, ranges, held_out, reader, on_progress, notify)
    if not arithmetic.passed:
        raise ProofError(
            f"INT8 of {ranges.model} is not computed exactly on this CPU, {arithmetic.reasons[0]} on "
            f"{arithmetic.data}: nothing was written, use another --precision"
        )
    ranges = replace(ranges, verdict=verdict.to_dict() | {"arithmetic": arithmetic.to_dict()})
    if options.save_model is not None:
        options.save_model.parent.mkdir(parents=True, exist_ok=True)
        graph = quantize(model, ranges).graph
        spec = store_backgrounds(model.spec, options.save_model)
        write_spec(graph, replace(spec, extra=spec.extra | {CERTIFICATE: arithmetic.to_dict()}))
        write_bytes(options.save_model, graph.SerializeToString())
    write_ranges(ranges, output)
    return Calibrated(output, ranges, verdict)


def _count_labels(items: Iterable[LoadedItem], pixels: NDArray[np.int64]) -> Iterator[Image]:
    """Yield the images, and add the pixels of each class to ``pixels``."""
    for _, image, labels in items:
        pixels += np.bincount(labels.ravel(), minlength=VOID + 1)
        yield image


def _check_model(model: ModelFile) -> None:
    """Raise ModelError for a model that cannot be quantized, before the work starts."""
    if is_quantized(model.graph):
        raise ModelError(f"{model.path} is quantized already: calibrate the model file that it was made from")
    reject_sequence_model(model)


class _Altered(Dataset):
    """Blurred, darkened and brightened copies of some images: what nothing was calibrated on."""

    _variants = VARIANTS[1:]

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._images = min(_ALTERED_IMAGES, len(dataset))
        self.name = f"blurred, darkened and brightened copies of {dataset.name}"
        self.classes, self.palette, self.licence = dataset.classes, dataset.palette, dataset.licence
        self.supported_channels, self.channels = dataset.supported_channels, dataset.channels

    def __len__(self) -> int:
        return self._images * len(self._variants)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        image, labels = self._dataset.load(self._original(index), epoch, read)
        return alter_image(image, self._variants[index % len(self._variants)]), labels

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._dataset.files(self._original(index))

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return f"{self._variants[index % len(self._variants)]} {self._dataset.title(self._original(index))}"

    def _original(self, index: int) -> int:
        return index // len(self._variants) * len(self._dataset) // self._images


def _split_images(model: ModelFile, options: CalibrateOptions) -> tuple[Dataset, Dataset]:
    """Return the images to record on, and those to verify with."""
    if options.val_data is not None:
        dataset = open_dataset(options.data, options.split, channels=model.spec.channels)
        held_out = open_verification_data(model.spec, options.val_data, options.split)
        rest = list(range(len(dataset)))
    else:
        dataset = open_verification_data(model.spec, options.data, options.split)
        indices = list(range(_HELD_OUT_STEP // 2, len(dataset), _HELD_OUT_STEP))
        held_out = _some(dataset, indices, "held-out images")
        rest = sorted(set(range(len(dataset))) - set(indices))
    if len(dataset) < _MIN_IMAGES:
        raise DatasetError(f"{dataset.name}: calibration needs at least {_MIN_IMAGES} images: give more --data")
    count = min(options.frames, len(rest))
    return _some(dataset, [rest[step * len(rest) // count] for step in range(count)], "images"), held_out


def _some(dataset: Dataset, indices: list[int], description: str) -> Subset:
    return Subset(dataset, indices, f"{len(indices)} {description} of {dataset.name}")


def _correct_arithmetic(
    model: ModelFile,
    ranges: Ranges,
    held_out: Dataset,
    reader: DatasetReader,
    on_progress: OnProgress,
    notify: Callable[[str], None],
) -> tuple[Ranges, Verdict]:
    """Compare int8 on this CPU with exact arithmetic, and keep nodes that the runtime computes wrongly in float."""
    arithmetic = _verify_arithmetic(model, ranges, held_out, reader, on_progress)
    if arithmetic.passed:
        return ranges, arithmetic
    images = _prepared(_Altered(held_out), _ARITHMETIC_IMAGES, model, reader)
    for _ in range(_MAX_FLOAT_GROUPS):
        minimum = arithmetic.budget.min_agreement or 0.0
        group = find_wrong_group(
            model, ranges, images, minimum, lambda done, total: on_progress("looking for wrong nodes", done, total)
        )
        if group is None:
            break
        notify(
            f"{', '.join(group.nodes)} stays in float: {arithmetic.judged_by} computes it wrongly in int8 on this CPU "
            f"({arithmetic.agreement:.1%} of the pixels agree with exact arithmetic)"
        )
        ranges = replace(ranges, kept=(*ranges.kept, group))
        arithmetic = _verify_arithmetic(model, ranges, held_out, reader, on_progress)
        if arithmetic.passed:
            break
    return ranges, arithmetic


def _prepared(data: Dataset, count: int, model: ModelFile, reader: DatasetReader) -> list[Image]:
    """Load ``count`` images, spread evenly over the data."""
    prepare = Prepare(model.spec)
    count = min(count, len(data))
    with closing(reader.load(data, [step * len(data) // count for step in range(count)])) as loaded:
        return [prepare(image) for _, image, _ in loaded]


def _find_float_groups(
    model: ModelFile,
    ranges: Ranges,
    held_out: Dataset,
    reader: DatasetReader,
    on_progress: OnProgress,
    notify: Callable[[str], None],
) -> tuple[Ranges, Verdict]:
    """Verify the quantized graph, and keep as few of its most sensitive nodes in float as it takes to pass.

    All that may be kept are tried first, so that a search that cannot succeed ends at once; then fewer by bisection.
    """
    verdict = _verify(model, ranges, held_out, reader, on_progress)
    if verdict.passed:
        return replace(ranges, verdict=verdict.to_dict()), verdict
    notify(f"all in INT8: {verdict.reasons[0]}; searching for nodes to keep in float")
    images = _prepared(
        held_out, min(_RANKING_IMAGES, max(2, _RANKING_RUNS // len(quantizable_groups(model)))), model, reader
    )
    ranked = rank_float_groups(model, ranges, images, lambda done, total: on_progress("ranking nodes", done, total))
    ranked = ranked[:_MAX_FLOAT_GROUPS]
    best: tuple[Ranges, Verdict] | None = None
    failing, count, passing = 0, len(ranked), len(ranked)  # with ``failing`` groups in float it does not pass
    while failing < count:
        tried = replace(ranges, kept=(*ranges.kept, *ranked[:count]))
        verdict = _verify(model, tried, held_out, reader, on_progress)
        groups = "1 group" if count == 1 else f"{count} groups"
        notify(f"{groups} of nodes in float: mIoU {-(verdict.drop or 0):+z.2f} points")
        if verdict.passed:
            best, passing = (replace(tried, verdict=verdict.to_dict()), verdict), count
        elif best is None:
            break
        else:
            failing = count
        count = (failing + passing) // 2
    if best is not None:
        return best
    raise ProofError(
        f"INT8 does not suit {ranges.model}, {verdict.reasons[0]} with {len(ranked)} groups of nodes in float: "
        "nothing was written, try another --method or more --frames"
    )


def _verify(
    model: ModelFile, ranges: Ranges, held_out: Dataset, reader: DatasetReader, on_progress: OnProgress
) -> Verdict:
    """Compare int8 with the float graph."""
    quantized = quantize(model, ranges)
    return _compare(model, quantized, "int8", held_out, BUDGETS["int8"], reader, partial(on_progress, "verifying"))


def _verify_arithmetic(
    model: ModelFile, ranges: Ranges, held_out: Dataset, reader: DatasetReader, on_progress: OnProgress
) -> Verdict:
    """Compare int8 on this CPU with the same quantized graph in exact arithmetic, on images of another kind."""
    quantized = quantize(model, ranges)
    budget = Budget(100, BUDGETS["int8"].min_agreement)
    on_step = partial(on_progress, "comparing with exact arithmetic")
    return _compare(emulate_int8(quantized), quantized, "int8", _Altered(held_out), budget, reader, on_step)


def _compare(
    reference: ModelFile,
    candidate: ModelFile,
    precision: str,
    data: Dataset,
    budget: Budget,
    reader: DatasetReader,
    on_step: Callable[[int, int], None],
) -> Verdict:
    """Compare a graph in ``precision`` with another one in fp32, both on the CPU."""
    with (
        open_backend("openvino", reference, precision="fp32") as expected,
        open_backend("openvino", candidate, precision=precision) as backend,
    ):
        return verify(
            expected,
            backend,
            data,
            budget,
            on_progress=on_step,
            judged_by=f"the graph on the CPU by OpenVINO {backend.version}",
            reader=reader,
        )
