"""Events of divided videos are those of one run over the whole of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.batch_options import options

from rtseg.app.options import StreamOptions
from rtseg.app.stream import StreamRun
from rtseg.batch.events import find_events
from rtseg.batch.manifest import load_pyarrow
from rtseg.batch.options import BatchOptions
from rtseg.batch.run import BatchRun
from rtseg.errors import OptionError
from rtseg.events.options import EventOptions
from rtseg.events.rule import parse_rules

ROI = ("lower=0,20%,100%,80%",)
RULES = (
    "one > 91.9%",
    "long: three < 8% for 1s until 8.1",
    "two >= 1 object of 5px in lower cooldown 1s",
    "never: one > 99%",
)


def run_batch(clip: Path, model: Path, output: Path, rules: tuple[str, ...] = RULES, **more: Any) -> BatchRun:
    settings = options(clip, output, model, write=("events",), events=rules, roi=ROI, **{"segment_s": 1.0} | more)
    with BatchRun(settings) as run:
        run.run()
        assert run.finish()
    return run


def lines(path: Path) -> list[dict[str, Any]]:
    """What a rule says of a video, without what differs from run to run."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in each.items() if k not in ("id", "time", "source", "reason")} for each in found]


@pytest.fixture(scope="module")
def divided(clip: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("divided")
    assert run_batch(clip, model, output).report.done == 6
    return output


def test_events_are_those_of_rtseg_stream(clip: Path, model: Path, divided: Path, tmp_path: Path) -> None:
    events = EventOptions(ROI, RULES, (str(tmp_path / "events.jsonl"),), snapshots=False)
    StreamRun(StreamOptions(str(clip), str(model), precision="fp32", events=events)).run()
    expected = lines(tmp_path / "events.jsonl")
    assert lines(divided / "events.jsonl") == expected
    begun = {line["rule"] for line in expected}
    assert begun == {"one", "long", "two-in-lower"}
    assert any(line.get("duration_s", 0) > 1.0 for line in expected)  # longer than a segment


def test_each_event_is_one_row_and_its_id_joins_start_and_end(divided: Path) -> None:
    _, parquet = load_pyarrow()
    rows = parquet.read_table(divided / "events.parquet").to_pylist()
    found = [json.loads(line) for line in (divided / "events.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == len(found) // 2
    for row in rows:
        start, end = (line for line in found if line["id"] == row["id"])
        assert (row["start_s"], row["frame"]) == (pytest.approx(start["at_s"], abs=1e-4), start["index"])
        assert row["end_s"] - row["start_s"] == pytest.approx(row["duration_s"])
        assert row["reason"] == end.get("reason", "")
    page = (divided / "summary.html").read_text()
    assert "<h2>Events</h2>" in page
    assert "until 8.1" in page


def test_other_thresholds_need_no_new_labels_and_other_measures_do(clip: Path, model: Path, divided: Path) -> None:
    before = (divided / "events.jsonl").read_bytes()
    changed = tuple(rule.replace("91.9%", "90% cooldown 1s") for rule in RULES)
    assert run_batch(clip, model, divided, changed).report.skipped == 6
    assert (divided / "events.jsonl").read_bytes() != before
    with BatchRun(options(clip, divided, model, segment_s=1.0, write=("events",), events=RULES[:1], roi=ROI)) as run:
        assert run.plan.changed == {"the options have changed": 6}
    assert run_batch(clip, model, divided).report.skipped == 6
    assert (divided / "events.jsonl").read_bytes() == before


def values(*rows: float | None, start: int = 0) -> Any:
    frames = range(start, start + len(rows))
    return [*frames], [float(frame) for frame in frames], {"a %": [*rows]}


def test_a_segment_without_results_ends_an_event() -> None:
    segments: Iterator[Any] = iter((values(9.0, 9.0), None, values(9.0, None, 1.0, 1.0, start=4)))
    found = [*find_events(parse_rules(["a > 5%"]), "v", segments)]
    assert [(event.kind, event.at_s, event.reason) for event in found] == [
        ("start", 0.0, ""),
        ("end", 1.0, "segment 1 could not be labelled"),
        ("start", 4.0, ""),
        ("end", 6.0, ""),
    ]
    assert found[0].id == found[1].id != found[2].id


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"write": ("events",)}, "needs at least one --events"),
        ({"events": ("a > 1%",)}, "add it"),
        ({"write": ("events",), "events": ("a > 1% in gate",)}, "give --roi gate="),
        ({"write": ("events",), "events": ("a >",)}, "must be CLASS"),
        ({"roi": ("1,2,3",)}, "must be x,y,width,height"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(wrong: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=reason):
        BatchOptions((str(tmp_path),), str(tmp_path / "out"), **wrong)


def test_a_class_that_the_model_lacks_is_refused_before_anything_is_written(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="has no class 'four'"):
        run_batch(clip, model, tmp_path / "out", ("four > 1%",))
    assert not (tmp_path / "out").exists()
