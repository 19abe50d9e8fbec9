from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from helpers.pages import TIMEOUT_S, Viewer

from rtseg.app.cameras import load_cameras
from rtseg.app.options import StreamOptions
from rtseg.web import cameras_file
from rtseg.web.options import PageOptions
from rtseg.web.server import PageServer


class ServedFile:
    """A page whose cameras stand in a file."""

    def __init__(self, path: Path, options: StreamOptions, images: Path) -> None:
        self._path, self._images = path, images
        self.said: list[str] = []
        self.write(gate="", yard="")
        given = {"model", "backend", "device", "propagate"}
        load = lambda: load_cameras(path, replace(options, source=None), given)  # noqa: E731
        self.server = PageServer(load(), PageOptions(port=0), (path, load), self.said.append)

    def write(self, **cameras: str) -> None:
        """Cameras by name, with further lines of each."""
        tables = (f"[camera.{name}]\nsource = '{self._images}'\nloop = true\n{more}" for name, more in cameras.items())
        self._path.write_text("\n".join(tables))

    def status(self) -> dict[str, dict[str, Any]]:
        sources = httpx.get(f"{self.server.address}api/status", timeout=TIMEOUT_S).json()["sources"]
        return {source["id"]: source for source in sources}

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + TIMEOUT_S
        while not is_so():
            assert time.monotonic() < until_s, (self.said, self.status())
            time.sleep(0.05)


@pytest.fixture
def served(
    tmp_path: Path, endless: StreamOptions, images: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServedFile]:
    monkeypatch.setattr(cameras_file, "_LOOK_EVERY_S", 0.1)
    served = ServedFile(tmp_path / "cameras.toml", endless, images)
    with served.server:
        thread = Thread(target=served.server.run)
        thread.start()
        served.wait_for(lambda: served.server._server.started)
        try:
            yield served
        finally:
            served.server.stop()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


def test_sources_begin_and_end_as_the_file_says_and_others_go_on(served: ServedFile) -> None:
    served.wait_for(lambda: served.status()["gate"]["frames"] > 0)
    with Viewer(served.server.address, "gate", "door") as viewer:
        (gate, yard) = viewer.text("hello")["sources"]
        before = served.status()["gate"]["frames"]
        served.write(gate="", door="stride = 2")
        served.wait_for(lambda: list(served.status()) == ["gate", "door"])
        assert served.status()["gate"]["frames"] >= before
        while len(found := viewer.text("hello")["sources"]) < 2:
            pass  # yard ends before door begins
        kept, door = found
        assert kept == gate
        assert door["number"] not in (gate["number"], yard["number"])
        viewer.send({"type": "watch", "sources": ["door"]})
        while viewer.frame().source != door["number"]:
            pass
    served.wait_for(lambda: served.status()["door"]["frames"] > 0)
    assert served.said[-1] == "cameras.toml has changed: gate, door"
    assert httpx.get(f"{served.server.address}snapshot/yard.jpg").status_code == 404
    assert httpx.get(f"{served.server.address}snapshot/door.jpg").status_code == 200
    assert 'source="yard"' not in httpx.get(f"{served.server.address}metrics").text


def test_a_file_with_a_fault_changes_nothing(served: ServedFile) -> None:
    served.write(gate="strid = 2")
    served.wait_for(lambda: bool(served.said))
    assert "cameras.toml:4: there is no option 'strid': did you mean stride?" in served.said[0]
    assert served.said[0].endswith("the sources stay as they are")
    assert list(served.status()) == ["gate", "yard"]


def test_a_camera_that_cannot_be_run_is_named_and_left_out(served: ServedFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    served.write(gate="", bad=f"output = '{tmp_path}/file/x.mp4'")
    served.wait_for(lambda: len(served.said) == 2)
    assert served.said[0].startswith("bad: ")
    served.wait_for(lambda: list(served.status()) == ["gate"])
