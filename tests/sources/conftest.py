from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.clips import Server, write_clip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A local server for the files in ``tmp_path``."""
    with Server(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="server")
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """``write_clip`` with paths in ``tmp_path``: ``make_clip("a.mp4", [0, 1, 5])``."""

    def make(name: str, *args: object, **kwargs: object) -> Path:
        return write_clip(tmp_path / name, *args, **kwargs)  # type: ignore[arg-type]

    return make
