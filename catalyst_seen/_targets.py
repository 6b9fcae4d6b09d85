"""Paths and URLs as people write them: what they name, and what a message may show.

A text with ``://`` is a URL, every other text is a path. A text that is neither a path
that anybody would choose nor a URL (``localhost:6379``) is refused: as a path it would
become a new and empty file, and every item would be new again.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

REDIS_SCHEMES = tuple(
    f"{server}{transport}"
    for server in ("redis", "valkey")
    for transport in ("", "s", "+unix", "+cluster", "s+cluster")
)
POSTGRES_SCHEMES = ("postgresql", "postgres")
_NAMES = {
    **dict.fromkeys(REDIS_SCHEMES, "prefix"),
    **dict.fromkeys(POSTGRES_SCHEMES, "schema"),
}
"""The setting that the name after the ``#`` of an address is, by the scheme."""
UNESCAPED = (
    "the URL has an @ after a #: in a user name or a password # is written %23, in the"
    " name of a prefix or a schema @ is written %40"
)
SCHEMES = ("sqlite", *REDIS_SCHEMES, *POSTGRES_SCHEMES)

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)
_NO_SLASH = re.compile(rf"({'|'.join(map(re.escape, SCHEMES))}):(.+)", re.DOTALL)
_ADDRESS = re.compile(r"(?:[^/]*@)?(?:\[[^]]*\]|[\w.-]+):(\d{1,5})(?:/.*)?", re.DOTALL)
_SIGN_IN = re.compile(r"[^/]*:[^/]*@[^/]+(?:/.*)?", re.DOTALL)
_SCHEME_BY_PORT = {"5432": "postgresql", "6432": "postgresql"}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/+", re.IGNORECASE)
_OPTIONS = re.compile(r"[?#]")
_NO_PORT = re.compile(r"^([^/\[:]*):(?!\d{1,5}(?:/|$))[^/]*")
_HIDDEN = "***"
_MAX_SERVER = 100


def split_url(text: str) -> tuple[str, str] | None:
    """Return the scheme of a URL in lower case, and the rest; ``None`` for a path."""
    match = _URL.fullmatch(text)
    return (match[1].lower(), match[2]) if match else None


def is_url(text: str) -> bool:
    """Is the text a URL, and not a path?"""
    return _URL.match(text) is not None


def address_settings(address: str) -> dict[str, str]:
    """Return the settings that an address with a URL stands for.

    An address is what the environment, a command line or the target of a store has: a
    URL, and perhaps a name after a ``#``. ``valkey://host#bots`` has the prefix
    ``bots``, and ``postgresql://host/db#bots`` the schema.

    Raises:
        ValueError: What follows the ``#`` is the end of a password.
    """
    from urllib.parse import unquote  # imports ipaddress; only URLs need it

    url, mark, name = address.partition("#")
    scheme = (split_url(address) or ("", ""))[0]
    setting = _NAMES.get(scheme)
    if not mark or setting is None:
        return {"url": address}
    if "@" in name:
        raise ValueError(UNESCAPED)
    return {"url": url, setting: unquote(name)}


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless it can be the path of a file.

    A file whose name looks like an address is named with its directory: ``./h:6379``.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(
            "path must be a str, a path, a URL or a SeenStoreConfig,"
            f" not {type(path).__name__}"
        )
    if not text.strip() or "\0" in text:
        raise ValueError(f"path must name a file, not {text!r}")
    if is_url(text):
        raise ValueError(
            f"path must not be a URL, as {redacted(text)} is; give it as url"
        )
    if suggestion := meant(text):
        raise ValueError(
            f"path must name a file, and {redacted(text)!r} looks like something else:"
            f" {suggestion} To name such a file, write ./ before it"
        )
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"path must be encodable, {text!r} is not") from None


def meant(path: str) -> str | None:
    """Return a sentence about a path that is probably none; ``None`` for a path."""
    if _DRIVE.match(path):
        return (
            None if os.name == "nt" else "it is a path of Windows, which this is not."
        )
    if match := _ONE_SLASH.fullmatch(path) or _NO_SLASH.fullmatch(path):
        scheme = match[1].lower()
        known = closest(scheme, SCHEMES) or scheme
        if known == "sqlite":
            name = match[2]
            return f"did you mean sqlite:///{name} (relative) or sqlite:////{name}?"
        return f"did you mean {redacted(f'{known}://{match[2]}')}?"
    if match := _ADDRESS.fullmatch(path):
        scheme = _SCHEME_BY_PORT.get(match[1], "valkey")
        return f"did you mean {redacted(f'{scheme}://{path}')}?"
    if _SIGN_IN.fullmatch(path):
        return f"did you mean {redacted(f'valkey://{path}')}?"
    return None


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path with ``~`` and ``~user`` replaced by the home directory.

    Raises:
        ValueError: There is no such user, or no home directory.
    """
    text = os.path.expanduser(path)  # noqa: PTH111 - Path drops "./"
    if text.startswith("~") and os.sep in text:
        raise ValueError(
            f"path begins with {text.partition(os.sep)[0]!r}, which has no home"
            " directory here; if it is the name of a directory, write ./ before it"
        )
    return text


def redacted(text: str) -> str:
    """Return a URL, or what may be one, for a message: without secrets, shortened.

    User, password and options are hidden; where their end is ambiguous, all is.
    """
    scheme = match[0] if (match := _SCHEME.match(text)) else ""
    rest = text[len(scheme) :]
    end = match.start() if (match := _OPTIONS.search(rest)) else len(rest)
    server, options = rest[:end], rest[end:]
    if "@" in options:
        return f"{scheme}{_HIDDEN}"
    if "@" in server:
        server = f"{_HIDDEN}@{server.rpartition('@')[2]}"
    elif scheme:  # perhaps a user and a password, and the host was forgotten
        server = _NO_PORT.sub(rf"\1:{_HIDDEN}", server)
    if len(server) > _MAX_SERVER:
        server = f"{server[:_MAX_SERVER]}..."
    return f"{scheme}{server}{options[:1] and options[0] + _HIDDEN}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a mistyped one probably means, if any."""
    from difflib import get_close_matches  # only a mistake needs it

    candidates = tuple(known)
    for attempt in (word, word.partition("+")[0]):
        if found := get_close_matches(attempt, candidates, n=1):
            return found[0]
    return None
