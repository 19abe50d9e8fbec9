"""The recipe on comma10k, on a tiny set with its folders and colours."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtseg.cli import app
from rtseg.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]


def test_the_recipe_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.comma10k import comma10k

    comma10k(tmp_path / "comma10k")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "recipes" / "streets-permissive.toml").read_text()
    Path("short.toml").write_text(text.replace("frames=1000", "frames=4"))
    small = "--model icnet:width=4 --size 64x96 --crop 64x96 --epochs 1 --batch 3 --workers 0 --amp none --device cpu"
    result = CliRunner().invoke(app, f"train --recipe short.toml --output run {small}".split())
    assert result.exit_code == 0, result.output
    saved = load_checkpoint(Path("run/last.safetensors"))
    assert saved["classes"] == ["road", "undrivable", "movable", "my car"]
    assert saved["licence"] == "MIT; synthetic street: drawn by rtseg, no restriction"
