"""What the README and the other pages tell a reader to type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from rtseg.cli import app

ROOT = Path(__file__).parents[2]
PLACES = ("*.md", "docs/**/*.md", "engines/*.md", "recipes/*.md", "calib/*.md", "rtseg/weights/*.md")
PAGES = sorted({page for place in PLACES for page in ROOT.glob(place)} - {ROOT / "CHANGELOG.md"})
OPTIONS_OF_OTHERS = {"--shm-size"}
MAX_ANIMATION_BYTES = 2_000_000


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every rtseg command in code blocks and in inline code; continued lines are joined."""
    text = page.read_text().replace("\\\n", " ")
    for line in (*re.findall(r"^    (.+)$", text, re.MULTILINE), *re.findall(r"`(rtseg [^`\n]+)`", text)):
        match = re.search(r"(?:^|&& |-m )rtseg (.+)", line)
        if match:
            yield shlex.split(match[1], comments=True)


def options_of(words: list[str]) -> set[str]:
    """The options of the command that ``words`` begin with."""
    command: Any = get_command(app)
    context = command.make_context("rtseg", [], resilient_parsing=True)
    options: set[str] = set()
    while hasattr(command, "resolve_command"):
        options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        if not words or words[0].startswith("-"):
            return options
        name, *words = words
        assert command.get_command(context, name) is not None, f"there is no command {name}"
        command = command.resolve_command(context, [name])[1]
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    for words in commands(page):
        if words[0].isupper() or words[0] == "...":
            continue  # rtseg COMMAND --help
        known = options_of(words) | {"--help"}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{' '.join(words)}: {', '.join(sorted(used - known))}"


def test_every_option_that_a_page_mentions_exists() -> None:
    group: Any = get_command(app)
    words = [[name] for name in group.list_commands(group.make_context("rtseg", [], resilient_parsing=True))]
    known = set().union(*map(options_of, [[], *words, ["data", "check"]])) | OPTIONS_OF_OTHERS
    for page in PAGES:
        mentioned = set(re.findall(r"`(--[a-z][a-z0-9-]*)", page.read_text()))
        assert mentioned <= known, f"{page_id(page)}: {', '.join(sorted(mentioned - known))}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_the_readme_is_short_and_its_animation_is_small() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    animation = (ROOT / "docs/assets/overlay.webp").read_bytes()
    assert b"ANIM" in animation[:64]
    assert len(animation) < MAX_ANIMATION_BYTES


@pytest.mark.parametrize("page", ["README.md", "docs/model-file.md"])
def test_the_python_code_of_a_page_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    names: dict[str, Any] = {}
    exec(code[0].replace("demo:2", "demo:0.2"), names)
    assert names["image"].shape == names["frame"].image.shape
