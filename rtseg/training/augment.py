"""Random augmentation of labelled images, based on ``torchvision.transforms.v2``."""

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

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.loader import LoadTask
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.preprocess import resize_labels
from rtseg.system.read_file import read_image_bytes
from rtseg.training.cameras import imitate_cameras
from rtseg.training.options import Augmentation

__all__ = ["Augmentation", "LabelledFrames", "RandomViews"]

_GREY = 124
"""Fill value outside the image: about the mean of ImageNet."""
_ColourChange = Callable[[list[Tensor]], list[Tensor]]
LabelledFrames = list[tuple[Image, Labels]]
"""The labelled images of a view: one, or those of a clip, oldest first."""


class RandomViews:
    """Random views of several data sets: one view of each image per epoch.

    A view depends only on the seed, the epoch and its index, not on the worker that makes it: a resumed run continues
    exactly as the interrupted one would have.

    Args:
        datasets: concatenated in this order.
        crop: (H, W) of the views, in pixels.
        size: (H, W) of the model's input, in pixels: in a view of scale 1, objects have the size that the model
            sees.
        augmentation: the random changes.
        seed: of the random numbers.
        prepare: makes the model's input, of ``size``, from an image, if that is more than resizing. Images are then
            prepared as in streaming before they are augmented. Without it, a view is cropped from the original image
            and resized once.
        clip: number of frames of a view; all frames of a view are augmented in the same way.
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
        self._geometry = v2.Compose([_RandomWindow(crop, size, augmentation), *_flips(augmentation)])
        self._colour = _colour_change(augmentation)
        self._seed = seed
        self._prepare = prepare
        self._clip = clip
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Load the frames at ``index`` and return their ``view``."""
        return self.view(index, self.load_task(index).load(read_image_bytes))

    def sample_files(self) -> tuple[Path, ...]:
        """Return the files of one image of each data set."""
        return tuple(path for dataset, item in self._items if item == 0 for path in dataset.files(0))

    def load_task(self, index: int) -> LoadTask[LabelledFrames]:
        """Return the task that loads the frames of the view at ``index``."""
        dataset, item = self._items[index]
        epoch, clip = self.epoch, self._clip
        files = tuple(path for i in dict.fromkeys(dataset.clip_indices(item, clip)) for path in dataset.files(i))

        def load(read: ReadFile) -> LabelledFrames:
            return dataset.clip(item, epoch, clip, read) if clip > 1 else [dataset.load(item, epoch, read)]

        return LoadTask(dataset.title(item), files, load)

    def view(self, index: int, frames: LabelledFrames) -> tuple[Tensor, Tensor]:
        """Return the view at ``index``: image uint8 (C, h, w) and labels int64 (h, w).

        With clips: (clip, C, h, w) and (clip, h, w). Colours are RGB, followed by the extra channel. Uses torch's
        global random state and restores it: call it from one thread at a time.
        """
        pairs = [self._to_tensors(*frame) for frame in frames]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self._seed, self.epoch, index)) & 0x7FFF_FFFF)
            pairs = self._geometry(pairs)
            images = _change_colours(self._colour, [image for image, _ in pairs])
        labels = [mask.as_subclass(Tensor).long() for _, mask in pairs]
        return (torch.stack(images), torch.stack(labels)) if self._clip > 1 else (images[0], labels[0])

    def title(self, index: int) -> str:
        """Return what messages call the image at ``index``."""
        dataset, item = self._items[index]
        return dataset.title(item)

    def _to_tensors(self, image: Image, labels: Labels) -> tuple[Tensor, Tensor]:
        if self._prepare is not None:
            image = self._prepare(image)
            labels = resize_labels(labels, (image.shape[0], image.shape[1]))
        tensor = torch.from_numpy(image).permute(2, 0, 1)  # channels last in memory: torch resizes that fastest
        return tv_tensors.Image(tensor), tv_tensors.Mask(torch.from_numpy(labels))


