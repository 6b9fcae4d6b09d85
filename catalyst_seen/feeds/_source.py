"""``Feed``: a source of listings, and how to ask it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from catalyst_seen import ConfigurationError, Duration

from .._validation import seconds
from ..keys import storable
from ._addresses import is_web, origin, shown, without_sign_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._listings import First
    from ..keys import Recipe

_OLD_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Feed:
    """A source of listings: an address of the web, or a file.

    User, password, headers, and secrets of the address are sent to the server of that
    address only, and are never shown or stored.

    Attributes:
        url: An address of ``http`` or ``https``, perhaps with user and password; a
            path; or an address of ``file``.
        name: The namespace of its items in the store. The default is the address
            without user, password and values such as ``token=``; for a file it is the
            absolute path. A name of your own stays when the address changes.
        headers: Headers of each request to it, before those of the poller.
        auth: User and password, in place of those in the address.
        every: The time between two polls; the default is the poller's.
        recipe: How the keys of its items are made; see ``catalyst_seen.keys``.
        formerly: Recipes by which they were made before.
        first: What happens to the items of its first listing, as in ``FeedRules``; the
            default is the store's.
    """

    url: str
    name: str | None = field(default=None, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True, hash=False)
    auth: tuple[str, str] | None = field(default=None, kw_only=True)
    every: Duration | None = field(default=None, kw_only=True)
    recipe: Recipe = field(default="guid", kw_only=True)
    formerly: Sequence[Recipe] = field(default=(), kw_only=True, hash=False)
    first: First | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check what can be checked without a request.

        Raises:
            ConfigurationError: The address names nothing that can be read, or a header
                cannot be sent.
        """
        object.__setattr__(self, "url", self.url.strip())
        _check_address(self.url)
        for name, value in self.headers.items():
            if not (name.isascii() and name and value.isprintable()):
                raise ConfigurationError(
                    "headers",
                    f"{name!r} or its value has characters that no header has",
                )
        if self.every is not None:
            seconds(self.every, "every")

    def __repr__(self) -> str:
        return f"Feed({self.shown!r}, name={self.namespace!r})"

    @property
    def is_file(self) -> bool:
        """Is it a file, and not an address of the web?"""
        return not is_web(self.url)

    @property
    def path(self) -> Path:
        """The file, if it is one."""
        if self.url[:5].lower() == "file:":
            return Path(url2pathname(urlsplit(self.url).path))
        return Path(self.url).expanduser()

    @property
    def address(self) -> str:
        """The address for requests: user and password go into a header."""
        return without_sign_in(self.url)

    @property
    def shown(self) -> str:
        """The address for people, files and messages, without secrets."""
        return str(self.path.absolute()) if self.is_file else shown(self.url)

    @property
    def mark(self) -> str:
        """A digest of an address that is not shown whole; empty for any other."""
        if self.is_file or self.shown == self.address:
            return ""
        return hashlib.sha256(self.address.encode()).hexdigest()[:16]

    @property
    def namespace(self) -> str:
        """The namespace of its items."""
        return storable(self.name or self.shown)


def former_namespace(feed: Feed) -> str | None:
    """Return where the feed poller of the examples kept the items until now.

    Its namespace was the address with all its secrets, and a digest of one with more
    than 256 bytes; ``None`` if it was the same as today.
    """
    if feed.name is not None:
        return None
    text = feed.shown if feed.is_file else feed.url
    encoded = text.encode(errors="surrogatepass")
    if len(encoded) > _OLD_LIMIT:
        text = f"sha256:{hashlib.sha256(encoded).hexdigest()}"
    return None if text == feed.namespace else text


def _check_address(url: str) -> None:
    """Raise ``ConfigurationError`` for an address that cannot be read."""
    if not url or "\0" in url:
        raise ConfigurationError("url", "it must be an address of the web or a path")
    scheme, mark, _ = url.partition("://")
    if is_web(url):
        try:
            origin(url)
        except ValueError:
            raise ConfigurationError(
                "url",
                "it is no address of the web: its host or port cannot be read."
                " Characters such as / or # in a password have to be escaped",
            ) from None
    elif mark and scheme.isalnum() and scheme.lower() != "file":
        raise ConfigurationError(
            "url",
            f"{shown(url)!r} must be an address of http, https or file, or a path",
        )


def as_feed(source: Feed | str) -> Feed:
    """Return a source as a ``Feed``."""
    return source if isinstance(source, Feed) else Feed(source)
