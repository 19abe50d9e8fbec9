"""Evaluate a model on a labelled data set: ``rtseg eval`` as a Python API."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rtseg.app.labelling import SequenceLabeller
from rtseg.app.options import EvaluationOptions
from rtseg.backends import open_backend, read_spec
from rtseg.datasets import open_dataset
from rtseg.datasets.evaluate import predict_all, score_matrix
from rtseg.datasets.loader import DatasetReader
from rtseg.datasets.matched_classes import MatchedClasses, match_classes, parse_class_pairs
from rtseg.errors import RtsegError
from rtseg.metrics.bootstrap import BootstrapInterval, sampling_units
from rtseg.metrics.boundary import TOLERANCE, BoundaryFScore
from rtseg.metrics.confusion import absent_classes
from rtseg.metrics.temporal import Flicker
from rtseg.preprocess import Prepare, override_steps, preprocess_facts, preprocess_notice
from rtseg.weights import find_model

__all__ = ["Evaluation"]


class Evaluation:
    """Opens a model, a data set and a backend. Use it as a context manager.

    Raises:
        RtsegError: The model, the data or the backend cannot be used.
        DatasetError: The model or the data set has a class that the other one lacks, see ``match_classes``.
    """

    def __init__(self, options: EvaluationOptions) -> None:
        self._options = options
        self._reader = DatasetReader(options.reading)
        path = find_model(options.model)
        pairs = parse_class_pairs(options.map_classes)
        dataset = open_dataset(options.data, options.split, channels=read_spec(path).channels)
        self._backend = open_backend(
            options.backend, path, size=options.size, precision=options.precision, device=options.device
        )
        spec = self._backend.spec
        self._absent_notice = ""
        self._spec = override_steps(spec, options.preprocess)
        try:
            self.dataset = match_classes(dataset, spec.classes, spec.name, pairs)
        except RtsegError:
            self._backend.close()
            raise

    @property
    def notice(self) -> str:
        """Message about the selected backend and about other preprocessing steps than the model's; may be empty."""
        return "; ".join(filter(None, (self._backend.notice, preprocess_notice(self._backend.spec, self._spec))))

    @property
    def reading_notice(self) -> str:
        """Lines about the data and reading them, available after ``run``; may be empty."""
        return "\n".join(filter(None, (self._reader.notice, *self.dataset.notes.lines, self._absent_notice)))

    def run(self, indices: Iterable[int] | None = None) -> dict[str, Any]:
        """Predict the images and return the metrics as a dictionary for JSON.

        Args:
            indices: Images to evaluate; None means all.

        Returns:
            ``miou``, ``pixel_accuracy`` and ``iou`` by class; ``miou_interval``, the 95 % bootstrap interval of
            ``miou`` (None for one image), and ``interval_units``, what was resampled; ``boundary_f``,
            ``boundary_f_by_class`` and ``boundary_tolerance``; ``flicker`` and ``motion_flicker``, None if no two
            images are consecutive frames of a video; ``confusion``, pixel counts with one row per ground-truth class;
            and facts about model, backend and data. All metrics are in [0, 1]; IoU and boundary F of a class that the
            data lack are None.

        Raises:
            DatasetError: A file of the data cannot be used, or no pixel is labelled.
            BackendError: The runtime failed.
        """
        spec = self._spec
        label = SequenceLabeller(self._backend, Prepare(spec), self._options.propagate, smooth=self._options.smooth)
        dataset = self.dataset
        units, unit_names = sampling_units([dataset.sequence(index) for index in range(len(dataset))])
        confusion = BootstrapInterval(len(spec.classes), len(set(units)))
        boundary, flicker = BoundaryFScore(len(spec.classes)), Flicker()
        matched = dataset if isinstance(dataset, MatchedClasses) else None
        scored = range(len(spec.classes)) if matched is None else matched.scored
        images = 0
        for prediction in predict_all(label, dataset, indices, label.reset, self._reader):
            labels = prediction.labels if matched is None else matched.merge(prediction.labels)
            confusion.add(labels, prediction.truth, units[prediction.index])
            boundary.add(labels, prediction.truth)
            flicker.add(labels, prediction.truth, is_next_frame=prediction.is_next_frame)
            images += 1
        matrix = confusion.matrix()
        self._absent_notice = absent_classes(matrix.sum(axis=1), spec.classes, dataset.name, scored)
        scores, outlines = score_matrix(matrix, dataset).only(scored), boundary.scores(scored)
        return {
            **self._backend.facts(),
            **preprocess_facts(self._backend.spec, spec),
            "data": self.dataset.name,
            "images": images,
            **scores.to_dict(spec.classes),
            "miou_interval": confusion.interval(scored),
            "interval_units": unit_names,
            "boundary_f": outlines.mean,
            "boundary_f_by_class": dict(zip(spec.classes, outlines.per_class, strict=True)),
            "boundary_tolerance": TOLERANCE,
            "flicker": flicker.share(),
            "motion_flicker": label.motion_flicker.share(),
            "propagate": self._options.propagate,
            "smooth": self._options.smooth,
            "confusion": matrix.tolist(),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.close()
