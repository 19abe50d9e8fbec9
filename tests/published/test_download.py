from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from rtseg.errors import ModelError, OptionError
from rtseg.published.catalogue import PUBLISHED, PublishedModel, find_published
from rtseg.published.download import cache_folder, download, is_cached

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class BreakingServer(ThreadingHTTPServer):
    """Serves ``CONTENT``, and breaks off the first ``breaks`` answers after ``after`` bytes."""

    daemon_threads = True
    breaks = 0
    after = 100_000
    supports_ranges = True
    status = 0
    ranges: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: BreakingServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.ranges.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        start = int(asked[6:-1]) if asked and server.supports_ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if server.breaks:
            server.breaks -= 1
            body = body[: server.after]
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[BreakingServer]:
    with BreakingServer(("127.0.0.1", 0), Handler) as running:
        running.ranges = []
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def model(server: BreakingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedModel:
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "cache"))
    some = next(iter(PUBLISHED.values()))
    return replace(some, name="torchvision:test", url=server.url, sha256=SHA256, licence="for tests")


def test_the_weights_are_downloaded_once_and_the_licence_is_shown_before(
    server: BreakingServer, model: PublishedModel, tmp_path: Path
) -> None:
    lines: list[str] = []
    steps: list[tuple[int, int | None]] = []
    path = download(model, notify=lines.append, on_progress=lambda done, total: steps.append((done, total)))
    assert path == tmp_path / "cache" / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert lines == ["torchvision:test: licence: for tests"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert download(model, notify=lines.append) == path
    assert (len(server.ranges), len(lines)) == (1, 1)
    assert is_cached(model)


def test_a_download_that_breaks_off_is_continued_where_it_stopped(
    server: BreakingServer, model: PublishedModel
) -> None:
    server.breaks = 2
    assert download(model).read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=100000-", "bytes=200000-"]


def test_a_later_call_continues_what_an_earlier_one_left(server: BreakingServer, model: PublishedModel) -> None:
    part = cache_folder() / "weights.pth.download"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:250_000])
    assert download(model).read_bytes() == CONTENT
    assert server.ranges == ["bytes=250000-"]
    assert not part.exists()


@pytest.mark.parametrize("left", [CONTENT + b"more", CONTENT])
def test_a_part_that_is_no_part_of_the_file_is_thrown_away(
    server: BreakingServer, model: PublishedModel, left: bytes
) -> None:
    part = cache_folder() / "weights.pth.download"
    part.parent.mkdir()
    part.write_bytes(left)
    assert download(model).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_the_file_again(server: BreakingServer, model: PublishedModel) -> None:
    server.breaks, server.supports_ranges = 1, False
    assert download(model).read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=100000-"]


def test_a_server_that_sends_nothing_more_is_given_up(server: BreakingServer, model: PublishedModel) -> None:
    server.breaks, server.after = 1000, 0
    with pytest.raises(ModelError, match=r"cannot download http.*weights.pth .*: try again later, it continues where"):
        download(model)
    assert len(server.ranges) <= 6


def test_a_file_with_another_hash_is_removed(server: BreakingServer, model: PublishedModel) -> None:
    with pytest.raises(ModelError, match=rf"was removed: its SHA-256 {SHA256} is not the one published, 1234"):
        download(replace(model, sha256="1234" + SHA256[4:]))
    assert [path.name for path in cache_folder().iterdir() if path.suffix != ".part"] == []


def test_an_unknown_hash_is_recorded_at_the_first_use_and_checked_later(model: PublishedModel) -> None:
    lines: list[str] = []
    unknown = replace(model, sha256="")
    path = download(unknown, notify=lines.append)
    assert (
        lines[1] == f"torchvision:test: no SHA-256 is published; {SHA256} was recorded and will be checked from now on"
    )
    assert (cache_folder() / "weights.pth.sha256").read_text() == f"{SHA256}  weights.pth\n"
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(
        ModelError,
        match=r"not the one recorded in .*: download it again; if its publisher changed it, remove .*256 first",
    ):
        download(unknown)


def test_the_first_digits_of_a_hash_are_checked_too(model: PublishedModel) -> None:
    lines: list[str] = []
    download(replace(model, sha256=SHA256[:8]), notify=lines.append)
    assert f"only {SHA256[:8]} of its SHA-256 is published" in lines[1]
    with pytest.raises(ModelError, match="was removed"):
        download(replace(model, sha256="0" * 8))


def test_offline_uses_the_cache_folder_and_no_network(server: BreakingServer, model: PublishedModel) -> None:
    with pytest.raises(ModelError, match=r"torchvision:test is not in .*, and --offline forbids a download"):
        download(model, offline=True)
    assert server.ranges == []
    path = download(model)
    assert download(model, offline=True) == path


def test_an_error_of_the_server_or_no_network_is_one_line(server: BreakingServer, model: PublishedModel) -> None:
    server.status = 404
    with pytest.raises(ModelError, match=r"\(HTTP 404\): try again later"):
        download(model)
    unreachable = replace(model, url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(ModelError, match=r"cannot download http://127.0.0.1:9/weights.pth \(.*\): try") as raised:
        download(unreachable)
    assert "\n" not in str(raised.value)


class TestTheCatalogue:
    def test_every_entry_says_where_its_figures_come_from(self) -> None:
        for name, model in PUBLISHED.items():
            assert name == model.name
            assert 0.3 < model.miou < 0.9
            assert all((model.miou_source, model.measured_on, model.licence, model.trained_on))
            assert bool(model.sha256) == bool(model.hash_source)
            assert len(model.sha256) in (0, 8, 64)
            assert not model.sha256 or model.sha256[:8] in model.file_name, "torchvision names files by their hash"

    def test_the_url_is_that_of_torchvision(self) -> None:
        models = pytest.importorskip("torchvision").models
        for name, model in PUBLISHED.items():
            kind, _, rest = name.partition(":")
            if kind == "torchvision":
                weights = models.get_model_weights(rest).DEFAULT
                assert weights.url == model.url
                (figures,) = weights.meta["_metrics"].values()
                assert figures["miou"] / 100 == pytest.approx(model.miou)
                assert model.size is None or weights.meta["_file_size"] == pytest.approx(model.size / 2**20, abs=0.01)

    def test_names_are_found_without_their_kind_and_unknown_ones_are_refused(self) -> None:
        assert find_published("fcn_resnet50").name == "torchvision:fcn_resnet50"
        with pytest.raises(OptionError, match=r"no published model 'nothing' is known; known are torchvision:"):
            find_published("nothing")
