"""Compare an image of 3072x3072 pixels that is labelled in tiles with the same image labelled at once.

    python benchmarks/tiles.py CAMVID

The image is a mosaic of CamVid's validation images in the scale of the models, so the right labels are known.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _common import RESULTS, ROOT, save, versions
from numpy.typing import NDArray

from rtseg.datasets.mask_files import read_mask
from rtseg.pipeline.tiles import tile_ranges

SIDE = 3072
CELL = (480, 640)
"""Size (H, W) of a CamVid image in the scale of the models."""
MODELS = ("icnet-camvid", "deeplabv3-mobilenet-camvid")
TILES = ((1024, 0), (1024, 128), (1024, 512), (2048, 512))
_VOID = 11

Labels = NDArray[np.uint8]


def mosaic(camvid: Path) -> tuple[NDArray[np.uint8], Labels]:
    """The image, and the right labels."""
    images = sorted((camvid / "val").glob("*.png"))
    image, truth = np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE), _VOID, np.uint8)
    cells = [(top, left) for top in range(0, SIDE, CELL[0]) for left in range(0, SIDE, CELL[1])]
    for number, (top, left) in enumerate(cells):
        path = images[number * len(images) // len(cells)]
        bottom, right = min(SIDE, top + CELL[0]), min(SIDE, left + CELL[1])
        for target, folder, how in ((image, "val", cv2.INTER_LINEAR), (truth, "valannot", cv2.INTER_NEAREST)):
            flags = cv2.IMREAD_COLOR if folder == "val" else cv2.IMREAD_GRAYSCALE
            part = cv2.imread(str(camvid / folder / path.name), flags)
            assert part is not None
            part = cv2.resize(part, CELL[::-1], interpolation=how)
            target[top:bottom, left:right] = part[: bottom - top, : right - left]
    return image, truth


def predict(image: Path, output: Path, model: str, *more: str) -> tuple[Labels, dict[str, Any]]:
    """Label the image; return the labels, and the largest memory of the process."""
    command = [sys.executable, "-m", "rtseg", "predict", str(image), "-o", str(output), "--only", "masks", "-m", model]
    process = subprocess.Popen([*command, *more, "--quiet"], env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"rtseg predict ended with {status}"
    labels = read_mask(output / "masks" / f"{image.stem}.png").numbers
    assert labels is not None
    return labels, {"peak_mb": usage.ru_maxrss // 1024}


def border_changes(labels: Labels, tile: int, overlap: int) -> int:
    """How many pairs of neighbours on both sides of a border of tiles have different labels."""
    borders = [end for _, _, _, end in tile_ranges(SIDE, tile, overlap)][:-1]
    down = sum(int((labels[border] != labels[border - 1]).sum()) for border in borders)
    return down + sum(int((labels[:, border] != labels[:, border - 1]).sum()) for border in borders)


def compare(image: Path, folder: Path, model: str, truth: Labels) -> list[dict[str, Any]]:
    """Label at once and in tiles of all kinds."""
    known = truth != _VOID
    size = ("--size", f"{SIDE}x{SIDE}", "--precision", "fp32")
    whole, facts = predict(image, folder / model, model, *size)
    rows = [{"model": model, "tile": None, "overlap": None, **facts, "accuracy": (whole == truth)[known].mean()}]
    for tile, overlap in TILES:
        size = ("--size", f"{tile}x{tile}", "--precision", "fp32")
        tiles = ("--tiles", str(tile), "--overlap", str(overlap))
        labels, facts = predict(image, folder / f"{model}-{tile}-{overlap}", model, *size, *tiles)
        seams = border_changes(labels, tile, overlap) - border_changes(whole, tile, overlap)
        rows.append({"model": model, "tile": tile, "overlap": overlap, **facts})
        rows[-1] |= {"differ": (labels != whole).mean(), "seams": seams / labels.size}
        rows[-1] |= {"accuracy": (labels == truth)[known].mean()}
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rtseg-tiles-") as name:
        folder = Path(name)
        image, truth = mosaic(options.camvid)
        cv2.imwrite(str(folder / "mosaic.png"), image)
        rows = [row for model in MODELS for row in compare(folder / "mosaic.png", folder, model, truth)]
    for row in rows:
        row |= {key: round(float(row[key]), 5) for key in ("differ", "seams", "accuracy") if key in row}
    print(f"wrote {save(RESULTS / 'tiles.json', {'side': SIDE, 'rows': rows, 'versions': versions()})}")


if __name__ == "__main__":
    main()
