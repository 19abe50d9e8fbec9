"""Verifies that a converted model (smaller, quantized, or built for another runtime) still predicts the same labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.backends.base import Backend
from rtseg.camvid_classes import CLASSES
from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.evaluate import are_consecutive
from rtseg.datasets.loader import DatasetReader
from rtseg.datasets.matched_classes import match_classes
from rtseg.datasets.synthetic import UnlabelledStreets
from rtseg.errors import DatasetError, ModelError, OptionError
from rtseg.frame import Image, Labels
from rtseg.metrics.confusion import ConfusionMatrix, compute_scores
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import Prepare, resize_labels
from rtseg.system.cpu import cpu_class
from rtseg.visualize.label_differences import LabelDifferences

__all__ = ["BUDGETS", "Budget", "Verdict", "drawn_data_notice", "open_verification_data", "verify"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How much the labels may differ from those of the reference.

    Raises:
        OptionError: a bound is out of range.
    """

    max_drop: float
    """Allowed loss of mIoU, in points, 0 to 100."""
    min_agreement: float | None
    """Minimum share of pixels with the same label, in [0, 1]; None if only the mIoU counts."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 100:
            raise OptionError(f"--max-drop must be points of mIoU, 0 to 100, e.g. 0.5; got {self.max_drop:g}")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise OptionError(f"--min-agreement must be a share, 0 to 1, e.g. 0.995; got {self.min_agreement:g}")


BUDGETS = {
    "fp32": Budget(0.05, 0.999),
    "bf16": Budget(0.2, 0.99),
    "fp16": Budget(0.05, 0.995),
    "int8": Budget(0.5, 0.975),
}
"""Precision -> budget. INT8 moves many outlines by a pixel, so fewer pixels have to agree."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison. Shares and IoU are in [0, 1]."""

    reference: dict[str, Any]
    """``Backend.facts`` of the reference."""
    candidate: dict[str, Any]
    """``Backend.facts`` of the candidate."""
    judged_by: str
    """What computed the labels of the candidate, e.g. ``the graph on the CPU by ONNX Runtime 1.31``."""
    data: str
    """Description of the images."""
    images: int
    """Number of images."""
    budget: Budget
    agreement: float
    """Share of all pixels with the same label."""
    miou: tuple[float, float] | None
    """mIoU of the reference and of the candidate, over the classes of the ground truth; None without ground truth."""
    iou: dict[str, tuple[float, float]]
    """Class -> IoU of the reference and of the candidate, for the classes of the ground truth."""
    worst: tuple[tuple[str, float], ...]
    """The images with the lowest agreement, lowest first: (file name, agreement)."""

    @property
    def drop(self) -> float | None:
        """Loss of mIoU, in points; negative if the candidate is better."""
        return None if self.miou is None else 100 * (self.miou[0] - self.miou[1])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate failed, as sentences; empty if it passed."""
        reasons = []
        if self.drop is not None and self.drop > self.budget.max_drop:
            reasons.append(f"mIoU drops by {self.drop:.2f} points, at most {self.budget.max_drop:g} are allowed")
        minimum = self.budget.min_agreement
        if minimum is not None and self.agreement < minimum:
            reasons.append(f"only {self.agreement:.3%} of the pixels agree, at least {minimum:.3%} are required")
        return tuple(reasons)

    @property
    def passed(self) -> bool:
        """Whether the candidate can replace the reference."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict for JSON."""
        both = ("reference", "candidate")
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "judged_by": self.judged_by,
            "cpu": cpu_class(),
            "data": self.data,
            "images": self.images,
            "budget": {"max_drop": self.budget.max_drop, "min_agreement": self.budget.min_agreement},
            "agreement": self.agreement,
            "miou": None if self.miou is None else dict(zip(both, self.miou, strict=True)),
            "drop": self.drop,
            "iou": {
                name: {"reference": before, "candidate": after, "difference": after - before}
                for name, (before, after) in self.iou.items()
            },
            "worst": [{"image": name, "agreement": agreement} for name, agreement in self.worst],
            "reference": self.reference,
            "candidate": self.candidate,
        }


def open_verification_data(spec: ModelSpec, data: str | None, split: str = "val") -> Dataset:
    """Open the images to verify a model with.

    Args:
        spec: of the model.
        data: ``KIND:PATH``, see ``open_dataset``. By default synthetic streets: with ground truth if the model has the
            classes of CamVid, otherwise without, so that only the agreement is measured.
        split: split of ``data``.

    Raises:
        DatasetError: the data cannot be used, or has other classes than the model.
        OptionError: ``data`` is malformed, or its images lack channels that the model needs.
    """
    if data is None:
        if spec.classes == CLASSES and spec.channels == 3:
            return open_dataset("synthetic:street", "val")
        return UnlabelledStreets(spec)
    dataset = open_dataset(data, split, channels=spec.channels)
    return match_classes(dataset, spec.classes, spec.name)


def drawn_data_notice(spec: ModelSpec, data: str | None) -> str:
    """Return a sentence if a model that rtseg did not train is verified on drawn streets; else an empty text."""
    if data is not None or spec.architecture or spec.classes == CLASSES:
        return ""
    return (
        f"{spec.name} is compared on drawn streets, which it was not made for: that they agree there says little, "
        "give --data with images like those that it will see"
    )