class _RandomWindow(v2.Transform):  # type: ignore[misc, unused-ignore]  # torchvision has no types
    """A window of ``crop`` on the image, at a random position, scale, aspect ratio and angle.

    The result equals resizing the image to ``size``, scaling it and cropping it, but only the visible part of the
    original image is resized, once. For a rotated window, a larger upright window that contains it is resized, and then
    rotated. The window is grey and void outside the image.
    """

    def __init__(self, crop: tuple[int, int], size: tuple[int, int], augmentation: Augmentation) -> None:
        super().__init__()
        self._crop = crop
        self._size = size
        self._augmentation = augmentation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """See ``v2.Transform``."""
        augmentation = self._augmentation
        scale = _uniform(*augmentation.scale)
        log_stretch = math.log(augmentation.stretch)
        stretch = math.exp(_uniform(-log_stretch, log_stretch) / 2)
        angle = _uniform(-augmentation.rotation, augmentation.rotation)
        vertical_margin, horizontal_margin = _margins(self._crop, angle)
        return {
            "rows": _random_span(self._size[0] * scale / stretch, self._crop[0], vertical_margin),
            "columns": _random_span(self._size[1] * scale * stretch, self._crop[1], horizontal_margin),
            "angle": angle,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See ``v2.Transform``."""
        rows, columns = params["rows"], params["columns"]
        fill = VOID if isinstance(inpt, tv_tensors.Mask) else _GREY
        top, height = rows.source(inpt.shape[-2])
        left, width = columns.source(inpt.shape[-1])
        visible = _resize(F.crop(inpt, top, left, height, width), [rows.covered, columns.covered])
        window = F.pad(visible, [columns.before, rows.before, columns.after, rows.after], fill=fill)
        if not params["angle"]:
            return window
        rotated = F.rotate(window, params["angle"], interpolation=v2.InterpolationMode.BILINEAR)
        return F.center_crop(rotated, list(self._crop))


@dataclass(frozen=True, slots=True)
class _Span:
    """A window on a scaled image, along one axis, in pixels."""

    image_length: int
    """Length of the scaled image."""
    start: int
    """Start of the window in the image; negative if the window starts before the image."""
    length: int
    """Length of the window."""

    @property
    def before(self) -> int:
        """Pixels of the window before the image."""
        return max(0, -self.start)

    @property
    def after(self) -> int:
        """Pixels of the window after the image."""
        return max(0, self.start + self.length - self.image_length)

    @property
    def covered(self) -> int:
        """Pixels of the window inside the image."""
        return self.length - self.before - self.after

    def source(self, original_length: int) -> tuple[int, int]:
        """Return the first pixel and the number of pixels of the covered part in the original, unscaled image."""
        start = self.start + self.before
        first = min(round(start * original_length / self.image_length), original_length - 1)
        return first, max(1, round((start + self.covered) * original_length / self.image_length) - first)


def _random_span(image_length: float, length: int, margin: int) -> _Span:
    """Return a window of ``length`` pixels at a random position, extended by ``margin`` on both sides.

    The smaller of image and window lies inside the larger one.
    """
    rounded = max(1, round(image_length))
    return _Span(rounded, round(_uniform(0, rounded - length)) - margin, length + 2 * margin)


def _resize(inpt: Any, size: list[int]) -> Any:
    if not isinstance(inpt, tv_tensors.Mask):
        return F.resize(inpt, size, antialias=True)
    # torchvision's NEAREST shifts a mask by half a pixel against its image; NEAREST_EXACT does not.
    labels = F.resize(inpt.as_subclass(Tensor)[None], size, interpolation=v2.InterpolationMode.NEAREST_EXACT)[0]
    return tv_tensors.wrap(labels, like=inpt)


def _margins(crop: tuple[int, int], angle: float) -> tuple[int, int]:
    """Return the vertical and the horizontal margin that make a window contain ``crop`` rotated by ``angle``."""
    height, width = crop
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    needed = (height * cosine + width * sine, width * cosine + height * sine)
    vertical, horizontal = (max(0, math.ceil((n - length) / 2)) for n, length in zip(needed, crop, strict=True))
    return vertical, horizontal


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _flips(augmentation: Augmentation) -> list[v2.Transform]:
    horizontal, vertical = v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()
    return {"none": [], "horizontal": [horizontal], "both": [horizontal, vertical]}[augmentation.flips]


def _colour_change(augmentation: Augmentation) -> _ColourChange:
    """Return the change of the RGB images, uint8 (3, h, w), of a view: the same for all."""
    jitter = _colour_jitter() if augmentation.colour and not augmentation.cameras else v2.Identity()

    def change(images: list[Tensor]) -> list[Tensor]:
        if augmentation.cameras and images[0].shape[0] == 3:
            images = imitate_cameras(images)
        return [image.as_subclass(Tensor) for image in jitter([tv_tensors.Image(image) for image in images])]

    return change


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


def _change_colours(change: _ColourChange, images: list[Tensor]) -> list[Tensor]:
    """Change the colours of all (C, h, w) images in the same way, and convert BGR to RGB. Keep the extra channel."""
    colours = 3 if images[0].shape[0] >= 3 else 1
    changed = change([image[:colours].flip(0).as_subclass(Tensor) for image in images])
    return [torch.cat((new, image[colours:].as_subclass(Tensor))) for new, image in zip(changed, images, strict=True)]
