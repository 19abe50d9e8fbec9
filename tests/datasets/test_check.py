from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from helpers.image_saving import SaveImage

from rtseg.datasets.check import DataReport, check_data
from rtseg.errors import DatasetError, OptionError

IDS = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [255, 255, 255, 255]], np.uint8)


@pytest.fixture
def root(tmp_path: Path, save: SaveImage) -> Path:
    """Three images, c for validation, without a fault."""
    for name in "abc":
        save(f"images/{name}.png")
        save(f"masks/{name}.png", IDS)
    return tmp_path


def check(root: Path, options: str = "") -> DataReport:
    return check_data(f"pairs:{root}/images,{root}/masks,classes=road+car,val=c{options}", ("train", "val"))


def test_good_data_have_shares_and_no_problems(root: Path) -> None:
    report = check(root)
    assert report.problems == ()
    train, val = report.splits
    assert (train.split, train.images, train.sizes) == ("train", 2, ((3, 4),))
    assert train.shares == {"road": 0.5, "car": pytest.approx(1 / 6)}
    assert train.void_share == pytest.approx(1 / 3)
    assert train.images_with == {"road": 2, "car": 2}
    assert (val.split, val.images) == ("val", 1)


def test_a_report_can_be_kept_as_json(root: Path) -> None:
    facts = json.loads(json.dumps(check(root).to_dict()))
    assert facts["splits"][0]["shares"]["road"] == 0.5
    assert facts["problems"] == []


def test_everything_wrong_is_found_in_one_go_with_file_names(root: Path, save: SaveImage) -> None:
    for name in "defgh":
        save(f"images/{name}.png")
        save(f"masks/{name}.png", IDS)
    (root / "masks" / "a.png").unlink()
    (root / "images" / "b.png").unlink()
    save("masks/d.png", np.zeros((4, 4), np.uint8))
    save("masks/e.png", np.full((3, 4), 7, np.uint8))
    (root / "images" / "f.png").write_bytes(b"no image")
    (root / "masks" / "g.png").write_bytes((root / "masks" / "h.png").read_bytes()[:-5])
    save("masks/h.png", np.full((3, 4), 255, np.uint8))
    problems = "\n".join(check(root).problems)
    for message in (
        "images/a.png has no mask 'a'",
        "masks/b.png has no image 'b'",
        "masks/d.png is 4x4, its image",
        "masks/e.png holds 7 (12 pixels)",
        "images/f.png is damaged",
        "masks/g.png is damaged: it is truncated",
        "images/h.png is of no use: every pixel of its mask is void",
        "no pixel of train has the class road (0), car (1)",
    ):
        assert message in problems
    assert len(problems.splitlines()) == 8, "a problem of both splits is reported once"


def test_an_image_in_two_splits_is_found_whatever_its_name(root: Path) -> None:
    (root / "images" / "c.png").write_bytes((root / "images" / "a.png").read_bytes())
    (problem,) = check(root).problems
    assert problem == f"{root}/images/c.png in val is the same image as {root}/images/a.png in train"


def test_a_class_that_no_image_has_is_named_for_each_split(root: Path, save: SaveImage) -> None:
    save("masks/c.png", np.zeros((3, 4), np.uint8))
    assert check(root).problems == ("no pixel of val has the class car (1)",)


def test_a_split_that_cannot_be_opened_is_a_problem_where_another_can(root: Path) -> None:
    report = check_data(f"pairs:{root}/images,{root}/masks,classes=road+car,val=1", ("train", "val"))
    assert report.problems == (
        "the split 'train' is empty (train 0, val 3, test 0): give val= or test= another share or pattern",
    )
    assert [split.split for split in report.splits] == ["val"]


def test_data_that_cannot_be_opened_at_all_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="needs the folder VOC2012"):
        check_data(f"voc:{tmp_path}", ("train", "val"))
    with pytest.raises(OptionError, match="KIND one of"):
        check_data("nothing:here", ("train",))


def test_progress_is_reported_by_split(root: Path) -> None:
    calls: list[tuple[str, int]] = []

    def track(places: Iterable[int], name: str) -> Iterable[int]:
        listed = list(places)
        calls.append((name, len(listed)))
        return listed

    check_data(f"pairs:{root}/images,{root}/masks,classes=road+car,val=c", ("train", "val"), track)
    assert calls == [("train", 2), ("val", 1)]


def test_drawn_data_are_checked_too() -> None:
    report = check_data("synthetic:fringes,size=256x256,frames=2", ("train", "val"))
    assert [split.images for split in report.splits] == [2, 2]
    assert sum(report.splits[0].shares.values()) == pytest.approx(1)


def test_the_black_of_dubai_is_found_in_two_files(shared: Path) -> None:
    root = shared / "data" / "aerial_dubai"
    text = f"pairs:{root}/*/images,{root}/*/masks,classes={root}/mask_colours.json,val=Tile 3/*"
    problems = check_data(text, ("val",)).problems
    assert [Path(problem.split(" holds ")[0]).name for problem in problems] == [
        "image_part_006.png",
        "image_part_007.png",
    ]
    assert check_data(f"{text},void=#000000", ("val",)).problems == ()
