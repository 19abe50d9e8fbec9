"""Removes passwords from texts: URLs, names, messages and log records.

The libraries that read streams put the whole URL into their error messages. Everything that rtseg shows or writes
goes through ``redact`` first.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote, urlsplit

__all__ = ["RedactingFilter", "find_secrets", "redact"]

_HIDDEN = "***"
_SECRET_KEYS = (
    "pass|passwd|password|passphrase|passwort|pwd|pw|psw|secret|token|access_token|auth|authorization|"
    "api_?key|apikey|key|streamid|sig|signature|session|user|usr|username|login"
)
_SCHEME = r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)"
# The user part ends at the last @ before the path. It may contain dots, %40 and @, or be empty.
_USER_PART = re.compile(_SCHEME + r"[^\s/?#'\"<>]*@", re.IGNORECASE)
# "user:pa/ss@host": a password with an unescaped slash. Then the text after the colon is not a port number.
_SLASH_USER_PART = re.compile(_SCHEME + r"[^\s/?#@'\"<>\[\]]*:(?!\d*(?:[/?#\s'\"<>,;)]|$))[^\s'\"<>]*@", re.IGNORECASE)
_QUERY = re.compile(rf"(?P<key>(?:^|[/?&;\s])(?:{_SECRET_KEYS})=)[^&;\s#'\"<>]+", re.IGNORECASE)


def redact(text: object, *secrets: str) -> str:
    """Replace every password in ``text`` by ``***``.

    This removes the user part of each URL (``rtsp://user:word@host`` becomes ``rtsp://***@host``), the values of
    sensitive query keys (``pwd=``, ``token=``, ``user=`` ...), and all occurrences of ``secrets``.

    Args:
        text: a URL, a message, an exception, or anything else that ``str`` accepts.
        secrets: known secrets, as ``find_secrets`` returns them for a URL.
    """
    plain = str(text)
    # Longest first: one secret may be part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        plain = plain.replace(secret, _HIDDEN)
    plain = _USER_PART.sub(rf"\g<scheme>{_HIDDEN}@", plain)
    plain = _SLASH_USER_PART.sub(rf"\g<scheme>{_HIDDEN}@", plain)
    return _QUERY.sub(rf"\g<key>{_HIDDEN}", plain)


def find_secrets(url: str) -> tuple[str, ...]:
    """The parts of ``url`` that must not be shown: user part and password, as written and percent-decoded.

    Single letters are left out: removing every "a" from a message would hide nothing and make it unreadable.
    """
    authority = urlsplit(url).netloc
    if "@" not in authority:
        return ()
    user_part = authority.rpartition("@")[0]
    password = user_part.partition(":")[2]
    words = {user_part, unquote(user_part), password, unquote(password)}
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
