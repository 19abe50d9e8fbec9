"""Images with the annotations of other tools, loaded as masks.

    coco:annotations.json,images=photos
    cvat:annotations.xml,images=photos,background=background
    labelme:photos,classes=crack+joint

Options:
    images: folder of the images (``coco:`` and ``cvat:``); by default that of the file. A name in the file is looked
        for with its folders, then without them.
    classes: names joined by ``+``, in the order of the class IDs; areas of other classes are left out. By default all
        of the file: those of LabelMe in alphabetical order.
    background: name of the class of pixels without an area, which becomes the first class if it is not in
        ``classes``. By default these pixels are void.
    val, test, lists: the images of each split. See ``rtseg.datasets.splits``.
    bits: significant bits of images stored with 16, e.g. 12 for values up to 4095.
    licence: of the images, for the model card.

Where areas overlap, the later one counts; in ``cvat:``, the one with the higher ``z_order``.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from rtseg.annotations.coco import read_coco
from rtseg.annotations.cvat import read_cvat
from rtseg.annotations.labelme import read_labelme
from rtseg.annotations.shapes import Annotations, paint
from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.class_mapping import Colour, distinct_colours
from rtseg.datasets.paired_files import read_image
from rtseg.datasets.spec_string import SpecString, parse_spec_string
from rtseg.datasets.splits import SPLIT_OPTIONS, select_split
from rtseg.errors import DatasetError
from rtseg.frame import CHANNELS, Image, Labels
from rtseg.model_file.spec import VOID
from rtseg.system.file_names import existing_path
from rtseg.system.read_file import read_image_bytes

__all__ = ["Annotated", "Coco", "Cvat", "LabelMe"]

_OPTIONS = ("classes", "background", *SPLIT_OPTIONS, "bits", "licence")


class Annotated(Dataset):
    """Images and areas on them; see the module's docstring.

    Raises:
        OptionError: the text after ``KIND:`` is malformed.
        DatasetError: the annotations cannot be read, lack a class, or the split is empty.
    """

    supported_channels = CHANNELS

    def __init__(self, spec: SpecString, annotations: Annotations, folder: Path, split: str) -> None:
        self._source = spec.path(0)
        self.bits = spec.bits()
        self.classes, self.palette = _classes(spec, annotations)
        self._class_ids = {name: number for number, name in enumerate(self.classes)}
        self._fill = self._class_ids.get(spec.options.get("background", ""), VOID)
        by_key = {unicodedata.normalize("NFC", image.name): image for image in annotations.images}
        paths = {key: _find_image(folder, image.name) for key, image in by_key.items()}
        missing = [key for key, path in paths.items() if path is None]
        self.problems = tuple(f"{self._source} names {key}, which is not in {folder}" for key in missing)
        chosen = [(key, paths[key]) for key in select_split(list(by_key), split, spec)]
        self._items = [(path, by_key[key]) for key, path in chosen if path is not None]
        if not self._items and not missing:
            raise DatasetError(f"{self._source} has no image in the split {split!r}")
        title = self._source.resolve().name
        self.name = f"{title} {split} ({len(self._items)} images)"
        self.licence = spec.options.get("licence", f"{title}: not stated")

    def __len__(self) -> int:
        return len(self._items)

    def title(self, index: int) -> str:
        """See ``Dataset.title``."""
        return str(self._items[index][0])

    def files(self, index: int) -> tuple[Path, ...]:
        """See ``Dataset.files``."""
        return (self._items[index][0],)

    def load(self, index: int, epoch: int = 0, read: ReadFile = read_image_bytes) -> tuple[Image, Labels]:
        """See ``Dataset.load``."""
        path, annotated = self._items[index]
        image = read_image(path, self.channels, read, bits=self.bits, note=self.notes.for_file(str(path)))
        if image.shape[:2] != annotated.size:
            (height, width), (labelled_height, labelled_width) = image.shape[:2], annotated.size
            raise DatasetError(
                f"{path} is {height}x{width}, but {labelled_height}x{labelled_width} in {self._source}: "
                "the sizes must be equal"
            )
        return image, paint(annotated, self._class_ids, self._fill, self._source)


class Coco(Annotated):
    """A COCO file, as ``coco:FILE.json``."""

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("coco", argument, fields=["FILE.json"], options=("images", *_OPTIONS))
        file = spec.path(0)
        super().__init__(spec, read_coco(file), spec.option_path("images") or file.parent, split)


class Cvat(Annotated):
    """A file in the format `CVAT for images 1.1`, as ``cvat:FILE.xml``."""

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("cvat", argument, fields=["FILE.xml"], options=("images", *_OPTIONS))
        file = spec.path(0)
        super().__init__(spec, read_cvat(file), spec.option_path("images") or file.parent, split)


class LabelMe(Annotated):
    """A folder of LabelMe files and the images that they name, as ``labelme:FOLDER``."""

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("labelme", argument, fields=["FOLDER"], options=_OPTIONS)
        folder = spec.path(0)
        super().__init__(spec, read_labelme(folder), folder, split)


def _classes(spec: SpecString, annotations: Annotations) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    known = annotations.colours
    names = spec.options["classes"].split("+") if "classes" in spec.options else list(known)
    background = spec.options.get("background")
    unknown = [name for name in names if name not in known and name != background]
    if unknown:
        raise DatasetError(f"{spec.path(0)} has no class {unknown[0]!r}; it has {', '.join(known)}")
    if background is not None and background not in names:
        names.insert(0, background)
    if len(set(names)) != len(names) or not 1 <= len(names) <= VOID:
        raise spec.error(f"there must be 1 to {VOID} different classes, got {len(names)}")
    spare = distinct_colours(len(names))
    return tuple(names), tuple(known.get(name) or colour for name, colour in zip(names, spare, strict=True))


def _find_image(folder: Path, name: str) -> Path | None:
    candidates = (existing_path(folder / name), existing_path(folder / Path(name).name))
    return next((path for path in candidates if path.is_file()), None)
