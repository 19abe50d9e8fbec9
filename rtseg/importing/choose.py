"""Chooses how a foreign network wants its input: by the mIoU on labelled images, or by the eye on overlays.

The network's own confidence settles nothing. On VOC, a network reaches 58.2 % mIoU at a mean confidence of 0.900 with
the right input, 47.4 % at 0.895 with red and blue exchanged, and 0.8 % at 0.996 with values that are not normalized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtseg.datasets import Dataset, open_dataset
from rtseg.datasets.loader import DatasetReader
from rtseg.datasets.matched_classes import MatchedClasses, match_classes
from rtseg.errors import DatasetError, ModelError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image
from rtseg.image_io.find import find_images
from rtseg.importing.plan import Normalization, Plan
from rtseg.importing.prove import Original, proof_images
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.preprocess import resize, resize_labels
from rtseg.system.atomic_files import write_bytes
from rtseg.system.opencv import cv2
from rtseg.system.read_file import MAX_IMAGE_BYTES, read_bytes
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["Score", "choose_by_miou", "data_statistics", "load_labelled", "write_contact_sheet"]

_MAX_IMAGES = 24
_MIN_LEAD = 0.01
"""Least lead of the best normalization, in mIoU: with a smaller one, the next images could decide otherwise."""
_ALIKE = 0.15
"""Largest difference of two normalizations that count as one, as a share of the range of their values."""
_SHEET_IMAGES, _SHEET_WIDTH = 3, 320
_CAPTION_HEIGHT = 22


@dataclass(frozen=True, slots=True)
class Score:
    """How good the labels are with one normalization."""

    normalization: Normalization
    miou: float
    """Over the classes of the ground truth, in [0, 1]."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images at the size of the frames, with their ground truth at its own size."""

    items: list[tuple[Image, Labels]]
    """The ground truth has the class IDs of the model file."""
    name: str
    merge: Callable[[Labels], Labels] = lambda labels: labels
    """Gives classes of the model that are one class of the data the same ID."""


