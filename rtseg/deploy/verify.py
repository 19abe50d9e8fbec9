"""Proof that a model still labels right after it was changed: made smaller, quantized, or built for another runtime."""

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
from rtseg.datasets.synthetic import UnlabelledStreets
from rtseg.errors import DatasetError, ModelError, OptionError
from rtseg.frame import Labels
from rtseg.metrics.confusion import ConfusionMatrix, compute_scores
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import Prepare, resize_labels
from rtseg.visualize.label_differences import LabelDifferences

__all__ = ["BUDGETS", "Budget", "Verdict", "open_verification_data", "verify"]


@dataclass(frozen=True, slots=True)
class Budget:
    """How far labels may be from those of the reference.

    Raises:
        OptionError: a bound is out of its range.
    """

    max_drop: float
    """Points of mIoU, 0 to 100, that may be lost."""
    min_agreement: float | None
    """Least share of pixels with the same label, in [0, 1]; None where the mIoU alone decides."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 100:
            raise OptionError(f"--max-drop wants points of mIoU, 0 to 100, e.g. 0.5; got {self.max_drop:g}")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise OptionError(f"--min-agreement wants a share, 0 to 1, e.g. 0.995; got {self.min_agreement:g}")


BUDGETS = {
    "fp32": Budget(0.05, 0.999),
    "bf16": Budget(0.2, 0.99),
    "fp16": Budget(0.05, 0.995),
    "int8": Budget(0.5, None),
}
"""What each precision may cost. Eight bits for a value move many outlines by a pixel: there the mIoU alone decides."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found; shares and IoU are in [0, 1]."""

    reference: dict[str, Any]
    """What was compared with, as ``Backend.facts``."""
    candidate: dict[str, Any]
    """What was judged, as ``Backend.facts``."""
    judged_by: str
    """What computed the candidate's labels, in words, e.g. ``the graph on the CPU by ONNX Runtime 1.31``."""
    data: str
    """The images, in words."""
    images: int
    budget: Budget
    agreement: float
    """Share of all pixels to which both give the same label."""
    miou: tuple[float, float] | None
    """Of the reference and of the candidate, over the classes that the truth has; None for images without truth."""
    iou: dict[str, tuple[float, float]]
    """Of the reference and of the candidate, for each class that the truth has."""
    worst: tuple[tuple[str, float], ...]
    """The images that agree least, the worst first: name, without the folder, and agreement."""

    @property
    def drop(self) -> float | None:
        """Points of mIoU that the candidate lost; less than 0 where it is better."""
        return None if self.miou is None else 100 * (self.miou[0] - self.miou[1])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not good enough, a sentence each; none where it is."""
        found = []
        if self.drop is not None and self.drop > self.budget.max_drop:
            found.append(f"mIoU drops by {self.drop:.2f} points, at most {self.budget.max_drop:g} are allowed")
        least = self.budget.min_agreement
        if least is not None and self.agreement < least:
            found.append(f"only {self.agreement:.3%} of the pixels agree, at least {least:.3%} are wanted")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether the candidate may take the place of the reference."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all of it, with names for what stands in pairs."""
        both = ("reference", "candidate")
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "judged_by": self.judged_by,
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
    """Images for a proof: those that the user named, else drawn streets.

    Args:
        spec: of the model.
        data: ``KIND:PATH``, as ``open_dataset`` takes it. None for drawn streets: with their truth where the model
            knows the classes of CamVid, else as mere images, for which agreement alone can be judged.
        split: of the data that the user named.

    Raises:
        DatasetError: the data cannot be used, or have other classes than the model.
        OptionError: ``data`` is malformed, or its images lack the model's channels.
    """
    if data is None:
        if spec.classes == CLASSES and spec.channels == 3:
            return open_dataset("synthetic:street", "val")
        return UnlabelledStreets(spec)
    dataset = open_dataset(data, split, channels=spec.channels)
    if dataset.classes != spec.classes:
        raise DatasetError(
            f"{spec.name} knows {', '.join(spec.classes)}; {dataset.name} has {', '.join(dataset.classes)}: "
            "give --data with the same classes"
        )
    return dataset


