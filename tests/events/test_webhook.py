from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest
from helpers.web_receiver import WAIT_S, receiver

from rtseg.errors import OptionError
from rtseg.events.event import Event
from rtseg.events.outbox import SendFailed
from rtseg.events.webhook import Webhook, read_token

EVENT = Event("start", "gate", "2026-01-02T03:04:05.678+00:00", rule="car", value=2.5, unit="%", snapshot=b"\xff\xd8")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_event_is_posted_as_json_with_its_snapshot_in_base64_and_the_token() -> None:
    with receiver() as server:
        Webhook(f"{server.url}hook?x=1", "word").send(EVENT)
    ((path, headers, body),) = server.requests
    assert path == "/hook?x=1"
    assert headers["Authorization"] == "Bearer word"
    assert headers["Content-Type"] == "application/json"
    assert base64.b64decode(body.pop("snapshot")) == b"\xff\xd8"
    assert body == {**EVENT.to_json(), "snapshot_type": "image/jpeg"}


@pytest.mark.parametrize(("status", "final"), [(500, False), (503, False), (429, False), (408, False), (404, True)])
def test_some_answers_are_worth_another_try(status: int, final: bool) -> None:
    with receiver([status]) as server, pytest.raises(SendFailed, match=f"answers {status}") as caught:
        Webhook(server.url).send(EVENT)
    assert caught.value.final is final


def test_a_redirect_is_not_followed() -> None:
    with receiver() as other, receiver([307], {"Location": other.url}) as server:
        with pytest.raises(SendFailed, match=r"redirects .*give the final address") as caught:
            Webhook(server.url, "word").send(EVENT)
        assert caught.value.final
        assert other.requests == []


def test_a_server_that_is_away_is_worth_another_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SendFailed, match="Connection refused") as caught:
        Webhook(f"http://127.0.0.1:{port}/").send(EVENT)
    assert not caught.value.final


def test_abort_ends_the_wait_for_an_answer(silent_port: int) -> None:
    webhook, failed = Webhook(f"http://127.0.0.1:{silent_port}/"), Flag()

    def send() -> None:
        with pytest.raises(SendFailed):
            webhook.send(EVENT)
        failed.set()

    thread = Thread(target=send, daemon=True)
    thread.start()
    webhook.abort()
    while not failed.wait(0.05):
        webhook.abort()
        assert thread.is_alive() or failed.is_set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_messages_show_neither_the_path_nor_a_password() -> None:
    assert Webhook("https://hooks.example/services/T0/SECRET").name == "webhook https://hooks.example/***"
    with pytest.raises(OptionError, match="--events-token") as caught:
        Webhook("https://user:SECRET@hooks.example/")
    assert "SECRET" not in str(caught.value)


def test_sending_in_the_clear_to_another_machine_is_noted() -> None:
    assert "sends the token and the images in the clear" in Webhook("http://camera.example/x", "word").notice
    assert Webhook("https://camera.example/x", "word").notice == ""
    assert Webhook("http://127.0.0.1/x", "word").notice == ""


class TestToken:
    def test_it_comes_from_a_file_or_else_from_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RTSEG_EVENTS_TOKEN", "of-the-environment")
        (tmp_path / "token").write_text("of-the-file\n")
        assert read_token(tmp_path / "token") == "of-the-file"
        assert read_token(None) == "of-the-environment"

    @pytest.mark.parametrize(
        ("content", "message"), [("", "is empty"), ("two words", "one word"), ("a\nb", "one word")]
    )
    def test_another_content_is_refused_without_showing_it(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "token").write_text(content)
        with pytest.raises(OptionError, match=message) as caught:
            read_token(tmp_path / "token")
        assert "words" not in str(caught.value)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"cannot be read .No such file or directory"):
            read_token(tmp_path / "token")
