"""Random views of labelled images, from ``torchvision.transforms.v2``: image and mask always together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 - the name that every torch program uses

from rtseg.datasets import Dataset, Read
from rtseg.datasets.loader import Example
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.preprocess import resize_labels
from rtseg.training.options import Augmentation

__all__ = ["Augmentation", "Frames", "RandomViews"]

_GREY = 124
Frames = list[tuple[Image, Labels]]
"""The labelled images of a view: one, or those of a clip, oldest first."""


class RandomViews:
    """Random views of several data sets, one of each image an epoch.

    What a view looks like depends on the seed, the epoch and its place alone, not on the worker that makes it:
    a resumed run goes on exactly where the stopped one would have.

    Args:
        datasets: one after the other.
        crop: (H, W) of the views, in pixels.
        size: (H, W) of the model's input, in pixels: a view of scale 1 shows things as large as the model sees them.
        augmentation: how views differ from that.
        seed: of all views.
        prepare: what makes the model's input, of ``size``, from an image, where that is more than resizing. Images
            are prepared as in streaming and then varied; without it a view is cut from the image itself and resized
            once.
        clip: frames of an item. All frames of one are varied alike.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        crop: tuple[int, int],
        *,
        size: tuple[int, int],
        augmentation: Augmentation,
        seed: int,
        prepare: Callable[[Image], Image] | None = None,
        clip: int = 1,
    ) -> None:
        self._items = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
        self._place = v2.Compose([_Cut(crop, size, augmentation), *_flips(augmentation)])
        self._colour = _colour_jitter() if augmentation.colour else v2.Identity()
        self._seed = seed
        self._prepare = prepare
        self._clip = clip
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        """``view`` of the frames at ``place``, read here and now."""
        return self.view(place, self.example(place).make(Path.read_bytes))

    def origins(self) -> tuple[Path, ...]:
        """The files of one image of each data set."""
        return tuple(path for dataset, index in self._items if index == 0 for path in dataset.files(0))

    def example(self, place: int) -> Example[Frames]:
        """What ``view`` makes the view at ``place`` of, to be read ahead."""
        dataset, index = self._items[place]
        epoch, clip = self.epoch, self._clip
        places = dataset.clip_places(index, clip)
        files = tuple(path for one in dict.fromkeys(places) for path in dataset.files(one))

        def load(read: Read) -> Frames:
            return dataset.clip(index, epoch, clip, read) if clip > 1 else [dataset.load(index, epoch, read)]

        return Example(dataset.title(index), files, load)

    def view(self, place: int, frames: Frames) -> tuple[Tensor, Tensor]:
        """Image uint8 (C, h, w) and labels int64 (h, w) at ``place``, (clip, C, h, w) and (clip, h, w) of a clip.

        Colours are RGB; further planes of the image follow them. torch's own random numbers are used and restored:
        to be called by one thread at a time.
        """
        several = self._clip > 1
        pairs = [self._tensors(*frame) for frame in frames]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self._seed, self.epoch, place)) & 0x7FFF_FFFF)
            pairs = self._place(pairs)
            images = _on_colours(self._colour, [image for image, _ in pairs])
        labels = [mask.as_subclass(Tensor).long() for _, mask in pairs]
        return (torch.stack(images), torch.stack(labels)) if several else (images[0], labels[0])

    def title(self, place: int) -> str:
        """What a message calls the image at ``place``."""
        dataset, index = self._items[place]
        return dataset.title(index)

    def _tensors(self, image: Image, labels: Labels) -> tuple[Tensor, Tensor]:
        if self._prepare is not None:
            image = self._prepare(image)
            labels = resize_labels(labels, (image.shape[0], image.shape[1]))
        tensor = torch.from_numpy(image).permute(2, 0, 1)  # lies in memory as torch's fast resizing wants it
        return tv_tensors.Image(tensor), tv_tensors.Mask(torch.from_numpy(labels))


