"""``rtseg train --recipe``: the options that a file gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rtseg.cli import main
from rtseg.cli._recipe import recipe_defaults
from rtseg.errors import OptionError
from rtseg.training.options import TrainOptions

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
SMALL = """
data = ["synthetic:street,frames=4"]
output = "run"
model = "icnet:width=4"
size = "64x96"
crop = "64x96"
batch = 2
epochs = 1
workers = 0
scale = "0.8/1.2"
colour = false
cameras = true
paste = 1
lr = 1
amp = "none"
device = "cpu"
"""


def wanted(monkeypatch: pytest.MonkeyPatch, *words: str) -> TrainOptions:
    """What a command line asks of ``rtseg.training``, which does nothing about it."""
    caught: list[TrainOptions] = []

    def note(options: TrainOptions, *_: Any) -> None:
        caught.append(options)
        raise OptionError("nothing is trained here")

    monkeypatch.setattr("rtseg.training.train.train", note)
    assert main(["train", *words]) == 2
    return caught[0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    return tmp_path


def test_a_recipe_sets_options_of_every_type(monkeypatch: pytest.MonkeyPatch) -> None:
    options = wanted(monkeypatch, "--recipe", "small.toml")
    assert (options.data, options.output) == (("synthetic:street,frames=4",), Path("run"))
    assert (options.size, options.batch, options.lr) == ((64, 96), 2, 1.0)
    augmentation = options.augmentation
    assert (augmentation.scale, augmentation.colour, augmentation.cameras, augmentation.paste) == (
        (0.8, 1.2),
        False,
        True,
        1.0,
    )
    assert options.weight_decay == 0.01


def test_the_command_line_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--epochs", "7", "--recipe", "small.toml", "--colour", "--data", "synthetic:street,frames=6"]
    options = wanted(monkeypatch, *words)
    assert (options.epochs, options.augmentation.colour, options.data) == (7, True, ("synthetic:street,frames=6",))


def test_the_same_command_continues_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "small.toml"]) == 0
    assert main(["train", "--recipe", "small.toml", "--epochs", "2"]) == 0
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 1", "small.toml has the key 'epoch', which is not an option; known are data, output"),
        ("epochs = '1'", "small.toml: epochs must be a whole number, got '1'"),
        ("cameras = 1", "small.toml: cameras must be true or false, got 1"),
        ("data = 'camvid:x'", "small.toml: data must be a list of texts, got 'camvid:x'"),
        ("epochs = ", "small.toml is not TOML"),
        ("epochs = 0", "--epochs must be more than 0, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("small.toml").write_text(text)
    assert main(["train", "--recipe", "small.toml", "--data", "synthetic:street,frames=4", "-o", "run"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_missing_recipe_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "none.toml"]) == 2
    assert "none.toml cannot be read (No such file or directory): give a .toml file" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_the_recipes_of_the_repository_are_valid(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"options__data", "options__output", "options__epochs"} <= set(
        recipe_defaults(recipe, TrainOptions, "options")
    )
    options = wanted(monkeypatch, "--recipe", str(recipe), "--data", "synthetic:street,frames=8")
    assert options.epochs >= 100


def test_there_are_recipes() -> None:
    assert "icnet-camvid.toml" in [path.name for path in RECIPES]