def verify(
    reference: Backend,
    candidate: Backend,
    data: Dataset,
    budget: Budget,
    *,
    worst_dir: Path | None = None,
    frames: int | None = None,
    judged_by: str = "",
    reader: DatasetReader | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Label the same images with both models, and check the candidate against a budget.

    The agreement is measured at the input size of the models, the IoU at the size of the ground truth without void
    pixels. The mIoU is the mean over the classes of the ground truth: for any other class, one wrong pixel would give
    an IoU of 0.

    Args:
        reference: the model to compare with.
        candidate: the model to verify, with the same classes, size and channels.
        data: the images, see ``open_verification_data``.
        budget: how much the labels may differ, see ``BUDGETS``.
        worst_dir: folder for drawings of the images with the lowest agreement; it is created.
        frames: number of images, spread evenly over the data (the first ones for a sequence model); all by default.
        judged_by: see ``Verdict.judged_by``; made from the candidate's facts by default.
        reader: reads the files; with default options by default.
        on_progress: called after every image with the number of images done and the total.

    Raises:
        ModelError: the models differ in classes, size or channels.
        DatasetError: there is no image, or one cannot be used; or the data has no ground truth and the budget limits
            only the mIoU.
        OptionError: ``frames`` is less than 1.
        BackendError: a runtime failed.
        SinkError: a drawing cannot be written.
    """
    _check_comparable(reference.spec, candidate.spec)
    indices = _select_images(len(data), frames, consecutive=reference.recurrent)
    if not indices:
        raise DatasetError(f"{data.name} holds no image: give other --data")
    comparison = _Comparison(reference, candidate)
    previous: int | None = None
    with closing((reader or DatasetReader()).load(data, indices)) as loaded:
        for done, (index, image, truth) in enumerate(loaded, start=1):
            if not are_consecutive(data, previous, index):
                comparison.reset()
            comparison.add(Path(data.title(index)).name, image, truth)
            previous = index
            on_progress(done, len(indices))
    if worst_dir is not None:
        comparison.differences.write(worst_dir)
    iou = comparison.iou()
    if not iou and budget.min_agreement is None:
        raise DatasetError(
            f"{data.name}: without ground truth only the agreement can be checked: give --data or --min-agreement"
        )
    return Verdict(
        reference=reference.facts(),
        candidate=candidate.facts(),
        judged_by=judged_by or f"the graph on {candidate.device} by {candidate.name} {candidate.version}",
        data=data.name if len(indices) == len(data) else f"{len(indices)} images of {data.name}",
        images=len(indices),
        budget=budget,
        agreement=comparison.equal_pixels / comparison.pixels,
        miou=tuple(np.mean(list(iou.values()), axis=0).tolist()) if iou else None,
        iou=iou,
        worst=comparison.differences.names(),
    )


class _Comparison:
    """The labels of two models on the same images."""

    def __init__(self, reference: Backend, candidate: Backend) -> None:
        self._backends = (reference, candidate)
        self._prepares = [Prepare(backend.spec) for backend in self._backends]
        self._classes = reference.spec.classes
        self._confusions = [ConfusionMatrix(len(self._classes)) for _ in self._backends]
        self.differences = LabelDifferences(reference.spec)
        self.equal_pixels = self.pixels = 0

    def reset(self) -> None:
        """See ``Backend.reset``."""
        for backend in self._backends:
            backend.reset()

    def add(self, name: str, image: Image, truth: Labels) -> None:
        """Label an image with both models."""
        labels: list[Labels] = []
        for backend, prepare, confusion in zip(self._backends, self._prepares, self._confusions, strict=True):
            labels.append(backend.infer(prepare(image)[None])[0].copy())
            confusion.add(resize_labels(labels[-1], (truth.shape[0], truth.shape[1])), truth)
        equal = int(np.count_nonzero(labels[0] == labels[1]))
        self.equal_pixels, self.pixels = self.equal_pixels + equal, self.pixels + labels[0].size
        self.differences.add(name, equal / labels[0].size, image, labels[0], labels[1])

    def iou(self) -> dict[str, tuple[float, float]]:
        """Return class -> IoU of both models, for the classes of the ground truth."""
        reference, candidate = (confusion.matrix() for confusion in self._confusions)
        if not reference.any():
            return {}
        ious = (compute_scores(reference).iou, compute_scores(candidate).iou)
        rows = zip(self._classes, reference.sum(1), *ious, strict=True)
        # A class of the ground truth has an IoU, whatever is predicted.
        return {name: (before or 0.0, after or 0.0) for name, pixels, before, after in rows if pixels}


def _check_comparable(reference: ModelSpec, candidate: ModelSpec) -> None:
    """Raise ModelError if the labels of two models cannot be compared."""
    for attribute, first, second in (
        ("classes", ", ".join(reference.classes), ", ".join(candidate.classes)),
        ("size", "x".join(map(str, reference.size)), "x".join(map(str, candidate.size))),
        ("channels", str(reference.channels), str(candidate.channels)),
    ):
        if first != second:
            raise ModelError(
                f"{reference.name} and {candidate.name} cannot be compared, their {attribute} differ "
                f"({first}; {second}): give two files of the same model"
            )


def _select_images(count: int, frames: int | None, *, consecutive: bool) -> list[int]:
    """Return the indices of the images to use, out of ``count``."""
    if frames is None or frames >= count:
        return list(range(count))
    if frames < 1:
        raise OptionError(f"--frames must be at least 1, got {frames}")
    return list(range(frames)) if consecutive else [step * count // frames for step in range(frames)]
