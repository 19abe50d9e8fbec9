"""The presets of classes have the classes of their data sets."""

from __future__ import annotations

import pytest

from rtseg.camvid_classes import CLASSES as CAMVID
from rtseg.camvid_classes import PALETTE as CAMVID_PALETTE
from rtseg.classes import PRESETS, class_colours, preset
from rtseg.datasets import cityscapes, voc
from rtseg.errors import OptionError
from rtseg.model_file.spec import ModelSpec

COUNTS = {
    "ade20k": 150,
    "bdd100k": 19,
    "camvid": 11,
    "cityscapes": 19,
    "coco": 81,
    "coco-stuff": 171,
    "mapillary": 66,
    "voc": 21,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_in_a_model_file(name: str) -> None:
    classes, palette = preset(name)
    assert len(classes) == COUNTS[name]
    assert ModelSpec(name, classes, palette, (32, 32)).class_id(classes[-1]) == len(classes) - 1


def test_the_presets_of_data_sets_that_rtseg_reads_are_theirs() -> None:
    assert preset("camvid") == (CAMVID, CAMVID_PALETTE)
    assert preset("cityscapes") == preset("bdd100k") == (cityscapes.CLASSES, cityscapes.PALETTE)
    assert preset("voc") == (voc.CLASSES, voc.PALETTE)


def test_colours_differ() -> None:
    assert len(set(class_colours(255))) == 255
    assert class_colours(21) == voc.PALETTE


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="unknown classes 'kitti'; the presets are ade20k, bdd100k"):
        preset("kitti")
