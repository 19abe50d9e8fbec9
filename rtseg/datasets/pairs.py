"""Custom data in two folders, one of images and one of masks, matched by file name.

    pairs:images,masks,classes=background+crack
    pairs:dubai/*/images,dubai/*/masks,classes=dubai/mask_colours.json,val=Tile 3/*,void=#000000
    pairs:set/{split}/images,set/{split}/masks,classes=classes.json

A folder is read without its subfolders. ``*`` matches any folder, and the matched name becomes part of the key: the key
of ``Tile 1/images/a.jpg`` and ``Tile 1/masks/a.png`` is ``Tile 1/a``. ``{split}`` is replaced by ``train``, ``val`` or
``test``.

A network of 4 channels needs images of BGR and an extra channel, a network of 2 channels grey and an extra channel:
the alpha of a PNG or the fourth sample of an RGB TIFF. See ``rtseg.image_io.decode.decode_image``.

Options:
    classes: required; how masks are read. See ``rtseg.datasets.class_mapping``.
    void: additional void values: numbers, colours or class names joined by ``+``.
    undeclared: ``void`` maps values that ``classes`` does not declare to void; they are an error by default.
    mask_suffix: text between the name of the image and the file type of the mask, e.g. ``_mask``. With a suffix,
        images and masks may be in the same folder.
    val, test, lists: the images of each split. See ``rtseg.datasets.splits``.
    tolerance: pixels by which the height or width of a mask may differ from its image: both are cropped at the bottom
        and the right to the common size. Default: 0.
    missing: ``skip`` leaves out images and masks without a partner; they are an error by default.
    bits: significant bits of images stored with 16, e.g. 12 for values up to 4095.
    licence: of the images, for the model card.
"""

from __future__ import annotations

import unicodedata
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from rtseg.datasets.class_mapping import ClassMapping, parse_class_mapping
from rtseg.datasets.paired_files import Pair, PairedFiles, index_by_key, list_images
from rtseg.datasets.spec_string import SpecString, parse_spec_string
from rtseg.datasets.splits import SPLIT_OPTIONS, select_split
from rtseg.errors import DatasetError
from rtseg.frame import CHANNELS
from rtseg.image_io.find import natural_order
from rtseg.image_io.notes import ImageNotes

__all__ = ["Pairs"]

_SPLIT = "{split}"
_OPTIONS = ("classes", "void", "undeclared", "mask_suffix", *SPLIT_OPTIONS, "tolerance", "missing", "bits", "licence")


class Pairs(PairedFiles):
    """Images and masks from two folders; see the module's docstring.

    Raises:
        OptionError: the text after ``pairs:`` is malformed.
        DatasetError: a folder is missing or empty, the class mapping is invalid, or the split is empty.
    """

    supported_channels = CHANNELS

    def __init__(self, argument: str, split: str) -> None:
        spec = parse_spec_string("pairs", argument, fields=["IMAGES", "MASKS"], options=_OPTIONS)
        if "classes" not in spec.options:
            raise spec.error("classes= is needed, e.g. classes=background+crack or classes=FILE.json")
        self._mapping = parse_class_mapping(
            spec.options["classes"],
            void=spec.options.get("void", ""),
            undeclared_is_void=spec.choice("undeclared", ("error", "void")) == "void",
        )
        self.classes, self.palette = self._mapping.classes, self._mapping.palette
        self.bits = spec.bits()
        self.tolerance = spec.integer("tolerance", 0, minimum=0)
        strict = spec.choice("missing", ("error", "skip")) == "error"
        has_lists = "lists" in spec.options
        folders = [str(spec.path(index)) for index in range(2)]
        suffix = unicodedata.normalize("NFC", spec.options.get("mask_suffix", ""))
        images, image_problems = _find_files(folders[0].replace(_SPLIT, split), "images", "", self.notes)
        masks, mask_problems = _find_files(folders[1].replace(_SPLIT, split), "masks", suffix, self.notes)
        if suffix and folders[0] == folders[1]:
            images = {
                key: path for key, path in images.items() if not key.endswith(unicodedata.normalize("NFC", suffix))
            }
        keys = [key for key in images if strict or has_lists or key in masks]
        selected = _select_keys(keys, split, spec, by_folder=_SPLIT in folders[0])
        problems = image_problems + mask_problems
        if strict:
            problems += [f"{images[key]} has no mask {key!r} in {folders[1]}" for key in selected if key not in masks]
        if strict and not has_lists:
            problems += [f"{masks[key]} has no image {key!r} in {folders[0]}" for key in masks if key not in images]
        self.problems = tuple(problems)
        self.pairs = [Pair(images[key], masks[key]) for key in selected if key in masks]
        if not self.pairs and not problems:
            raise DatasetError(f"no image of {folders[0]} in the split {split!r} has a mask in {folders[1]}")
        title = _title(folders)
        self.name = f"{title} {split} ({len(self.pairs)} images)"
        self.licence = spec.options.get("licence", f"{title}: not stated")

    def mapping(self, mask: Path) -> ClassMapping:
        """See ``PairedFiles.mapping``."""
        return self._mapping


def _select_keys(keys: list[str], split: str, spec: SpecString, *, by_folder: bool) -> list[str]:
    if not by_folder:
        return select_split(keys, split, spec)
    if spec.options.keys() & set(SPLIT_OPTIONS):
        raise spec.error(f"{_SPLIT} defines the splits: leave out {', '.join(SPLIT_OPTIONS)}")
    return keys


def _find_files(pattern: str, noun: str, suffix: str, notes: ImageNotes) -> tuple[dict[str, Path], list[str]]:
    """Find the files of the folders that match ``pattern``, by key, and describe every duplicate key."""
    found = [(prefix, path) for prefix, folder in _folders(pattern) for path in list_images(folder, notes)]
    named = [(unicodedata.normalize("NFC", f"{prefix}{path.stem}"), path) for prefix, path in found]
    keys = {path: name.removesuffix(suffix) for name, path in named if name.endswith(suffix)}
    if not keys:
        condition = f" whose name ends in {suffix!r}" if suffix else ""
        raise DatasetError(f"there are no {noun}{condition} in {pattern}")
    return index_by_key(keys, noun, keys.get)


def _folders(pattern: str) -> list[tuple[str, Path]]:
    """Return the folders that match ``pattern``, each with the names its wildcards matched, e.g. ``Tile 1/``."""
    anchor = Path(Path(pattern).anchor)
    folders = [("", anchor)]
    has_wildcard = False
    for part in Path(pattern).relative_to(anchor).parts:
        if not has_magic(part) or any((folder / part).exists() for _, folder in folders):  # as in "data [old]"
            folders = [(key, path / part) for key, path in folders if not has_wildcard or (path / part).is_dir()]
            continue
        has_wildcard = True
        folders = [
            (f"{prefix}{child.name}/", child)
            for prefix, folder in folders
            for child in sorted(folder.glob("*/"), key=natural_order)
            if fnmatchcase(child.name, part)
        ]
    if not folders:
        raise DatasetError(f"there is no folder {pattern}")
    return folders


def _title(folders: list[str]) -> str:
    """Return the common parent folder's name, up to the first wildcard: a name without paths of this machine."""
    common = []
    for image_part, mask_part in zip(*(Path(folder).absolute().parts for folder in folders), strict=False):
        if image_part != mask_part or has_magic(image_part) or _SPLIT in image_part:
            break
        common.append(image_part)
    return common[-1] if len(common) > 1 else "pairs"
