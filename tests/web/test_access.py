"""Who is let in, and who is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from helpers.pages import TIMEOUT_S, Viewer
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rtseg.errors import OptionError
from rtseg.web.access import read_token
from rtseg.web.options import PageOptions
from rtseg.web.server import PageServer

TOKEN = "correct-horse-battery"


@pytest.fixture
def locked(start_page: Callable[..., PageServer], tmp_path: Path) -> str:
    """The address of a page that demands ``TOKEN``."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nsecond line\n")
    return start_page(token_file=path).address


def get(address: str, path: str = "api/status", **headers: str) -> httpx.Response:
    return httpx.get(address + path, headers=headers, timeout=TIMEOUT_S)


def test_without_a_token_only_the_login_page_answers(locked: str) -> None:
    assert get(locked).status_code == 401
    assert get(locked, "", Accept="text/html").headers["location"] == "/login"
    assert get(locked, "login").status_code == 200
    assert get(locked, "static/js/main.js").status_code == 200
    with pytest.raises(InvalidStatus, match="403"), Viewer(locked):
        pass


def test_the_token_lets_in_as_a_header_or_as_a_cookie_that_scripts_cannot_read(locked: str) -> None:
    assert get(locked, Authorization=f"Bearer {TOKEN}").status_code == 200
    with httpx.Client(base_url=locked, timeout=TIMEOUT_S) as client:
        answer = client.post("/api/login", json={"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        assert client.get("/api/status").status_code == 200
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    with Viewer(locked, "0", additional_headers={"Authorization": f"Bearer {TOKEN}"}) as viewer:
        assert viewer.frame().is_key


def test_a_thousand_wrong_tokens_are_answered_and_then_none_is_tried(locked: str) -> None:
    with httpx.Client(base_url=locked, timeout=TIMEOUT_S) as client:
        codes = [client.post("/api/login", json={"token": f"guess {number}"}).status_code for number in range(1000)]
        right = client.post("/api/login", json={"token": TOKEN}).status_code
    assert codes == 10 * [401] + 990 * [429]
    assert right == 429


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"token": 3}', b'{"token": null}', b"[" * 10_000])
def test_a_malformed_login_is_refused(locked: str, body: bytes) -> None:
    assert httpx.post(f"{locked}api/login", content=body, timeout=TIMEOUT_S).status_code in (400, 401)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "a@localhost", ""])
def test_a_foreign_host_name_is_refused(page: str, host: str) -> None:
    assert get(page, Host=host).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8080", "192.168.0.7"])
def test_own_names_and_addresses_are_allowed(page: str, host: str) -> None:
    assert get(page, Host=host).status_code == 200


def test_another_name_must_be_allowed_by_an_option(start_page: Callable[..., PageServer]) -> None:
    assert get(start_page(allow_host=("cam.example",)).address, Host="cam.example").status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_websocket_of_another_page_is_refused(page: str, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), Viewer(page, origin=origin):
        pass


def test_a_websocket_of_the_page_itself_is_accepted(page: str) -> None:
    with Viewer(page, "0", origin=page.rstrip("/")) as viewer:
        assert viewer.frame().is_key


def test_a_post_of_another_page_is_refused(page: str) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = httpx.post(f"{page}api/login", json={"token": ""}, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "path", ["static/../page.py", "static/%2e%2e/page.py", "static//etc/passwd", "static/..%2fpage.py", "etc/passwd"]
)
def test_no_other_file_can_be_had(page: str, path: str) -> None:
    import http.client

    connection = http.client.HTTPConnection(page.split("/")[2], timeout=TIMEOUT_S)  # httpx would shorten the path
    connection.request("GET", f"/{path}")
    assert connection.getresponse().status == 404
    connection.close()


def test_the_page_may_run_only_its_own_scripts(page: str) -> None:
    answer = get(page, "", Accept="text/html")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_any_other_address_than_loopback_prints_a_token(start_page: Callable[..., PageServer]) -> None:
    server = start_page(host="0.0.0.0")
    port, token = server.address.rstrip("/").rpartition(":")[2], server.new_token
    assert token is not None
    assert len(token) == 32
    assert "plain HTTP" in server.notice
    assert get(f"http://127.0.0.1:{port}/").status_code == 401
    assert get(f"http://127.0.0.1:{port}/", Authorization=f"Bearer {token}").status_code == 200


def test_more_viewers_than_allowed_are_told_so(start_page: Callable[..., PageServer]) -> None:
    address = start_page(max_clients=1).address
    with Viewer(address, "0") as first:
        first.frame()
        with pytest.raises(ConnectionClosed, match="too many viewers"), Viewer(address) as second:
            second.until_closed()


def test_a_token_file_that_is_of_no_use_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("secret\n")
    with pytest.raises(OptionError, match="at least 16 characters"):
        read_token(short)
    with pytest.raises(OptionError, match="cannot be read"):
        read_token(tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"port": 70000}, "--port"),
        ({"max_clients": 0}, "--max-clients"),
        ({"max_side": 1}, "--max-side"),
        ({"tls_cert": Path("a")}, "--tls-key"),
    ],
)
def test_an_option_out_of_range_is_named(values: dict[str, object], match: str) -> None:
    with pytest.raises(OptionError, match=match):
        PageOptions(**values)  # type: ignore[arg-type]