def verify(
    reference: Backend,
    candidate: Backend,
    data: Dataset,
    budget: Budget,
    *,
    worst: Path | None = None,
    frames: int | None = None,
    judged_by: str = "",
    reader: DatasetReader | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verdict:
    """Label the same images with both, and judge the candidate by a budget.

    The agreement is counted at the models' own size, the IoU at the size of the truth, void left out. The mean is over
    the classes that the truth has: for another class a single stray pixel would be an IoU of 0, and no drop of the
    candidate's but an accident.

    Args:
        reference: what is taken for right.
        candidate: what is judged, of the same classes, size and channels.
        data: the images, see ``open_verification_data``.
        budget: what may be lost, see ``BUDGETS``.
        worst: folder for drawings of the images that agree least; it is made.
        frames: how many images, spread evenly over the data (for a sequence model the first ones); all unless given.
        reader: how files are read; as usual unless given.
        judged_by: the verdict's words for what computes the candidate; what the backend says unless given.
        on_progress: called after every image with how many are done, and of how many.

    Raises:
        ModelError: the two differ in classes, size or channels.
        DatasetError: there is no image, or one cannot be used; or the data have no truth while the budget
            bounds the mIoU alone.
        OptionError: ``frames`` is less than 1.
        BackendError: a runtime failed.
        SinkError: a drawing cannot be written.
    """
    _refuse_unlike(reference.spec, candidate.spec)
    spec = reference.spec
    both = (reference, candidate)
    prepares = [Prepare(backend.spec) for backend in both]
    confusions = [ConfusionMatrix(len(spec.classes)) for _ in both]
    images = LabelDifferences(spec)
    places = _places(len(data), frames, consecutive=reference.recurrent)
    if not places:
        raise DatasetError(f"{data.name} holds no image: give other --data")
    equal = pixels = 0
    before: int | None = None
    with closing((reader or DatasetReader()).load(data, places)) as loaded:
        for done, (place, image, truth) in enumerate(loaded, start=1):
            labels: list[Labels] = []
            for backend, prepare, confusion in zip(both, prepares, confusions, strict=True):
                if not are_consecutive(data, before, place):
                    backend.reset()
                labels.append(backend.infer(prepare(image)[None])[0].copy())
                confusion.add(resize_labels(labels[-1], (truth.shape[0], truth.shape[1])), truth)
            same = int(np.count_nonzero(labels[0] == labels[1]))
            equal, pixels = equal + same, pixels + labels[0].size
            images.add(Path(data.title(place)).name, same / labels[0].size, image, labels[0], labels[1])
            before = place
            on_progress(done, len(places))
    if worst is not None:
        images.write(worst)
    iou = _iou_of_both(confusions, spec.classes)
    if not iou and budget.min_agreement is None:
        raise DatasetError(f"{data.name}: without truth only agreement can be judged: give --data or --min-agreement")
    return Verdict(
        reference=reference.facts(),
        candidate=candidate.facts(),
        judged_by=judged_by or f"the graph on {candidate.device} by {candidate.name} {candidate.version}",
        data=data.name if len(places) == len(data) else f"{len(places)} images of {data.name}",
        images=len(places),
        budget=budget,
        agreement=equal / pixels,
        miou=tuple(np.mean(list(iou.values()), axis=0).tolist()) if iou else None,
        iou=iou,
        worst=images.names(),
    )


def _refuse_unlike(reference: ModelSpec, candidate: ModelSpec) -> None:
    """Raises ModelError where the labels of two models cannot be compared."""
    for what, mine, other in (
        ("classes", ", ".join(reference.classes), ", ".join(candidate.classes)),
        ("size", "x".join(map(str, reference.size)), "x".join(map(str, candidate.size))),
        ("channels", str(reference.channels), str(candidate.channels)),
    ):
        if mine != other:
            raise ModelError(
                f"{reference.name} and {candidate.name} cannot be compared, their {what} differ ({mine}; {other}): "
                "give two files of one model"
            )


def _places(count: int, wanted: int | None, *, consecutive: bool) -> list[int]:
    """Which images of ``count`` to look at."""
    if wanted is None or wanted >= count:
        return list(range(count))
    if wanted < 1:
        raise OptionError(f"--frames must be at least 1, got {wanted}")
    return list(range(wanted)) if consecutive else [place * count // wanted for place in range(wanted)]


def _iou_of_both(confusions: list[ConfusionMatrix], classes: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """IoU of reference and candidate for every class that the truth has; empty without truth."""
    reference, candidate = (confusion.matrix() for confusion in confusions)
    if not reference.any():
        return {}
    pairs = zip(classes, reference.sum(1), compute_scores(reference).iou, compute_scores(candidate).iou, strict=True)
    # A class of the truth has an IoU, whatever was predicted.
    return {name: (before or 0.0, after or 0.0) for name, there, before, after in pairs if there}
