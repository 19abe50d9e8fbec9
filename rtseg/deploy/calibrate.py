"""Model file + images -> recorded ranges, proven: what ``rtseg calibrate`` does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtseg.backends.base import Backend, BackendOptions
from rtseg.datasets import Dataset, Read, open_dataset
from rtseg.datasets.loader import Reader
from rtseg.deploy.sensitivity import find_kept
from rtseg.deploy.verify import BUDGETS, Verdict, proof_data, verify
from rtseg.errors import DatasetError, ModelError, OptionError, ProofError
from rtseg.frame import Image, Labels
from rtseg.image_io.options import ReadOptions
from rtseg.model_file.activation_ranges import Ranges, default_output, write_ranges
from rtseg.model_file.graph import is_quantised
from rtseg.model_file.load import ModelFile, load_model
from rtseg.model_file.quantize import METHODS, quantize, record, refuse_sequence
from rtseg.model_file.spec import file_sha256, write_spec
from rtseg.preprocess import Prepare, override_steps, preprocess_notice
from rtseg.system.atomic_files import check_folder_writable, write_bytes
from rtseg.weights import find_model

__all__ = ["CalibrateOptions", "Calibrated", "calibrate"]

_HELD_OUT = 6
"""One image of so many judges and is not recorded on."""
_FEWEST = 2 * _HELD_OUT
_SEARCH_FRAMES = 8
"""Images that rank what to leave in float; the verdict is given on all that are held out."""
_MOST_KEPT = 12
"""Groups of nodes in float: where more are needed, INT8 does not suit the model."""
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What to calibrate, and on what.

    Raises:
        OptionError: a value is out of range; the text names the option.
    """

    model: str | Path
    """A model file, or the name of a bundled one."""
    data: str
    """``KIND:PATH`` of images like those that the model will see."""
    split: str = "train"
    """Of the data. What is judged on later (``val``, ``test``) must not be calibrated on."""
    method: str = "percentile"
    """See ``rtseg.model_file.quantize.record``."""
    frames: int = 300
    """How many images to record on, spread evenly over the data."""
    output: Path | None = None
    """The JSON file; ``calib/<name>.json`` unless given."""
    save_model: Path | None = None
    """Where to write the quantised graph, too."""
    verify_data: str | None = None
    """``KIND:PATH`` of the images that judge, of ``split`` as well; images of ``data`` held out unless given."""
    preprocess: tuple[str, ...] | None = None
    """Steps in place of those that the model file names; see ``rtseg.preprocess``."""
    reading: ReadOptions = field(default_factory=ReadOptions)
    """How the files of the data are read; see ``rtseg.datasets.loader.Reader``."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(f"--method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.frames < 1:
            raise OptionError(f"--frames must be at least 1, got {self.frames}")
        if self.split in ("val", "test"):
            raise OptionError(f"--split {self.split} is for judging: calibrate on train, or what else was trained on")
        if self.output is not None and self.output.suffix != ".json":
            raise OptionError(f"--output must end in .json, got {self.output}")
        if self.save_model is not None and self.save_model.suffix != ".onnx":
            raise OptionError(f"--save-model must end in .onnx, got {self.save_model}")


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was recorded, and how it was judged."""

    path: Path
    ranges: Ranges
    verdict: Verdict


