from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import MissingExtra
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.regions import parse_region
from rtseg.regions.masks import Regions
from rtseg.sinks.stats import frame_shares, open_stats
from rtseg.system.atomic_files import OutputExists

COLUMNS = ["index", "pts_s", "name", "Road", "Car", "Sky"]
ROWS = [[7, 0.28, "", 0.5, 0.25, 0.25], [8, 0.32, 'ä "b", c.png', 0.5, 0.25, 0.25]]


def _write(path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray) -> None:
    sink = open_stats(path, spec)
    sink.write(frame, labels, None)
    sink.write(replace(frame, index=8, pts_s=0.32, name=ROWS[1][2]), labels, None)
    sink.close()
    sink.close()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_csv_has_a_row_for_each_frame(tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray) -> None:
    _write(tmp_path / "stats.csv", spec, frame, labels)
    with (tmp_path / "stats.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [COLUMNS, *([str(value) for value in row] for row in ROWS)]


def test_parquet_has_the_same_table(tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    _write(tmp_path / "stats.parquet", spec, frame, labels)
    table = parquet.read_table(tmp_path / "stats.parquet")
    assert [str(field.type) for field in table.schema] == ["int64", "double", "string", *3 * ["double"]]
    expected = [dict(zip(COLUMNS, (value if value != "" else None for value in row), strict=True)) for row in ROWS]
    assert table.to_pylist() == expected


def test_a_crash_leaves_the_rows_of_a_parquet_file(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    sink = open_stats(tmp_path / "stats.parquet", spec)
    sink.write(frame, labels, None)
    assert (tmp_path / "stats.part.csv").read_text().splitlines()[1] == "7,0.28,,0.5,0.25,0.25"
    sink.close()


def test_without_frames_there_is_no_file(tmp_path: Path, spec: ModelSpec) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    for suffix in (".csv", ".parquet"):
        open_stats(tmp_path / f"stats{suffix}", spec).close()
    assert not list(tmp_path.iterdir())


def test_a_table_is_not_replaced(tmp_path: Path, spec: ModelSpec) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    for suffix in (".csv", ".parquet"):
        path = tmp_path / f"stats{suffix}"
        path.write_text("mine")
        with pytest.raises(OutputExists, match="--overwrite"):
            open_stats(path, spec)
        assert path.read_text() == "mine"


def test_a_class_may_have_the_name_of_a_column(tmp_path: Path, frame: Frame, labels: np.ndarray) -> None:
    spec = ModelSpec("odd", ("name", "Car", "Sky"), 3 * ((0, 0, 0),), (64, 64))
    _write(tmp_path / "stats.csv", spec, frame, labels)
    assert (tmp_path / "stats.csv").read_text().startswith("index,pts_s,name,class name,Car,Sky\n")


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(MissingExtra, match=r"rtseg\[parquet\]"):
        open_stats(tmp_path / "stats.parquet", spec)
    assert not list(tmp_path.iterdir())


def test_regions_have_shares_of_their_own(tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray) -> None:
    height, width = labels.shape
    regions = Regions([parse_region(f"left=0,0,{width // 2},{height}")])
    for name in ("stats.jsonl", "stats.csv"):
        sink = open_stats(tmp_path / name, spec, regions=regions)
        sink.write(frame, labels, None)
        sink.close()
    left = frame_shares(labels[:, : width // 2], len(spec.classes))
    line = json.loads((tmp_path / "stats.jsonl").read_text())
    assert list(line["regions"]["left"].values()) == left
    (row,) = csv.DictReader((tmp_path / "stats.csv").read_text().splitlines())
    assert [float(row[f"left/{name}"]) for name in spec.classes] == left
