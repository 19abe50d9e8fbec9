"""Two folders, one of images and one of masks, matched by name: anybody's own data.

    pairs:images,masks,classes=background+crack
    pairs:dubai/*/images,dubai/*/masks,classes=dubai/mask_colours.json,val=Tile 3/*,void=#000000
    pairs:set/{split}/images,set/{split}/masks,classes=classes.json

Places: a folder without its subfolders. ``*`` stands for any folder, and what it stood for becomes part of the key, so
that ``Tile 1/images/a.jpg`` meets ``Tile 1/masks/a.png`` under the key ``Tile 1/a``. ``{split}`` becomes ``train``,
``val`` or ``test``.

For a network of 4 channels, images hold BGR and one plane more, for one of 2 grey and one more, as the alpha of a PNG
or the fourth sample of an RGB TIFF; see ``rtseg.image_io.decode.decode_image``.

Options:
    classes: needed; how masks are read. See ``rtseg.datasets.class_mapping``.
    void: numbers, colours or class names joined by ``+`` that are void besides.
    undeclared: ``void`` makes void of every value that ``classes`` does not declare; an error unless given.
    mask_suffix: what stands between the image's name and the mask's file type, e.g. ``_mask``. With one, images and
        masks may lie in one folder.
    val, test, lists: which image is in which split. See ``rtseg.datasets.splits``.
    tolerance: by so many pixels a mask may differ from its image in height or width: both are cut at the bottom and
        the right to what they share. 0 unless given.
    missing: ``skip`` leaves out images and masks without partner; an error unless given.
    licence: of the images, for the card of the model.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from rtseg.datasets.class_mapping import MaskTable, parse_table
from rtseg.datasets.paired_files import Pair, PairedFiles, list_images, partners
from rtseg.datasets.spec_string import Arguments, parse_arguments
from rtseg.datasets.splits import SPLIT_OPTIONS, choose
from rtseg.errors import DatasetError
from rtseg.frame import CHANNELS
from rtseg.image_io.find import natural_order

__all__ = ["Pairs"]

_SPLIT = "{split}"
_OPTIONS = ("classes", "void", "undeclared", "mask_suffix", *SPLIT_OPTIONS, "tolerance", "missing", "licence")


class Pairs(PairedFiles):
    """See the head of this file.

    Raises:
        OptionError: the text is malformed.
        DatasetError: a folder is missing or empty, the table of classes cannot be used, or the split is empty.
    """

    stores = CHANNELS

    def __init__(self, argument: str, split: str) -> None:
        arguments = parse_arguments("pairs", argument, places=["IMAGES", "MASKS"], options=_OPTIONS)
        if "classes" not in arguments.options:
            raise arguments.wrong("classes= is needed, e.g. classes=background+crack or classes=FILE.json")
        self._table = parse_table(
            arguments.options["classes"],
            void=arguments.options.get("void", ""),
            undeclared_is_void=arguments.choice("undeclared", ("error", "void")) == "void",
        )
        self.classes, self.palette = self._table.classes, self._table.palette
        self.tolerance = arguments.whole("tolerance", 0, least=0)
        strict = arguments.choice("missing", ("error", "skip")) == "error"
        places = [str(arguments.path(index)) for index in range(2)]
        images, flaws = _find(places[0].replace(_SPLIT, split), "images", "")
        suffix = arguments.options.get("mask_suffix", "")
        masks, more = _find(places[1].replace(_SPLIT, split), "masks", suffix)
        if suffix and places[0] == places[1]:
            images = {key: path for key, path in images.items() if not key.endswith(suffix)}
        whole = strict or "lists" in arguments.options
        keys = [key for key in images if whole or key in masks]
        chosen = _choose(keys, split, arguments, by_folder=_SPLIT in places[0])
        flaws += more
        if strict:
            flaws += [f"{images[key]} has no mask {key!r} in {places[1]}" for key in chosen if key not in masks]
            if "lists" not in arguments.options:
                flaws += [f"{masks[key]} has no image {key!r} in {places[0]}" for key in masks if key not in images]
        self.flaws = tuple(flaws)
        self.pairs = [Pair(images[key], masks[key]) for key in chosen if key in masks]
        if not self.pairs and not flaws:
            raise DatasetError(f"no image of {places[0]} in the split {split!r} has a mask in {places[1]}")
        title = _title(places)
        self.name = f"{title} {split} ({len(self.pairs)} images)"
        self.licence = arguments.options.get("licence", f"{title}: not stated")

    def table(self, mask: Path) -> MaskTable:
        """See ``PairedFiles.table``."""
        return self._table


def _choose(keys: list[str], split: str, arguments: Arguments, *, by_folder: bool) -> list[str]:
    if not by_folder:
        return choose(keys, split, arguments)
    if arguments.options.keys() & set(SPLIT_OPTIONS):
        raise arguments.wrong(f"{_SPLIT} says which image is where, so that {', '.join(SPLIT_OPTIONS)} cannot")
    return keys


def _find(place: str, what: str, suffix: str) -> tuple[dict[str, Path], list[str]]:
    """The files of ``place`` by key, and a sentence for every two of one key."""
    keyed = [(f"{prefix}{path.stem}", path) for prefix, folder in _folders(place) for path in list_images(folder)]
    keys = {path: key.removesuffix(suffix) for key, path in keyed if key.endswith(suffix)}
    if not keys:
        named = f" whose name ends in {suffix!r}" if suffix else ""
        raise DatasetError(f"there are no {what}{named} in {place}")
    return partners(keys, what, keys.get)


def _folders(place: str) -> list[tuple[str, Path]]:
    """The folders that ``place`` stands for, each after what its wild cards stood for, as ``Tile 1/``."""
    anchor = Path(Path(place).anchor)
    found = [("", anchor)]
    wild = False
    for part in Path(place).relative_to(anchor).parts:
        if not has_magic(part) or any((folder / part).exists() for _, folder in found):  # as in "data [old]"
            found = [(prefix, folder / part) for prefix, folder in found if not wild or (folder / part).is_dir()]
            continue
        wild = True
        found = [
            (f"{prefix}{child.name}/", child)
            for prefix, folder in found
            for child in sorted(folder.glob("*/"), key=natural_order)
            if fnmatchcase(child.name, part)
        ]
    if not found:
        raise DatasetError(f"there is no folder {place}")
    return found


def _title(places: list[str]) -> str:
    """A name without the places of this machine: the folder that holds both, up to the first wild card."""
    shared = []
    for ours, theirs in zip(*(Path(place).absolute().parts for place in places), strict=False):
        if ours != theirs or has_magic(ours) or _SPLIT in ours:
            break
        shared.append(ours)
    return shared[-1] if len(shared) > 1 else "pairs"
