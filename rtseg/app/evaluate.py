"""A model file against a labelled data set, through any backend."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rtseg.backends import open_backend, read_spec
from rtseg.datasets import open_dataset
from rtseg.datasets.evaluate import judge, total
from rtseg.datasets.loader import Reader
from rtseg.errors import DatasetError
from rtseg.frame import Image, Labels
from rtseg.image_io.options import ReadOptions
from rtseg.metrics.boundary import TOLERANCE, Boundary
from rtseg.metrics.confusion import Confusion
from rtseg.metrics.temporal import Flicker
from rtseg.preprocess import Prepare, override_steps, preprocess_facts, preprocess_notice
from rtseg.weights import find_model

__all__ = ["Evaluation"]


class Evaluation:
    """One model, one data set, one backend, opened and checked.

    ``preprocess`` are steps in place of those that the model file names, see ``rtseg.preprocess``. ``reading``
    says how the files of the data are read.

    Raises:
        RtsegError: the model, the data or the backend cannot be used.
        DatasetError: the classes of the data are not those of the model.
    """

    def __init__(
        self,
        model: str,
        data: str,
        split: str,
        *,
        preprocess: tuple[str, ...] | None = None,
        reading: ReadOptions | None = None,
        **backend_options: Any,
    ) -> None:
        self._reader = Reader(reading)
        path = find_model(model)
        self.dataset = open_dataset(data, split, channels=read_spec(path).channels)
        self._backend = open_backend(backend_options.pop("backend", "auto"), path, **backend_options)
        spec = self._backend.spec
        self._spec = override_steps(spec, preprocess)
        if spec.classes != self.dataset.classes:
            self._backend.close()
            raise DatasetError(
                f"{spec.name} knows {', '.join(spec.classes)}; {self.dataset.name} has "
                f"{', '.join(self.dataset.classes)}: evaluate on data with the same classes"
            )

    @property
    def notice(self) -> str:
        """What to tell the user of the backend that was chosen, and of steps that are not the model's own."""
        return "; ".join(filter(None, (self._backend.notice, preprocess_notice(self._backend.spec, self._spec))))

    @property
    def reading_notice(self) -> str:
        """What to tell the user of the reading, once it is done; else empty."""
        return self._reader.notice

    def run(self, places: Iterable[int] | None = None) -> dict[str, Any]:
        """Figures for JSON; all but counts are in [0, 1].

        ``miou``, ``pixel_accuracy`` and ``iou`` by class; ``boundary_f``, its ``boundary_f_by_class`` and
        ``boundary_tolerance``; ``flicker``, None where no two images are frames of one video; ``confusion``, pixel
        counts by rows of truth; and what was judged by what.

        Raises:
            DatasetError: a file of the data cannot be used, or no pixel is labelled.
            BackendError: the runtime failed.
        """
        spec = self._spec
        prepare = Prepare(spec)

        def label(image: Image) -> Labels:
            labels: Labels = self._backend.infer(prepare(image)[None])[0].copy()
            return labels

        confusion, boundary, flicker = Confusion(len(spec.classes)), Boundary(len(spec.classes)), Flicker()
        images = 0
        for judged in judge(label, self.dataset, places, self._backend.reset, self._reader):
            confusion.add(judged.labels, judged.truth)
            boundary.add(judged.labels, judged.truth)
            flicker.add(judged.labels, judged.truth, follows=judged.follows)
            images += 1
        scores, outlines = total(confusion, self.dataset), boundary.scores()
        return {
            **self._backend.facts(),
            **preprocess_facts(self._backend.spec, spec),
            "data": self.dataset.name,
            "images": images,
            **scores.to_dict(spec.classes),
            "boundary_f": outlines.mean,
            "boundary_f_by_class": dict(zip(spec.classes, outlines.per_class, strict=True)),
            "boundary_tolerance": TOLERANCE,
            "flicker": flicker.share(),
            "confusion": confusion.matrix().tolist(),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.close()
