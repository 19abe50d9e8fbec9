"""JSON, tables and chart of a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.bench_results import clip_result, storage_result
from rich.console import Console

from rtseg.bench.chart import draw, make_figure
from rtseg.bench.report import show
from rtseg.bench.schema import check_result, read_result
from rtseg.errors import MissingExtra, OptionError

RESULTS = [storage_result, clip_result]


@pytest.fixture
def shown() -> Callable[[dict[str, Any]], str]:
    """The tables of a result."""

    def call(result: dict[str, Any]) -> str:
        console = Console(file=StringIO(), width=140, markup=False)
        show(result, console)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    return call


class TestSchema:
    @pytest.mark.parametrize("make", RESULTS)
    def test_a_result_is_valid_before_and_after_writing(
        self, make: Callable[[], dict[str, Any]], tmp_path: Path
    ) -> None:
        result = make()
        check_result(result)
        (tmp_path / "a.json").write_text(json.dumps(result))
        assert read_result(tmp_path / "a.json") == result

    @pytest.mark.parametrize("make", RESULTS)
    def test_a_result_contains_machine_versions_commit_and_method(self, make: Callable[[], dict[str, Any]]) -> None:
        result = make()
        assert result["machine"]["cores"] >= 1
        assert {"rtseg", "numpy"} <= set(result["versions"])
        assert isinstance(result["commit"], str)
        assert any("(n - 1) / (last - first)" in line for line in result["method"])

    def test_a_result_without_the_newer_keys_is_valid(self) -> None:
        result = clip_result()
        for row in result["pipeline"]:
            del row["preprocess"], row["preprocess_of_model"]
        check_result(result)
        result["pipeline"][0]["preprocess"] = "clahe"
        with pytest.raises(ValueError, match=r"pipeline\[0\]\.preprocess is str, not list"):
            check_result(result)

    @pytest.mark.parametrize("key", sorted(storage_result()))
    def test_every_key_is_required(self, key: str) -> None:
        result = storage_result()
        del result[key]
        with pytest.raises(ValueError, match=f"has no '{key}'"):
            check_result(result)

    def test_a_wrong_type_is_reported_with_its_path(self) -> None:
        result = storage_result()
        result["reading"][1]["cold"]["in_memory"] = "none"
        with pytest.raises(ValueError, match=r"result\.reading\[1\]\.cold\.in_memory is str, not int or float"):
            check_result(result)
        result = clip_result()
        result["pipeline"][0]["busy"]["infer"] = True
        with pytest.raises(ValueError, match=r"result\.pipeline\[0\]\.busy\.infer is bool"):
            check_result(result)

    @pytest.mark.parametrize(("key", "value"), [("schema", "rtseg-bench-0"), ("kind", "other")])
    def test_another_schema_or_kind_is_refused(self, key: str, value: str) -> None:
        with pytest.raises(ValueError, match=value):
            check_result(storage_result() | {key: value})

    @pytest.mark.parametrize("text", ["", "[]", "{}", "no json", '{"schema": 1}'])
    def test_a_file_without_a_result_is_an_option_error(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "old.json").write_text(text)
        with pytest.raises(OptionError, match=r"--compare .*old\.json is not a result"):
            read_result(tmp_path / "old.json")

    def test_a_missing_file_is_an_option_error(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="cannot be read"):
            read_result(tmp_path / "old.json")


class TestTables:
    def test_every_line_of_a_simulated_disk_is_marked(self, shown: Callable[[dict[str, Any]], str]) -> None:
        text = shown(storage_result())
        lines = [line for line in text.splitlines() if line.strip("│┃ ").startswith("hdd")]
        assert len(lines) >= 6
        assert all("hdd (simulated)" in line for line in lines)
        assert "ssd (simulated)" not in text

    def test_a_decoder_that_does_not_support_the_format_has_a_row_with_the_reason(
        self, shown: Callable[[dict[str, Any]], str]
    ) -> None:
        (line,) = [line for line in shown(storage_result()).splitlines() if "ssd" in line and "turbojpeg" in line]
        assert "turbojpeg decodes no PNG" in line

    def test_a_cold_run_that_was_not_cold_is_marked(self, shown: Callable[[dict[str, Any]], str]) -> None:
        result = storage_result()
        assert "not cold" not in shown(result)
        result["reading"][0]["cold"] |= {"in_memory": 0.4, "as_said": False}
        assert "not cold: 40 % in memory" in shown(result)

    def test_the_bottleneck_is_named(self, shown: Callable[[dict[str, Any]], str]) -> None:
        assert "clip.mp4, file, openvino: the bottleneck is infer, busy for 90 % of the time" in shown(clip_result())

    def test_published_values_are_marked_as_published(self, shown: Callable[[dict[str, Any]], str]) -> None:
        text = shown(storage_result())
        assert "as published, not measured here" in text
        assert "11 and 23 fps" in text

    def test_a_busy_machine_is_reported(self, shown: Callable[[dict[str, Any]], str]) -> None:
        result = clip_result()
        assert "other work" not in shown(result)
        result["machine"] |= {"load_before": 7.0, "cores": 2}
        assert "other work had a load of 7.0 on 2 cores" in shown(result)

    def test_an_incomplete_result_is_marked(self, shown: Callable[[dict[str, Any]], str]) -> None:
        assert "stopped" not in shown(clip_result())
        assert "stopped" in shown(clip_result() | {"complete": False})


class TestChart:
    @pytest.mark.parametrize("make", RESULTS)
    def test_the_chart_is_an_image_with_content(self, make: Callable[[], dict[str, Any]]) -> None:
        image = cv2.imdecode(np.frombuffer(draw(make()), np.uint8), cv2.IMREAD_COLOR)
        assert min(image.shape[:2]) > 300
        assert len(np.unique(image[::5, ::5])) > 50

    def test_simulated_bars_are_hatched_and_labelled(self) -> None:
        figure = make_figure(storage_result())
        reading = [axis for axis in figure.axes if axis.get_title().startswith("reading")]
        assert len(reading) == 4
        for axis in reading:
            simulated = "hdd" in axis.get_title()
            assert ("(simulated)" in axis.get_title()) == simulated
            assert {bool(bar.get_hatch()) for bar in axis.patches} == {simulated}
        (fps,) = [axis for axis in figure.axes if "whole pipeline" in axis.get_title()]
        names = [label.get_text() for label in fps.get_xticklabels()]
        assert names == ["ssd\ncold", "hdd (simulated)\ncold"]
        assert [bool(bar.get_hatch()) for bar in fps.patches] == [False, True]

    def test_a_panel_that_was_not_cold_is_marked(self) -> None:
        result = storage_result()
        for row in result["reading"]:
            if row["cold"]:
                row["cold"]["as_said"] = False
        titles = [axis.get_title() for axis in make_figure(result).axes]
        assert sum("NOT cold" in title for title in titles) == 2

    def test_the_bars_are_as_high_as_the_medians(self) -> None:
        figure = make_figure(storage_result())
        (axis,) = [axis for axis in figure.axes if axis.get_title() == "reading, ssd, cold"]
        assert sorted(bar.get_height() for bar in axis.patches) == [30, 50, 95, 100]

    def test_an_empty_result_has_a_chart(self) -> None:
        assert draw(clip_result() | {"pipeline": []}).startswith(b"\x89PNG")

    def test_without_matplotlib_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
        with pytest.raises(MissingExtra, match=r"needs the package 'matplotlib': pip install 'rtseg\[bench\]'"):
            draw(clip_result())
