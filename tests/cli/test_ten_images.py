"""``docs/ten-images.md``: from images and masks to a streaming model in three commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from rtseg.cli import main
from rtseg.system.opencv import cv2

ROOT = Path(__file__).parents[2]
SMALL = "--epochs 2 --size 64x96 --crop 64x96 --model icnet:width=4 --workers 0 --amp none --device cpu"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Ten photographs of a bright disk, masks as a drawing program stores them (0 and 255), and a film of one."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (120, 80))
    for number in range(10):
        image = random.integers(0, 90, (80, 120, 3), dtype=np.uint8)
        mask = np.zeros((80, 120), np.uint8)
        centre = tuple(int(v) for v in random.integers(20, 60, 2))
        cv2.circle(image, centre, 14, (230, 240, 250), -1)
        cv2.circle(mask, centre, 14, 255, -1)
        cv2.imwrite(str(tmp_path / "mine" / "images" / f"IMG_{number}.jpg"), image)
        cv2.imwrite(str(tmp_path / "mine" / "masks" / f"IMG_{number}.png"), mask)
        film.write(image)
    film.release()
    return tmp_path


def commands() -> list[str]:
    """The three commands, as the page has them."""
    page = (ROOT / "docs" / "ten-images.md").read_text()
    return [line.strip() for line in page.splitlines() if re.match(r"    rtseg ", line)]


def test_the_page_has_three_commands() -> None:
    assert [command.split()[1] for command in commands()] == ["train", "export", "stream"]


def test_three_commands_lead_from_ten_images_to_a_film_of_labels(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own)
    train, export, stream = (shlex.split(command, comments=True)[1:] for command in commands())
    assert main([*train, *SMALL.split()]) == 0
    assert main(export) == 0
    assert main([*stream, "--no-show", "--masks", "labels", "--report", "run.json", "--quiet"]) == 0
    report = json.loads(Path("run.json").read_text())
    assert report["frames_written"] == 10
    assert report["model"] == "mine"
    labels = cv2.imread(str(sorted(Path("labels").iterdir())[0]), cv2.IMREAD_UNCHANGED)
    assert labels is not None
    assert labels.shape[:2] == (80, 120)
