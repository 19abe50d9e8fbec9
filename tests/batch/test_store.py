from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.batch.store import DONE, Store
from rtseg.errors import SinkError
from rtseg.system.output_lock import OutputInUse

NAME = "segments/a-00/00001"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    made.create()
    return made


def finish(store: Store, key: str, text: str = "x") -> None:
    with store.claim(NAME) as part:
        (part / "shares.parquet").write_text(text)
        store.commit(part, NAME, {"key": key})


def test_results_get_their_name_when_they_are_complete(store: Store) -> None:
    with store.claim(NAME) as part:
        (part / "shares.parquet").write_text("half")
        assert store.facts(NAME) is None
        store.commit(part, NAME, {"key": "k"})
    assert store.facts(NAME) == {"key": "k", "files": {"shares.parquet": 4}}
    assert {path.name for path in (store.folder / NAME).iterdir()} == {"shares.parquet", DONE}


def test_an_interrupted_segment_leaves_nothing_for_the_next_one(store: Store) -> None:
    left = store.folder / f"{NAME}.part-0123"
    left.mkdir(parents=True)
    claim = store.claim(NAME)
    (claim.__enter__() / "shares.parquet").write_text("half")
    assert not claim.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert [*(store.folder / "segments/a-00").iterdir()] == []
    assert [*(store.folder / "locks").iterdir()] == []


def test_a_segment_is_held_by_one_process_at_a_time(store: Store) -> None:
    with store.claim(NAME), pytest.raises(OutputInUse), store.claim(NAME):
        pass
    finish(store, "k")


def test_new_results_replace_those_of_other_options(store: Store) -> None:
    finish(store, "old")
    finish(store, "new", "longer")
    assert store.facts(NAME) == {"key": "new", "files": {"shares.parquet": 6}}
    assert [path.name for path in (store.folder / "segments/a-00").iterdir()] == ["00001"]


@pytest.mark.parametrize("damage", ["cut", "removed", "done"])
def test_results_that_lost_something_count_as_missing(damage: str, store: Store) -> None:
    finish(store, "k")
    path = store.folder / NAME / (DONE if damage == "done" else "shares.parquet")
    path.unlink() if damage == "removed" else path.write_bytes(b"")
    assert store.facts(NAME) is None


def test_failures_are_counted_for_the_same_options(store: Store) -> None:
    assert [store.add_failure(NAME, key, "why") for key in ("a", "a", "b")] == [1, 2, 1]
    store.forget_failure(NAME)
    assert store.failure(NAME) is None


def test_nobody_is_alone_while_a_run_works(store: Store) -> None:
    with store.working(), store.working(), store.alone() as is_alone:
        assert not is_alone
    with store.alone() as is_alone:
        assert is_alone


def test_what_cannot_be_read_is_an_error_and_no_missing_result(store: Store) -> None:
    """Else a segment that fails would be tried for ever, as its failures would always count as the first."""
    (store.folder / "failed/a-00.00001.json").mkdir()
    with pytest.raises(SinkError, match=r"cannot read .*a-00\.00001\.json"):
        store.failure(NAME)
    with pytest.raises(SinkError, match="cannot read"):
        store.add_failure(NAME, "k", "why")
