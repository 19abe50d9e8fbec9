from __future__ import annotations

import io
import logging

import pytest

from rtseg.errors import OptionError
from rtseg.system.redact import RedactingFilter, find_secrets, redact, redact_values, split_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:word@host:554/live", "rtsp://***@host:554/live"),
        ("rtsp://al.ice:s%40cret@host/live", "rtsp://***@host/live"),
        ("rtsp://:word@host", "rtsp://***@host"),
        ("udp://@:5004", "udp://@:5004"),
        ("rtsp://token@host", "rtsp://***@host"),
        ("rtsp://user:w@rd@host/a", "rtsp://***@host/a"),
        ("rtsp://user:wo/rd@host/a", "rtsp://***@host/a"),
        ("rtsp://user:wo?rd@host/a", "rtsp://***@host/a"),
        ("RTSP://User:Word@Host", "RTSP://***@Host"),
        ("http://host/a?x=1&pwd=word&y=2", "http://host/a?x=***&pwd=***&y=***"),
        ("http://host/a?user=me&Password=word", "http://host/a?user=***&Password=***"),
        ("rtsp://host/user=me&password=word&channel=1", "rtsp://host/user=***&password=***&channel=1"),
        ("http://host/a.mp4?sas=abc;x#frag, next", "http://host/a.mp4?sas=***&***#***, next"),
        ("srt://host:1?passphrase=word: no", "srt://host:1?passphrase=***: no"),
        ("passphrase=***word", "passphrase=***"),
        ("s3://bucket/a?abc: no", "s3://bucket/a?***: no"),
        ("rtmp://host/live2/word", "rtmp://host/live2/***"),
        ("rtmps:/host/live2/word", "rtmps:/host/live2/***"),
        ("rtmp://host/word", "rtmp://host/***"),
        ("https:/user:word@host/a.png", "https:/***@host/a.png"),
        ("rtsp://admin:ge#heim@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:ge[heim@host/s", "rtsp://***@host/s"),
        ("rtsp://admin:ge\uff20heim@host/s", "rtsp://***@host/s"),
        ("[Errno 5] i/o error: 'rtsp://u:p@h/a' (again 'http://x:y@z')", None),
    ],
)
def test_user_part_and_sensitive_values_are_removed(text: str, shown: str | None) -> None:
    if shown is None:
        shown = "[Errno 5] i/o error: 'rtsp://***@h/a' (again 'http://***@z')"
    assert redact(text) == shown
    assert redact(redact(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://host:554/live",
        "http://host/@me/video.mp4",
        "http://[::1]:8080/a@b",
        "mail me@host about a:b",
        "http://host:80, user@host",
        "/data/monkey=1.mp4",
        "no secrets here",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_removed_everywhere() -> None:
    secrets = find_secrets("rtsp://al.ice:s%40cret@host/live")
    assert redact("login of al.ice:s@cret failed, s%40cret is wrong", *secrets) == ("login of *** failed, *** is wrong")


def test_a_url_without_user_part_has_no_secrets() -> None:
    assert find_secrets("rtsp://host/a@b") == ()


def test_log_records_are_written_without_passwords() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("cannot open rtsp://u:hunter2@h")
    except ValueError:
        logger.exception("opening %s failed", "rtsp://u:hunter2@h")
    assert "hunter2" not in out.getvalue()
    assert "opening rtsp://***@h failed" in out.getvalue()
    assert "ValueError: cannot open rtsp://***@h" in out.getvalue()


@pytest.mark.parametrize("sign", ["\uff20", "\uff0f", "\u2100", "[", "]", "[x]", "#", "/", "?"])
def test_a_url_with_a_sign_that_must_be_escaped_is_refused_without_its_password(sign: str) -> None:
    url = f"rtsp://admin:ge{sign}heim@127.0.0.1:9/s"
    with pytest.raises(
        OptionError, match=r"rtsp://\*\*\*@127\.0\.0\.1:9/s is not a valid URL: write signs .* as %23"
    ) as caught:
        split_url(url)
    assert "heim" not in str(caught.value)
    assert caught.value.__context__ is None
    assert f"admin:ge{sign}heim" in find_secrets(url)


@pytest.mark.parametrize("url", ["http://[::1/x.mp4", "http://host:port/x.mp4", "http://host:99999/x.mp4"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match="is not a valid URL"):
        split_url(url)


def test_every_text_of_a_report_is_redacted() -> None:
    facts = {"source": "rtsp://a:b@h", "n": 1, "outputs": ("rtmp://h/app/key", None)}
    assert redact_values(facts) == {"source": "rtsp://***@h", "n": 1, "outputs": ["rtmp://h/app/***", None]}


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://user:S3CR3T word@host/live",
        "rtsp://user:S3CR3T'q\"@host/live",
        "rtsp:/user:S3CR3T@host/live",
        " rtsp://user:S3CR3T@host/live",
        "user:S3CR3T@host/live",
        "//user:S3CR3T@host/live",
        "camera:user:S3CR3T@host",
        "camera:rtsp://user:S3CR3T@host",
        "rtsp://u:S3CR3T@x/S3CR3T@host/live",
        "rtsp://u:a@S3CR3T/S3CR3T@host/live",
        "https://h/a?X-Amz-Signature=S3CR3T&X-Amz-Credential=S3CR3T;X-Goog-Signature=S3CR3T&policy=S3CR3T",
        "https://h/a?AWSAccessKeyId=S3CR3T&id_token=S3CR3T&jwt=S3CR3T&sid=S3CR3T&code=S3CR3T#token=S3CR3T",
        "https://h/tok=S3CR3T/a.m3u8",
        "Endpoint=sb://x/;SharedAccessSignature=S3CR3T",
        "x-api-key=S3CR3T",
        "camera_password=S3CR3T",
        "Authorization: Bearer S3CR3T",
        "{'Authorization': 'Basic S3CR3T'}",
        "rtmp://host/live/S3CR3T",
    ],
)
def test_no_form_of_a_secret_is_shown(text: str) -> None:
    assert "S3CR3T" not in redact(text)
    assert "S3CR3T" not in redact(f"cannot open {text}: Connection refused")


@pytest.mark.parametrize(
    "text",
    [
        "demo:10@960x540",
        "fringes:2@64x64: cannot read",
        "rtsp://host:554/live failed: ask me@home.org",
        "rtsp://10.0.0.1:554: cannot connect: 'x@y'",
        "udp://@:5004",
        "https://h/@user/x.mp4: 404",
        "pairs:images@2x,masks",
        "camvid:/data/me@home.org/x",
        "12:30 frame@home.mp4 is missing",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.timeout(60)  # with unbounded lengths these took minutes
@pytest.mark.parametrize("text", ["a." * 50_000, "a:" * 20_000, "rtsp://" + "a:" * 20_000, "camera:" * 5_000])
def test_the_time_grows_with_the_length_of_a_text_alone(text: str) -> None:
    assert redact(text) == text