class _Cut(v2.Transform):  # type: ignore[misc, unused-ignore]  # torchvision has no types
    """A window of ``crop`` on the image, at a random place, scale, aspect ratio and angle.

    The image is thought of as resized to ``size`` and then scaled; only what the window shows of it is resized, once,
    from the image as it is. A turned window is resized upright, so large that it holds all of the turned one, and
    then turned. Where the image leaves the window empty it is grey and void.
    """

    def __init__(self, crop: tuple[int, int], size: tuple[int, int], augmentation: Augmentation) -> None:
        super().__init__()
        self._crop = crop
        self._size = size
        self._augmentation = augmentation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """See ``v2.Transform``."""
        varied = self._augmentation
        scale = _between(*varied.scale)
        stretch = math.log(varied.stretch)
        wider = math.exp(_between(-stretch, stretch) / 2)
        angle = _between(-varied.rotation, varied.rotation)
        above, beside = _margins(self._crop, angle)
        return {
            "rows": _span(self._size[0] * scale / wider, self._crop[0], above),
            "columns": _span(self._size[1] * scale * wider, self._crop[1], beside),
            "angle": angle,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See ``v2.Transform``."""
        rows, columns = params["rows"], params["columns"]
        fill = VOID if isinstance(inpt, tv_tensors.Mask) else _GREY
        top, height = rows.source(inpt.shape[-2])
        left, width = columns.source(inpt.shape[-1])
        part = _resize(F.crop(inpt, top, left, height, width), [rows.covered, columns.covered])
        shown = F.pad(part, [columns.before, rows.before, columns.after, rows.after], fill=fill)
        if not params["angle"]:
            return shown
        turned = F.rotate(shown, params["angle"], interpolation=v2.InterpolationMode.BILINEAR)
        return F.center_crop(turned, list(self._crop))


@dataclass(frozen=True, slots=True)
class _Span:
    """A window on a scaled image, along one axis, in pixels."""

    scaled: int
    """Length of the image."""
    first: int
    """Place in the image where the window begins; negative where it begins before the image."""
    shown: int
    """Length of the window."""

    @property
    def before(self) -> int:
        """What the window shows before the image begins."""
        return max(0, -self.first)

    @property
    def after(self) -> int:
        """What the window shows after the image has ended."""
        return max(0, self.first + self.shown - self.scaled)

    @property
    def covered(self) -> int:
        """What the window shows of the image."""
        return self.shown - self.before - self.after

    def source(self, length: int) -> tuple[int, int]:
        """First pixel and number of pixels of what is covered, in the unscaled image, ``length`` pixels long."""
        start = self.first + self.before
        first = min(round(start * length / self.scaled), length - 1)
        return first, max(1, round((start + self.covered) * length / self.scaled) - first)


def _span(scaled: float, shown: int, margin: int) -> _Span:
    """A window of ``shown`` pixels at a random place, and ``margin`` around it.

    It lies within the image, or the image within it, whichever is smaller.
    """
    length = max(1, round(scaled))
    return _Span(length, round(_between(0, length - shown)) - margin, shown + 2 * margin)


def _resize(inpt: Any, size: list[int]) -> Any:
    if not isinstance(inpt, tv_tensors.Mask):
        return F.resize(inpt, size, antialias=True)
    # torchvision takes the nearest pixel of a mask from its corner, not its centre: half a pixel beside the image.
    ids = F.resize(inpt.as_subclass(Tensor)[None], size, interpolation=v2.InterpolationMode.NEAREST_EXACT)[0]
    return tv_tensors.wrap(ids, like=inpt)


def _margins(crop: tuple[int, int], angle: float) -> tuple[int, int]:
    """Pixels above and below, left and right, that a window must show so that it holds ``crop`` turned by ``angle``."""
    height, width = crop
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    needs = (height * cosine + width * sine, width * cosine + height * sine)
    upper, left = (max(0, math.ceil((need - shown) / 2)) for need, shown in zip(needs, crop, strict=True))
    return upper, left


def _between(least: float, greatest: float) -> float:
    return least + (greatest - least) * torch.rand(()).item()


def _flips(augmentation: Augmentation) -> list[v2.Transform]:
    across, over = v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()
    return {"none": [], "horizontal": [across], "both": [across, over]}[augmentation.flips]


def _colour_jitter() -> v2.Transform:
    return v2.Compose(
        [
            # CamVid was filmed at dusk and under cloud; most dashcam images are brighter.
            v2.ColorJitter(brightness=(0.6, 1.9), contrast=0.4, saturation=0.5),
            v2.RandomApply([v2.ColorJitter(hue=0.05)], p=0.3),
            v2.RandomGrayscale(p=0.05),
            v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.15),
        ]
    )


def _on_colours(jitter: v2.Transform, images: list[Tensor]) -> list[Tensor]:
    """Vary the colours of (C, h, w) images, all alike, and bring BGR into the order RGB. Other planes stay."""
    colours = 3 if images[0].shape[0] >= 3 else 1
    varied = jitter([tv_tensors.Image(image[:colours].flip(0)) for image in images])
    return [torch.cat((new.as_subclass(Tensor), image[colours:])) for new, image in zip(varied, images, strict=True)]
