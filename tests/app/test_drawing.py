from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.app.drawing import open_effects, open_overlay
from rtseg.app.options import StreamOptions
from rtseg.errors import ModelError, OptionError
from rtseg.model_file.spec import ModelSpec

LABELS = np.repeat(np.repeat(np.array([[0, 1], [2, 255]], np.uint8), 32, axis=0), 32, axis=1)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def _spec(*names: str) -> ModelSpec:
    return ModelSpec("three", names, tuple((40 * number, 0, 0) for number in range(len(names))), (64, 64))


@pytest.fixture
def green(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((9, 9, 3), (0, 255, 0), np.uint8))
    return tmp_path / "green.png"


def _shown(options: StreamOptions, spec: ModelSpec) -> list[bool]:
    """Whether the middles of the four labels of ``LABELS`` show the image."""
    image = IMAGE
    for effect in open_effects(options, spec):
        image = effect(image, LABELS)
    drawn = open_overlay(options, spec).draw(image, LABELS)
    return [np.array_equal(drawn[y, x], IMAGE[y, x]) for y, x in ((16, 16), (16, 48), (48, 16), (48, 48))]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, [False, True, True, False]),
        ({"only": ("car",)}, [False, True, False, False]),
        ({"hide": ("Car",)}, [True, False, True, False]),
    ],
)
def test_what_stays_in_front_of_a_background(
    options: dict[str, tuple[str, ...]], shown: list[bool], green: Path
) -> None:
    spec = _spec("background", "Car", "Road")
    assert _shown(StreamOptions(replace_background=green, **options), spec) == shown


def test_it_must_be_clear_what_stays(green: Path) -> None:
    with pytest.raises(OptionError, match=r"--only CLASS .* three has Sky, Car, Road"):
        open_effects(StreamOptions(replace_background=green), _spec("Sky", "Car", "Road"))


def test_blur_shows_the_image_and_not_the_colours_unless_a_view_is_asked_for() -> None:
    spec = _spec("Sky", "Car", "Road")
    assert _shown(StreamOptions(blur=("Car",)), spec)[::2] == [True, True]
    assert _shown(StreamOptions(blur=("Car",), view="overlay"), spec)[::2] == [False, False]
    with pytest.raises(ModelError, match="no class 'Dog'"):
        open_effects(StreamOptions(blur=("Dog",)), spec)


@pytest.mark.parametrize("content", [None, b"text"])
def test_a_background_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "b.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=r"--replace-background .*b\.png"):
        open_effects(StreamOptions(replace_background=path, only=("Sky",)), _spec("Sky", "Car", "Road"))