def load_labelled(data: str, split: str, plan: Plan) -> LabelledImages:
    """Load up to 24 images, spread evenly over the data.

    Raises:
        DatasetError: the data cannot be used, or have other classes.
        OptionError: ``data`` is malformed.
    """
    names = tuple(plan.classes[index] for index in plan.kept)
    dataset = match_classes(open_dataset(data, split), names, "the model")
    count = min(len(dataset), _MAX_IMAGES)
    indices = [step * len(dataset) // count for step in range(count)] if count else []
    items = [(resize(image, plan.frame_size), truth) for image, truth in _load(dataset, indices)]
    if not items:
        raise DatasetError(f"{dataset.name} holds no image: give other --data")
    name = f"{count} images of {dataset.name}"
    return (
        LabelledImages(items, name, dataset.merge)
        if isinstance(dataset, MatchedClasses)
        else LabelledImages(items, name)
    )


def _load(dataset: Dataset, indices: list[int]) -> Iterator[tuple[Image, Labels]]:
    for _, image, truth in DatasetReader().load(dataset, indices):
        yield image, truth


def data_statistics(images: LabelledImages, known: Sequence[Normalization]) -> list[Normalization]:
    """Return normalizations by mean and standard deviation of the data, for values of 0..255.

    Those that give almost the same values as one of ``known`` are left out: the two could not be told apart. Some
    networks divide once more by 255 afterwards, as ESPNet does (Mehta and others, ECCV 2018, in its code).
    """
    pixels = np.concatenate([image[::4, ::4].reshape(-1, 3) for image, _ in images.items]).astype(np.float64)
    mean, std = pixels.mean(0), np.maximum(pixels.std(0), 1)
    found = []
    for factor in (1, 255):
        blue, green, red = (round(float(value), 3) for value in mean)
        blue_std, green_std, red_std = (round(float(value), 3) for value in factor * std)
        found.append(Normalization(1, (red, green, blue), (red_std, green_std, blue_std)))
        found.append(Normalization(1, (blue, green, red), (blue_std, green_std, red_std), bgr=True))
    return [each for each in found if not any(_are_alike(each, other) for other in known)]


def _are_alike(one: Normalization, other: Normalization) -> bool:
    """Return whether two normalizations of the same order give almost the same values for all of 0..255."""
    ends = [
        np.subtract(value / each.scale, each.mean) / np.array(each.std)
        for each in (one, other)
        for value in (0.0, 255.0)
    ]
    gap = np.abs(np.array(ends[:2]) - np.array(ends[2:])).max()
    spread = np.abs(ends[1] - ends[0]).max()
    return one.bgr == other.bgr and bool(gap < _ALIKE * spread)


def choose_by_miou(
    original: Original,
    plan: Plan,
    normalizations: Sequence[Normalization],
    images: LabelledImages,
    on_progress: Callable[[str], None] = lambda phase: None,
) -> list[Score]:
    """Return the mIoU of each normalization, the best first.

    Raises:
        ModelError: the two best are too close to choose one of them.
    """
    scores = []
    for number, normalization in enumerate(normalizations, start=1):
        on_progress(f"trying input values {number} of {len(normalizations)}")
        candidate = replace(plan, normalization=normalization)
        counts = np.zeros((256, 256), np.int64)
        for image, truth in images.items:
            labels = images.merge(original.labels(image, candidate))
            labels = resize_labels(labels, (truth.shape[0], truth.shape[1]))
            pairs = truth.astype(np.uint16) << 8 | labels
            counts += np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        scores.append(Score(normalization, _miou(counts)))
    scores.sort(key=lambda score: -score.miou)
    if len(scores) > 1 and scores[0].miou - scores[1].miou < _MIN_LEAD:
        first, second = scores[:2]
        raise ModelError(
            f"on {images.name}, {first.normalization} ({first.miou:.1%} mIoU) and {second.normalization} "
            f"({second.miou:.1%}) are too close to choose: give --scale, --mean, --std and --bgr, or more images"
        )
    return scores


def _miou(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    """Return the mean IoU over the classes of the ground truth; rows are truth, 255 is void."""
    counted = counts[:VOID]
    correct, true, predicted = np.diag(counts)[:VOID], counted.sum(1), counted.sum(0)[:VOID]
    occurs = true > 0
    if not occurs.any():
        raise DatasetError("no pixel of --data is labelled: every label is void")
    return float((correct[occurs] / (true + predicted - correct)[occurs]).mean())


def write_contact_sheet(
    path: Path, original: Original, plan: Plan, normalizations: Sequence[Normalization], images: Path | None
) -> None:
    """Draw the labels of each normalization over the same images: a row for each, with its name.

    Args:
        path: the PNG to write.
        original: the network.
        plan: the rest of what is known.
        normalizations: the rows.
        images: a folder or an image; drawn streets by default.

    Raises:
        SourceNotFound: there is no image.
        SinkError: the sheet cannot be written.
    """
    names = tuple(plan.classes[index] for index in plan.kept)
    spec = ModelSpec("sheet", names, tuple(plan.palette[index] for index in plan.kept), plan.frame_size)
    overlay = Overlay(spec, OverlayOptions(contours=True))
    frames = _sheet_images(images, plan)
    height = max(1, _SHEET_WIDTH * plan.frame_size[0] // plan.frame_size[1])
    rows = []
    for normalization in normalizations:
        candidate = replace(plan, normalization=normalization)
        drawn = [overlay.draw(frame, original.labels(frame, candidate)) for frame in frames]
        tiles = [cv2.resize(each, (_SHEET_WIDTH, height), interpolation=cv2.INTER_AREA) for each in drawn]
        caption = np.zeros((_CAPTION_HEIGHT, _SHEET_WIDTH * len(tiles), 3), np.uint8)
        white = (255, 255, 255)
        cv2.putText(caption, str(normalization), (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, white, 1, cv2.LINE_AA)
        rows += [caption, np.hstack(tiles)]
    write_bytes(path, cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _sheet_images(images: Path | None, plan: Plan) -> list[Image]:
    if images is None:
        return [frame for frame, _ in zip(proof_images(plan.frame_size), range(_SHEET_IMAGES), strict=False)]
    found = find_images(images)
    count = min(len(found), _SHEET_IMAGES)
    frames = []
    for path in (found[step * len(found) // count] for step in range(count)):
        try:
            frames.append(resize(decode_image(read_bytes(path, MAX_IMAGE_BYTES)), plan.frame_size))
        except (OSError, ImageError) as error:
            raise DatasetError(f"cannot read {path} ({error}): give other --images") from error
    return frames
