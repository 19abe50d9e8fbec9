"""Input and output on an object store: in memory, and on a real S3 endpoint where moto is installed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

fsspec = pytest.importorskip("fsspec")

from rtseg.batch.options import BatchOptions  # noqa: E402
from rtseg.batch.remote_store import RemoteStore  # noqa: E402
from rtseg.batch.run import BatchRun  # noqa: E402
from rtseg.errors import OptionError, SinkError, SourceError, SourceNotFound  # noqa: E402

NAME = "segments/a-00/00001"


def commit(store: RemoteStore, key: str, text: str) -> None:
    with store.claim(NAME) as part:
        (part / "shares.parquet").write_text(text)
        store.commit(part, NAME, {"key": key})


@pytest.fixture
def store() -> RemoteStore:
    made = RemoteStore.open(f"memory://{uuid.uuid4().hex}")
    made.create()
    return made


def test_results_count_once_the_last_file_is_there(store: RemoteStore) -> None:
    assert store.facts(NAME) is None
    commit(store, "k", "x")
    assert store.facts(NAME) == {"key": "k", "files": {"shares.parquet": 1}}
    assert store.local(f"{NAME}/shares.parquet").read_text() == "x"


def test_results_of_other_options_are_replaced(store: RemoteStore) -> None:
    commit(store, "old", "x")
    commit(store, "new", "longer")
    assert store.facts(NAME) == {"key": "new", "files": {"shares.parquet": 6}}


def test_a_result_that_lost_a_file_counts_as_missing(store: RemoteStore) -> None:
    commit(store, "k", "x")
    store._system.rm_file(f"{store._root}/{NAME}/shares.parquet")
    assert store.facts(NAME) is None


def test_failures_are_counted_and_forgotten(store: RemoteStore) -> None:
    assert [store.add_failure(NAME, "k", "why") for _ in range(2)] == [1, 2]
    store.forget_failure(NAME)
    assert store.failure(NAME) is None


def test_a_store_that_does_not_answer_is_an_error_and_no_missing_result(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> bytes:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(store._system, "cat_file", fail)
    with pytest.raises(SinkError, match="cannot be used: Access Denied"):
        store.failure(NAME)


def test_an_unknown_scheme_is_refused(model: Path) -> None:
    with pytest.raises(OptionError, match="nonsense"):
        BatchRun(BatchOptions(("nonsense://a/*.mp4",), "out", str(model)))


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Options of fsspec for an S3 server on this machine."""
    server = pytest.importorskip("moto.server", reason="needs moto, flask and flask-cors")
    pytest.importorskip("s3fs", reason="needs s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    running.stop()


@pytest.mark.filterwarnings("ignore")
def test_s3_is_read_written_and_resumed(
    s3: dict[str, str], clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        **s3,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("library")
    system.put_file(str(clip), "library/videos/a.mp4")
    options = BatchOptions(
        ("s3://library/videos/*.mp4",), "s3://library/results", str(model), precision="fp32",
        write=("shares", "overlay", "events", "keyframes"), events=("one > 90%",), segment_s=2.0, workers=1,
    )  # fmt: skip
    with BatchRun(options) as run:
        assert run.run().done == 3
        assert run.finish()
    done = json.loads(system.cat_file(f"library/results/{run.plan.jobs[0].name}/done.json"))
    assert done["frames"] == 20
    with BatchRun(options) as run:
        assert (len(run.plan.done), len(run.plan.jobs)) == (3, 0)
    system.rm_file(f"library/results/{run.plan.done[1].name}/shares.parquet")
    with BatchRun(options) as run:
        assert len(run.plan.jobs) == 1
    assert system.exists(f"library/results/{run.plan.jobs[0].name}/keyframes/000020.jpg")
    assert b'"kind": "start"' in system.cat_file("library/results/events.jsonl")
    assert {"summary.html", "manifest.parquet", "batch.json", "events.parquet"} <= {
        path.rpartition("/")[2] for path in system.ls("library/results", detail=False)
    }
    assert len(system.glob("library/results/overlays/*.mp4")) == 1
    with pytest.raises(SourceNotFound):
        BatchRun(BatchOptions(("s3://library/none/*.mp4",), str(tmp_path / "out"), str(model)))
    with pytest.raises((SourceError, SinkError), match="cannot be"):
        BatchRun(BatchOptions((str(clip),), "s3://no-such-bucket/results", str(model)))
