"""Clients that send or read slowly: each is given up after a time, and there are never many of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import httpx
import pytest
from helpers.pages import TIMEOUT_S

from rtseg.web.connections import BoundedListener
from rtseg.web.server import PageServer

SOON_S = 0.4
HEAD = "{} HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connections._REQUEST_S", "connections._LINGER_S", "connections._READ_S", "body._TIMEOUT_S"):
        monkeypatch.setattr(f"rtseg.web.{name}", SOON_S)


@pytest.fixture
def client(page: str) -> Iterator[socket.socket]:
    host, port = page.split("/")[2].split(":")
    with closing(socket.create_connection((host, int(port)), TIMEOUT_S)) as opened:
        yield opened


def drip(client: socket.socket, data: bytes = b"x") -> bytes:
    """Send the same bytes every now and then until the server ends the connection; return what it sent."""
    received, deadline_s = b"", time.monotonic() + TIMEOUT_S
    client.settimeout(SOON_S / 8)
    while time.monotonic() < deadline_s:
        try:
            client.sendall(data)
            with suppress(TimeoutError):
                while part := client.recv(65536):
                    received += part
                return received
        except ConnectionError:
            return received
    raise AssertionError("the connection was not ended")


def status_of(answer: bytes) -> int:
    return int(answer.split(maxsplit=2)[1])


@pytest.mark.parametrize(
    "length", ["Content-Length: 5000", "Transfer-Encoding: chunked"], ids=["of known length", "in chunks"]
)
@pytest.mark.parametrize("request_line", ["POST /api/predict", "PUT /api/sources/0/regions"])
def test_a_body_that_comes_byte_by_byte_is_not_waited_for(
    client: socket.socket, request_line: str, length: str
) -> None:
    client.sendall(f"{HEAD.format(request_line)}{length}\r\n\r\n".encode())
    assert status_of(drip(client, b"1\r\nx\r\n" if "chunked" in length else b"x")) == 408


@pytest.mark.parametrize("request_line", ["GET /healthz", "POST /nothing", "POST /static/icon.svg"])
def test_a_body_that_nobody_reads_does_not_hold_the_connection(client: socket.socket, request_line: str) -> None:
    client.sendall(f"{HEAD.format(request_line)}Content-Length: 100000000\r\n\r\n".encode())
    assert status_of(drip(client)) in (200, 404, 405, 503)


def test_a_second_request_whose_head_comes_byte_by_byte_is_not_waited_for(client: socket.socket) -> None:
    client.sendall(f"{HEAD.format('GET /login')}\r\n".encode())
    assert status_of(client.recv(65536)) == 200
    client.sendall(HEAD.format("GET /login").encode() + b"X: ")
    assert b"HTTP/1.1" not in drip(client)


def test_too_large_a_body_in_chunks_is_refused_and_the_connection_ends(client: socket.socket) -> None:
    client.sendall(f"{HEAD.format('POST /api/login')}Transfer-Encoding: chunked\r\n\r\n".encode())
    assert status_of(drip(client, b"5000\r\n" + 0x5000 * b"x" + b"\r\n")) == 413


def test_a_client_who_is_asked_to_wait_need_not_send_too_large_a_body(client: socket.socket) -> None:
    length = "Content-Length: 100000000\r\nExpect: 100-continue"
    client.sendall(f"{HEAD.format('POST /api/predict')}{length}\r\n\r\n".encode())
    assert status_of(client.recv(65536)) == 413


def test_a_client_who_reads_nothing_is_given_up(start_page: Callable[..., PageServer]) -> None:
    server = start_page()
    host, port = server.address.split("/")[2].split(":")
    connections = server._server.server_state.connections
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.setblocking(False)
        with suppress(BlockingIOError):
            for _ in range(2000):
                client.send(f"{HEAD.format('GET /static/css/page.css')}\r\n".encode())
        deadline_s = time.monotonic() + TIMEOUT_S
        has_come = False
        while connections or not has_come:
            has_come = has_come or bool(connections)
            assert time.monotonic() < deadline_s, "the connection was not ended"
            time.sleep(0.02)  # the set of connections tells nobody of changes


def test_no_more_uploads_are_read_at_a_time_than_allowed(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtseg.web.body._TIMEOUT_S", TIMEOUT_S)
    monkeypatch.setattr("rtseg.web.connections._REQUEST_S", TIMEOUT_S)
    monkeypatch.setattr("rtseg.web.prediction._MAX_WAITING", 2)
    host, port = page.split("/")[2].split(":")
    head = f"{HEAD.format('POST /api/predict')}Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n".encode()
    opened = [socket.create_connection((host, int(port)), TIMEOUT_S) for _ in range(3)]
    try:
        answers = []
        for each in opened:
            each.sendall(head)
            answers.append(status_of(each.recv(65536)))
    finally:
        for each in opened:
            each.close()
    assert answers == [100, 100, 503]
    assert httpx.get(f"{page}api/status", timeout=TIMEOUT_S).status_code == 200


def test_connections_are_dropped_while_too_many_are_open() -> None:
    with BoundedListener(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.most = 2
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        clients = [socket.create_connection(listener.getsockname(), TIMEOUT_S) for _ in range(4)]
        opened = [listener.accept()[0], listener.accept()[0]]
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        opened.pop().close()
        opened.append(listener.accept()[0])
        for each in (*clients, *opened):
            each.close()
