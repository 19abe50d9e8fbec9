"""Passwords out of texts: out of URLs, names, messages and log records.

The libraries that read streams put the whole URL into the texts of their errors. Whatever rtseg shows or
writes down goes through ``redact`` first.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote, urlsplit

__all__ = ["RedactingFilter", "redact", "secrets_of"]

_HIDDEN = "***"
_SECRET_KEYS = (
    "pass|passwd|password|passphrase|passwort|pwd|pw|psw|secret|token|access_token|auth|authorization|"
    "api_?key|apikey|key|streamid|sig|signature|session|user|usr|username|login"
)
_SCHEME = r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)"
# The user part ends at the last @ before the path: it may itself hold dots, %40, @, or be empty.
_USER_PART = re.compile(_SCHEME + r"[^\s/?#'\"<>]*@", re.IGNORECASE)
# "user:pa/ss@host": a password with a raw slash. What stands behind the colon is then no port number.
_ODD_USER_PART = re.compile(_SCHEME + r"[^\s/?#@'\"<>\[\]]*:(?!\d*(?:[/?#\s'\"<>,;)]|$))[^\s'\"<>]*@", re.IGNORECASE)
_QUERY = re.compile(rf"(?P<key>(?:^|[/?&;\s])(?:{_SECRET_KEYS})=)[^&;\s#'\"<>]+", re.IGNORECASE)


def redact(text: object, *secrets: str) -> str:
    """``text`` with every password in it replaced by ``***``.

    Taken out are the user part of each URL (``rtsp://user:word@host`` becomes ``rtsp://***@host``), the
    values of telling query keys (``pwd=``, ``token=``, ``user=`` ...), and ``secrets`` wherever they stand.

    Args:
        text: anything that ``str`` takes: a URL, a message, an exception.
        secrets: words known to be secret, as ``secrets_of`` finds them in a URL.
    """
    plain = str(text)
    # Longest first: a secret may be a part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        plain = plain.replace(secret, _HIDDEN)
    plain = _USER_PART.sub(rf"\g<scheme>{_HIDDEN}@", plain)
    plain = _ODD_USER_PART.sub(rf"\g<scheme>{_HIDDEN}@", plain)
    return _QUERY.sub(rf"\g<key>{_HIDDEN}", plain)


def secrets_of(url: str) -> tuple[str, ...]:
    """What must not be shown of ``url``: its user part and its password, as written and percent-decoded.

    A single letter is left out: taking every "a" out of a message hides nothing and spoils the message.
    """
    authority = urlsplit(url).netloc
    if "@" not in authority:
        return ()
    user_part = authority.rpartition("@")[0]
    password = user_part.partition(":")[2]
    words = {user_part, unquote(user_part), password, unquote(password)}
    return tuple(sorted(word for word in words if len(word) > 1))


class RedactingFilter(logging.Filter):
    """Put it on a logging handler: passwords leave each record before it is written.

    On a handler and not on a logger, because a logger's filter does not see the records of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the finished message and the traceback of ``record``; every record passes."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True
