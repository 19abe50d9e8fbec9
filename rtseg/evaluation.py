"""A model file against a labelled data set, through any backend."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rtseg.backends import open_backend
from rtseg.datasets import open_dataset
from rtseg.errors import DatasetError
from rtseg.frame import Labels, Picture
from rtseg.preprocess import Prepare
from rtseg.spec import file_sha256
from rtseg.training.evaluate import evaluate
from rtseg.weights import find_model

__all__ = ["Evaluation"]


class Evaluation:
    """One model, one data set, one backend, opened and checked.

    Raises:
        RtsegError: the model, the data or the backend cannot be used.
        DatasetError: the classes of the data are not those of the model.
    """

    def __init__(self, model: str, data: str, split: str, **backend_options: Any) -> None:
        self.dataset = open_dataset(data, split)
        path = find_model(model)
        self._sha256 = file_sha256(path)
        self._backend = open_backend(backend_options.pop("backend", "auto"), path, **backend_options)
        spec = self._backend.spec
        if spec.classes != self.dataset.classes:
            self._backend.close()
            raise DatasetError(
                f"{spec.name} knows {', '.join(spec.classes)}; {self.dataset.name} has "
                f"{', '.join(self.dataset.classes)}: evaluate on data with the same classes"
            )

    def run(self, places: Iterable[int] | None = None) -> dict[str, Any]:
        """Figures for JSON: model, data, backend, miou, pixel_accuracy, iou by class; all in [0, 1].

        Raises:
            DatasetError: a file of the data cannot be used.
            BackendError: the runtime failed.
        """
        prepare = Prepare(self._backend.spec)
        judged = 0

        def label(picture: Picture) -> Labels:
            nonlocal judged
            judged += 1
            labels: Labels = self._backend.infer(prepare(picture)[None])[0].copy()
            return labels

        result = evaluate(label, self.dataset, places)
        spec = self._backend.spec
        return {
            "model": spec.name,
            "model_sha256": self._sha256,
            "size": list(spec.size),
            "data": self.dataset.name,
            "pictures": judged,
            "backend": self._backend.name,
            "precision": self._backend.precision,
            "device": self._backend.device,
            "runtime_version": self._backend.version,
            **result.to_dict(spec.classes),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend.close()
