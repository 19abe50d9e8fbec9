"""Removes secrets from texts: URLs, names, messages and log records; and splits URLs without showing them.

The libraries that read streams put the whole URL into their error messages. Everything that rtseg shows or writes
goes through ``redact`` first.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from rtseg.errors import OptionError

__all__ = ["RedactingFilter", "find_secrets", "redact", "redact_values", "split_url"]

_HIDDEN = "***"
_SECRET_KEYS = (
    "pass|passwd|password|passphrase|passwort|pwd|pw|psw|secret|token|access_token|auth|authorization|"
    "(?:x[_-])?api[_-]?key|key|streamid|sig|signature|session|sessionid|sid|user|usr|username|login|userpass|"
    "tok|jwt|id_token|refresh_token|credentials?|sharedaccess(?:signature|key)|hdnts|hdnea|[a-z_]+_(?:password|token|key)"
)
# A path object keeps only one of the two slashes. Then only the usual schemes are taken for a URL.
_SCHEME = (
    r"(?P<scheme>(?:[a-z0-9+.\-]{1,32}://|\b(?:https?|rtsps?|rtmp[a-z]*|s?ftps?|srt|tcp|udp|rtp|s3|gs|webdavs?):/))"
)
# All lengths are bounded: the texts come from files of others, and the time must grow with their length alone.
# A password may contain blanks and quotes, but "host:554 failed, ask me@home" has a port.
_ODD_USER_PART = r"[^\s/?#@'\"<>]{0,128}:(?!\d*(?:[\s'\"<>/?#,:;)]|$))[^/?#@\n]{0,2048}@"
_URL = re.compile(_SCHEME + rf"(?P<rest>(?:{_ODD_USER_PART})?[^\s'\"<>]*)", re.IGNORECASE)
# "user:word@host/live", as people type it without a scheme; not the size of "demo:10@960x540".
_NO_SCHEME = re.compile(
    r"(?<![@*])(?:camera:)?[\w.%+~-]{1,128}:(?!//)[^\s@/]{1,2048}@(?=(?!\d+x)[\w.-]+[:/])"
    r"|(?<=\bcamera:)[\w.%+~-]{1,128}:(?!//)[^\s@/]{1,2048}@(?!\d+x)",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"(?P<key>\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|digest|token)?\s*)[^\s'\",;]+", re.I
)
# The user part ends at the last @ before the path. It may contain dots, %40 and @, or be empty.
_USER_PART = re.compile(r"[^/?#]*@")
# "user:pa/ss@host": a password with an unescaped slash. Then the text after the colon is not a port number.
_SLASH_USER_PART = re.compile(r"[^/?#@\[\]]{0,128}:(?!\d*(?:[/?#,;)]|$)).*@", re.DOTALL)
# What is hidden already keeps the colon that ends the name of a source in a message.
_QUERY = re.compile(
    rf"(?P<key>(?:^|[/?&;,{{\s'\"])(?:{_SECRET_KEYS})=)(?!\*{{3}}[.,:;)]*(?:\s|$))[^&;\s#'\"<>]+", re.IGNORECASE
)
_ESCAPES = "write signs such as # / ? [ ] @ in a user name or password as %23 %2F %3F %5B %5D %40"


def redact(text: object, *secrets: str) -> str:
    """Replace every secret in ``text`` by ``***``.

    Hidden are, of each URL, the user part (``rtsp://user:word@host`` becomes ``rtsp://***@host``), the values of the
    query, the fragment, and the stream key that ends the path of an RTMP URL; elsewhere the values of sensitive keys
    (``pwd=``, ``token=``, ``user=`` ...); and all occurrences of ``secrets``.

    Args:
        text: a URL, a message, an exception, or anything else that ``str`` accepts.
        secrets: known secrets, as ``find_secrets`` returns them for a URL.
    """
    plain = str(text)
    # Longest first: one secret may be part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        plain = plain.replace(secret, _HIDDEN)
    plain = _NO_SCHEME.sub(f"{_HIDDEN}@", _URL.sub(_redact_url, plain))
    return _AUTHORIZATION.sub(rf"\g<key>{_HIDDEN}", _QUERY.sub(rf"\g<key>{_HIDDEN}", plain))


def redact_values(value: Any) -> Any:
    """Return a copy of JSON data (dicts, lists, texts, numbers) in which ``redact`` was applied to every text."""
    if isinstance(value, dict):
        return {redact_values(key): redact_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(each) for each in value]
    return redact(value) if isinstance(value, str) else value


def _redact_url(match: re.Match[str]) -> str:
    rest = match["rest"].rstrip(".,:;)")
    punctuation = match["rest"][len(rest) :]
    for user_part in (_USER_PART, _SLASH_USER_PART):
        found = user_part.match(rest)
        if found and found[0] not in ("@", f"{_HIDDEN}@"):  # udp://@:5004 has an empty one, which hides nothing
            # A password with both @ and / ends at a later @: rather hide a host than show half a password.
            end = max(found.end(), re.split("[?#]", rest)[0].rfind("@") + 1) if ":" in found[0] else found.end()
            rest = f"{_HIDDEN}@{rest[end:]}"
    before, mark, fragment = rest.partition("#")
    path, question, query = before.partition("?")
    if match["scheme"].lower().startswith("rtmp"):
        host, slash, name = path.partition("/")
        app, second, key = name.partition("/")
        path = host + slash + (f"{app}/{_HIDDEN}" if second and key else _HIDDEN if app else "")
    fields = (field.partition("=") for field in re.split("[&;]", query))
    shown = "&".join(f"{key}={_HIDDEN}" if equals else key and _HIDDEN for key, equals, _ in fields)
    return match["scheme"] + path + question + shown + mark + (fragment and _HIDDEN) + punctuation


def split_url(url: str) -> SplitResult:
    """Split a URL into its parts, like ``urllib.parse.urlsplit``, whose error would show the password.

    Raises:
        OptionError: the URL is malformed, or its user part contains signs that must be escaped.
    """
    parts = None
    with suppress(ValueError):
        checked = urlsplit(url)
        _ = checked.port  # raises an error where it is not a number of 0..65535
        parts = checked
    # Outside the handler, because the error of the library would be the context, with the password.
    if parts is None or (_SLASH_USER_PART.match(url.partition("://")[2]) and "@" not in parts.netloc):
        hint = _ESCAPES if "@" in url else "check the host, and that the port is a number of 0 to 65535"
        raise OptionError(f"{redact(url, *find_secrets(url))} is not a valid URL: {hint}")
    return parts


def find_secrets(url: str) -> tuple[str, ...]:
    """The parts of ``url`` that must not be shown: user part, password, and the stream key of an RTMP URL.

    Each is returned as written and percent-decoded.

    Single letters are left out: removing every "a" from a message would hide nothing and make it unreadable.
    """
    rest = url.partition("://")[2]
    match = _USER_PART.match(rest) or _SLASH_USER_PART.match(rest)
    user_part = match[0][:-1] if match else ""
    _, _, stream_key = rest.partition("/")[2].partition("/") if url.lower().startswith("rtmp") else ("", "", "")
    parts = (user_part, user_part.partition(":")[2], stream_key)
    words = {form for part in parts for form in (part, unquote(part))}
    return tuple(sorted(word for word in words if len(word) > 1))


class RedactingFilter(logging.Filter):
    """Removes passwords from log records before a handler writes them.

    Add it to a handler, not to a logger: the filter of a logger does not see the records of its child loggers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the formatted message and the traceback of ``record``. No record is filtered out."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True
