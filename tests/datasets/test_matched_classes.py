from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.datasets import Dataset, ReadFile
from rtseg.datasets.matched_classes import MatchedClasses, match_classes, parse_class_pairs
from rtseg.errors import DatasetError, OptionError
from rtseg.frame import Image, Labels
from rtseg.model_file.spec import VOID


class Stripe(Dataset):
    """One image with every class once, and void at the end."""

    name, licence = "stripe", "none"

    def __init__(self, *classes: str) -> None:
        self.classes = classes
        self.palette = tuple((index, 0, 0) for index in range(len(classes)))

    def __len__(self) -> int:
        return 1

    def load(self, index: int, epoch: int = 0, read: ReadFile = Path.read_bytes) -> tuple[Image, Labels]:
        labels = np.array([[*range(len(self.classes)), VOID]], np.uint8)
        return np.zeros((*labels.shape, 3), np.uint8), labels


def ids(dataset: Dataset) -> list[int]:
    return [int(value) for value in dataset.load(0)[1][0]]


def test_data_with_the_classes_of_the_model_stay_as_they_are() -> None:
    data = Stripe("road", "car")
    assert match_classes(data, ("road", "car"), "mine") is data


def test_classes_match_in_another_order_and_under_their_other_names() -> None:
    data = match_classes(Stripe("aeroplane", "tvmonitor", "Potted Plant"), ("potted-plant", "tv", "airplane"), "mine")
    assert ids(data) == [2, 1, 0, VOID]
    assert data.classes == ("potted-plant", "tv", "airplane")
    assert data.palette == ((2, 0, 0), (1, 0, 0), (0, 0, 0))


def test_an_exact_name_comes_before_an_alias() -> None:
    data = match_classes(Stripe("person", "pedestrian"), ("pedestrian", "person"), "mine")
    assert ids(data) == [1, 0, VOID]


def test_a_void_class_of_the_data_is_left_out_and_one_of_the_model_is_not_scored() -> None:
    assert ids(match_classes(Stripe("road", "Void"), ("road",), "mine")) == [0, VOID, VOID]
    data = match_classes(Stripe("road"), ("road", "unlabelled"), "mine")
    assert isinstance(data, MatchedClasses)
    assert (ids(data), data.scored) == ([0, VOID], {0})


def test_pairs_say_what_names_do_not_and_may_join_classes_of_the_model() -> None:
    pairs = parse_class_pairs(["truck=Car", "void=Sky", "animal=void"])
    data = match_classes(Stripe("Sky", "Car"), ("animal", "car", "truck"), "mine", pairs)
    assert isinstance(data, MatchedClasses)
    assert (ids(data), data.scored) == ([VOID, 1, VOID], {1})
    assert data.merge(np.array([[0, 1, 2]], np.uint8)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("model", "pairs", "error", "message"),
    [
        (("road",), [], DatasetError, "stripe has sky, which mine lacks .it has road.: .* e.g. road=sky, or void=sky"),
        (("road", "sky", "cow"), [], DatasetError, "mine has cow, which stripe lacks .*, e.g. cow=road, or cow=void"),
        (("road",), None, DatasetError, "give --data with the same classes"),
        (("road", "sky"), [("car", "road")], OptionError, "--map-classes: mine has no class 'car'; it has road, sky"),
        (("road", "sky"), [("road", "car")], OptionError, "stripe has no class 'car'"),
    ],
)
def test_a_class_without_a_partner_is_refused(
    model: tuple[str, ...], pairs: list[tuple[str, str]] | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        match_classes(Stripe("road", "sky"), model, "mine", pairs)


@pytest.mark.parametrize("text", ["tv", "tv=", "=tv", ""])
def test_a_pair_needs_both_names(text: str) -> None:
    with pytest.raises(OptionError, match="--map-classes must be MODEL=DATA"):
        parse_class_pairs([text])