def calibrate(
    options: CalibrateOptions,
    on_progress: OnProgress = lambda phase, done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Calibrated:
    """Record ranges, quantise, judge; leave in float what costs too much, until the INT8 budget is kept.

    Args:
        options: what to calibrate.
        on_progress: called with the phase, and how much of it is done.
        tell: called with what a user ought to know, e.g. that there are fewer images than asked for.

    Raises:
        OptionError: an option does not suit the data.
        ModelError: the model is quantised already, is a sequence model, or has no convolution.
        DatasetError: the data cannot be used, have other classes, or too few images.
        BackendUnavailable: ONNX Runtime is not installed.
        ProofError: too much accuracy is lost whatever is left in float; nothing was written.
        SinkError: a file cannot be written.
    """
    reader = Reader(options.reading)
    own = load_model(find_model(options.model))
    _check_model(own)
    model = replace(own, spec=override_steps(own.spec, options.preprocess))
    notice = preprocess_notice(own.spec, model.spec)
    if notice:
        tell(notice)
        write_spec(model.graph, model.spec)  # the quantised graph names the steps that it was recorded with
    output = options.output or default_output(model)
    for path in filter(None, (output, options.save_model)):
        check_folder_writable(path.parent, str(path))
    recorded, judging = _parts(model, options)
    if len(recorded) < options.frames:
        tell(f"there are only {recorded.name} to record on, fewer than --frames {options.frames}: all are used")
    prepare = Prepare(model.spec)
    with closing(reader.load(recorded, range(len(recorded)))) as loaded:
        frames = (prepare(image) for _, image, _ in loaded)
        tensors = record(
            model, frames, options.method, lambda done: on_progress("recording ranges", done, len(recorded))
        )
    ranges = Ranges(
        model=model.spec.name,
        model_sha256=file_sha256(model.path),
        method=options.method,
        data=f"{recorded.name}; {notice}" if notice else recorded.name,
        frames=len(recorded),
        tensors=tensors,
    )
    if reader.notice:
        tell(reader.notice)
    ranges, verdict = _prove(model, ranges, judging, reader, on_progress, tell)
    if options.save_model is not None:
        options.save_model.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(options.save_model, quantize(model, ranges).graph.SerializeToString())
    write_ranges(ranges, output)
    return Calibrated(output, ranges, verdict)


def _check_model(model: ModelFile) -> None:
    """Raises ModelError for a model that cannot be quantised, before any work is done."""
    if is_quantised(model.graph):
        raise ModelError(f"{model.path} is quantised already: calibrate the model file that it was made of")
    refuse_sequence(model)


class _Part(Dataset):
    """Some images of a data set."""

    def __init__(self, whole: Dataset, places: list[int], what: str) -> None:
        self._whole = whole
        self._places = places
        self.name = f"{len(places)} {what} of {whole.name}"
        self.classes, self.palette, self.licence = whole.classes, whole.palette, whole.licence
        self.stores, self.channels = whole.stores, whole.channels

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int, epoch: int = 0, read: Read = Path.read_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        return self._whole.load(self._places[index], epoch, read)

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return self._whole.files(self._places[index])

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return self._whole.title(self._places[index])


def _parts(model: ModelFile, options: CalibrateOptions) -> tuple[Dataset, Dataset]:
    """The images to record on, and those that judge."""
    if options.verify_data is not None:
        whole = open_dataset(options.data, options.split, channels=model.spec.channels)
        judging, rest = proof_data(model.spec, options.verify_data, options.split), list(range(len(whole)))
    else:
        whole = proof_data(model.spec, options.data, options.split)
        held_out = list(range(_HELD_OUT // 2, len(whole), _HELD_OUT))
        judging = _Part(whole, held_out, "held-out images")
        rest = sorted(set(range(len(whole))) - set(held_out))
    if len(whole) < _FEWEST:
        raise DatasetError(f"{whole.name}: to calibrate at least {_FEWEST} images are needed; give more --data")
    count = min(options.frames, len(rest))
    return _Part(whole, [rest[place * len(rest) // count] for place in range(count)], "images"), judging


def _prove(
    model: ModelFile,
    ranges: Ranges,
    judging: Dataset,
    reader: Reader,
    on_progress: OnProgress,
    tell: Callable[[str], None],
) -> tuple[Ranges, Verdict]:
    """Judge the quantised graph, and leave the worst of it in float until it passes."""
    verdict = _judge(model, ranges, judging, reader, on_progress)
    if verdict.passed:
        return replace(ranges, verdict=verdict.to_dict()), verdict
    tell(f"all in INT8 {verdict.reasons[0]}: looking for what to leave in float")
    prepare = Prepare(model.spec)
    chosen = [place * len(judging) // _SEARCH_FRAMES for place in range(min(_SEARCH_FRAMES, len(judging)))]
    with closing(reader.load(judging, chosen)) as loaded:
        images = [prepare(image) for _, image, _ in loaded]
    ranked = find_kept(model, ranges, images, lambda done, total: on_progress("leaving one out", done, total))
    for kept in ranked[:_MOST_KEPT]:
        ranges = replace(ranges, kept=(*ranges.kept, kept))
        verdict = _judge(model, ranges, judging, reader, on_progress)
        tell(f"{', '.join(kept.nodes)} in float: mIoU {-(verdict.drop or 0):+z.2f} points")
        if verdict.passed:
            return replace(ranges, verdict=verdict.to_dict()), verdict
    raise ProofError(
        f"INT8 does not suit {ranges.model}, {verdict.reasons[0]} with {len(ranges.kept)} groups of nodes in float: "
        "nothing was written, try another --method or more --frames"
    )


def _judge(model: ModelFile, ranges: Ranges, judging: Dataset, reader: Reader, on_progress: OnProgress) -> Verdict:
    with _opened(model, "fp32", ranges) as reference, _opened(quantize(model, ranges), "int8", ranges) as candidate:
        return verify(
            reference,
            candidate,
            judging,
            BUDGETS["int8"],
            on_progress=lambda done, total: on_progress("judging", done, total),
            judged_by=f"the graph on the CPU by OpenVINO {candidate.version}",
            reader=reader,
        )


def _opened(model: ModelFile, precision: str, ranges: Ranges) -> Backend:
    from rtseg.backends.openvino import OpenVinoBackend

    backend = OpenVinoBackend(model, BackendOptions(precision=precision))
    backend.model_sha256 = ranges.model_sha256
    return backend
