"""Options classes as options of a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from rtseg.app.option_values import VALUES
from rtseg.app.options import VIEWS
from rtseg.backends.base import DEVICES, PRECISIONS
from rtseg.backends.tensorrt.library import RUNTIMES
from rtseg.cli import main
from rtseg.cli.messages import MessageOptions
from rtseg.cli.option_groups import GivenFields, with_options
from rtseg.deploy import options as deploy_options
from rtseg.errors import OptionError
from rtseg.model_file.quantize import METHODS
from rtseg.option import BackendName, DeviceName, Group, Option, PrecisionName
from rtseg.visualize.overlay import VIEWS as DRAWN_VIEWS


@dataclass(frozen=True)
class Inner:
    """Options within other options."""

    size: Annotated[tuple[int, int], Option("Inner")] = (3, 4)
    """Size, (H, W) in ``pixels``."""
    ratio: Annotated[tuple[float, float], Option("Inner")] = (0.5, 2.0)
    """Lowest and
    highest.

    Not for the command line.
    """
    hidden: Annotated[int, Option()] = 1
    """Left out by the group."""
    internal: int = 5
    """No option."""


@dataclass(frozen=True)
class Outer:
    """Options of a command."""

    path: Annotated[str | Path, Option(argument="PATH")]
    """What to read [markup is escaped]."""
    names: Annotated[tuple[str, ...], Option(parse="names")] = ()
    """Names."""
    tags: Annotated[tuple[str, ...], Option(None, ("--tag",))] = ("one",)
    """Tags."""
    counts: Annotated[tuple[int, ...], Option()] = (0, 1)
    """Counts."""
    weights: Annotated[tuple[float, ...] | None, Option(default="equal")] = None
    """Weights."""
    window: Annotated[bool | None, Option()] = None
    """Window."""
    colour: Annotated[bool, Option()] = True
    """Colour."""
    fast: Annotated[bool, Option()] = False
    """Fast."""
    inner: Annotated[Inner, Group(without=("hidden",))] = field(default_factory=Inner)


def run(*words: str) -> tuple[Outer, frozenset[str], MessageOptions]:
    """What a command gets for these words."""
    calls: list[Any] = []

    def command(options: Outer, given: GivenFields, messages: MessageOptions) -> None:
        calls.append((options, given, messages))

    app = typer.Typer(add_completion=False)
    app.command()(with_options(command))
    app(args=list(words), standalone_mode=False)
    (call,) = calls
    return call  # type: ignore[no-any-return]


def help_of(function: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command()(with_options(function))
    app(args=["--help"], standalone_mode=False)
    return capsys.readouterr().out


def test_without_options_the_fields_have_their_defaults() -> None:
    assert run("here") == (Outer("here"), frozenset({"path"}), MessageOptions())


def test_every_option_sets_its_field() -> None:
    words = "here --names a,b,a --tag x --tag y --counts 3,2 --weights 1/0.5 --no-window --no-colour --fast"
    options, given, _ = run(*words.split(), "--size", "5x6", "--ratio", "1/3")
    expected = Outer("here", ("a", "b"), ("x", "y"), (3, 2), (1.0, 0.5), False, False, True, Inner((5, 6), (1.0, 3.0)))
    assert options == expected
    assert given == {"path", "names", "tags", "counts", "weights", "window", "colour", "fast", "size", "ratio"}


def test_a_default_that_is_given_counts_as_given() -> None:
    assert run("here", "--counts", "0,1")[1] == {"path", "counts"}


def test_every_command_has_the_message_options() -> None:
    assert run("here", "-q", "--log-level", "debug")[2] == MessageOptions(quiet=True, log_level="debug")


@pytest.mark.parametrize("word", ["--hidden", "--internal"])
def test_a_field_that_is_left_out_or_has_no_option_cannot_be_set(word: str) -> None:
    with pytest.raises(typer.BadParameter.__mro__[1], match="No such option"):
        run("here", word, "3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--size 5", "--size must be HEIGHTxWIDTH in pixels"),
        ("--ratio 1", "--ratio must be two numbers separated by a slash"),
        ("--ratio a/b", "--ratio must be numbers separated by slashes"),
        ("--counts a", "--counts must be whole numbers separated by commas"),
        ("--log-level loud", "--log-level must be one of debug, info, warning, error, got 'loud'"),
    ],
)
def test_a_malformed_value_names_its_option(words: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        run("here", *words.split())


def test_the_help_is_the_first_paragraph_below_the_field(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(options: Outer, messages: MessageOptions) -> None:
        pass

    text = help_of(command, capsys, monkeypatch)
    for line in ("Size, (H, W) in pixels. [default: 3x4]", "Lowest and highest. [default: 0.5/2]"):
        assert line in text
    assert "What to read [markup is escaped]." in text
    assert "Weights. [default: (equal)]" in text
    assert "Not for the command line" not in text
    assert " Inner " in text


def test_without_the_source_of_the_class_there_is_no_help_but_the_options_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(module: object) -> str:
        raise OSError("source code not available")

    monkeypatch.setattr("rtseg.app.option_fields.getsource", no_source)
    assert run("here", "--fast")[0] == Outer("here", fast=True)


def test_options_without_libraries_know_the_same_values_as_the_libraries() -> None:
    assert deploy_options._METHODS == METHODS
    assert deploy_options._RUNTIMES == RUNTIMES
    assert VIEWS == DRAWN_VIEWS
    assert set(PrecisionName.__metadata__[0].choices) == set(PRECISIONS)  # type: ignore[attr-defined]
    assert DeviceName.__metadata__[0].choices == DEVICES  # type: ignore[attr-defined]


def test_the_choices_of_backends_are_the_backends() -> None:
    from rtseg.backends import BACKENDS

    assert set(BackendName.__metadata__[0].choices) == {"auto", *BACKENDS}  # type: ignore[attr-defined]


def test_a_number_that_no_float_holds_is_refused_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "demo:1", "--stride", "9" * 400]) == 2
    assert capsys.readouterr().err == "rtseg: --stride is too large: give a number of at most 15 digits\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("10m", 600), ("1.5h", 5400), ("2 min", 120), ("1d", 86400)]
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert VALUES["duration"].parse(text, "--segment") == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("500", 500), ("20GB", 20 * 10**9), ("1.5 MiB", 1.5 * 2**20), ("3k", 3000), ("1tb", 10**12)]
)
def test_a_size_has_a_decimal_or_binary_unit(text: str, size: float) -> None:
    assert VALUES["bytes"].parse(text, "--keep") == size


@pytest.mark.parametrize(
    ("kind", "text"), [("duration", "10x"), ("duration", "-1s"), ("bytes", "20 XB"), ("bytes", "")]
)
def test_a_time_or_size_that_is_neither_is_refused(kind: str, text: str) -> None:
    with pytest.raises(OptionError, match="--opt must be a"):
        VALUES[kind].parse(text, "--opt")
