from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.cli import main
from rtseg.models import MODELS
from rtseg.models.figures import NetworkFigures, load_figures


def rows(said: str) -> dict[str, tuple[str, ...]]:
    """Name -> parameters, GFLOPs and fps, as printed."""
    cells = [line.replace("│", " ").split() for line in said.splitlines() if "│" in line]
    return {name: tuple(values) for name, *values in cells if len(values) == 3}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that breaks no line."""
    monkeypatch.setenv("COLUMNS", "500")


class TestList:
    def test_every_network_is_there_with_parameters_operations_and_rate(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["models"]) == 0
        said = capsys.readouterr().out
        head = next(line for line in said.splitlines() if "parameters, M" in line)
        assert "GFLOPs at 384x640" in head
        assert "fps" in head
        kept = load_figures().networks
        assert rows(said) == {
            name: (f"{kept[name].parameters / 1e6:.1f}", f"{kept[name].flops / 1e9:.1f}", f"{kept[name].fps:.1f}")
            for name in MODELS
        }
        assert rows(said)["icnet"][:2] == ("6.7", "6.8")

    def test_the_machine_that_it_was_measured_on_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models"]) == 0
        said = capsys.readouterr().out.splitlines()[-1]
        figures = load_figures()
        for fact in (figures.processor, f"{figures.cores} cores", figures.runtime, figures.precision, figures.date):
            assert fact in said
        assert "`rtseg models --measure` measures here" in said

    def test_names_ask_for_some_of_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["models", "fcn8s-vgg16", "icnet"]) == 0
        assert list(rows(capsys.readouterr().out)) == ["fcn8s-vgg16", "icnet"]

    def test_it_needs_no_torch(self) -> None:
        program = (
            "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
            "from rtseg.cli import main; sys.exit(main(['models']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert set(rows(done.stdout)) == set(MODELS)


class TestMeasure:
    def test_what_was_measured_is_printed_in_the_order_that_was_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rates = {"icnet:width=16": 41.26, "fcn-resnet18": 7.0}
        monkeypatch.setattr(
            "rtseg.bench.network_speed.measure", lambda name: NetworkFigures(1_640_000, 2_000_000_000, rates[name])
        )
        assert main(["models", "--measure", *rates]) == 0
        said = capsys.readouterr().out
        assert rows(said) == {"icnet:width=16": ("1.6", "2.0", "41.3"), "fcn-resnet18": ("1.6", "2.0", "7.0")}
        assert said.splitlines()[-1].startswith("fps: OpenVINO on this machine")

    def test_without_torch_the_extra_is_told(self) -> None:
        program = (
            "import sys; sys.modules['torch'] = None\n"
            "from rtseg.cli import main; sys.exit(main(['models', '--measure', 'icnet']))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "rtseg: measuring needs the package 'torch': pip install 'rtseg[train]'\n"


@pytest.mark.parametrize("options", [[], ["--measure"]])
def test_a_name_that_is_not_known_is_refused_before_anything_is_done(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "icnet", "pspnet", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("rtseg: unknown network 'pspnet'; known are ddrnet23, ")


def test_an_option_that_a_network_does_not_have_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "--measure", "icnet", "icnet:depth=50"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "depth" in said.err


class TestPublishedModels:
    def test_they_are_listed_with_their_terms_and_where_the_figures_come_from(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["models"]) == 0
        said = capsys.readouterr().out
        assert "torchvision:deeplabv3_resnet50" in said
        assert "BSD-3-Clause of torchvision" in said

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["get"], "rtseg models get: give the name of a published model"),
            (["get", "nothing"], "no published model 'nothing' is known"),
            (["get", "fcn_resnet50", "--offline"], "--offline forbids a download"),
        ],
    )
    def test_what_cannot_be_downloaded_is_told_in_one_line(
        self,
        arguments: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RTSEG_CACHE", str(tmp_path))
        assert main(["models", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
