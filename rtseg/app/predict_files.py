"""Finds the images of ``rtseg predict``, and names their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rtseg.app.existing_report import check_replaces_json
from rtseg.app.options import PredictOptions
from rtseg.errors import OptionError
from rtseg.image_io.files import RemoteFile
from rtseg.image_io.find import find_files
from rtseg.image_io.notes import ImageNotes
from rtseg.system.read_file import MAX_IMAGE_BYTES

__all__ = ["check_conflicts", "find_unique_images", "relative_names", "result_stems"]


def find_unique_images(inputs: Sequence[str | Path], notes: ImageNotes) -> tuple[list[Path], dict[Path, RemoteFile]]:
    """Return the images of all inputs in order, each image once, and how to read those that are not local files.

    Raises:
        RtsegError: An input contains no image or cannot be read.
    """
    images: dict[Path, Path] = {}
    remote: dict[Path, RemoteFile] = {}
    for each in inputs:
        for location in find_files(each, notes):
            if isinstance(location, Path):
                path = location
            else:
                file = RemoteFile(*location, MAX_IMAGE_BYTES)
                shown = location[1].partition("?")[0]  # a query may contain a password
                # Results keep the folders below those that all images share.
                path = Path("/") / (shown.partition("://")[2] or shown)
                remote[path] = file
            images.setdefault(_absolute(path), path)
    return list(images.values()), remote


def relative_names(images: Sequence[Path]) -> list[Path]:
    """Return the path of each image relative to the common folder."""
    paths = [_absolute(path) for path in images]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common) for path in paths]


def result_stems(names: Sequence[Path]) -> list[Path]:
    """Return a unique path without suffix for the results of each image, relative to ``masks`` and so on."""
    stems = Counter(name.with_suffix("") for name in names)
    ambiguous = {stem.parent for stem, count in stems.items() if count > 1}
    return [name if name.parent in ambiguous else name.with_suffix("") for name in names]


def _absolute(path: Path) -> Path:
    """Remove ``..`` but keep links, so that an image has the name that the user sees."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links


def check_conflicts(options: PredictOptions, images: Sequence[Path], model: Path, targets: Sequence[Path]) -> None:
    """Check that no result replaces an image, the model or another file.

    Raises:
        OptionError: A result would replace an input, or results exist and ``overwrite`` is not set.
    """
    inputs = {os.path.realpath(path) for path in (*images, model)}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise OptionError(f"a result would replace {target}, which is an input: give another --output")
    used = inputs | {os.path.realpath(target) for target in targets}
    if options.report is not None and os.path.realpath(options.report) in used:
        raise OptionError(f"--report {options.report} is an image, a result or the model: give another name")
    check_replaces_json(options.report)
    existing = [target for target in targets if target.exists()]
    if existing and not options.overwrite:
        raise OptionError(
            f"{len(existing)} of {len(targets)} results already exist, e.g. {existing[0]}: "
            "give another --output, or use --overwrite"
        )
