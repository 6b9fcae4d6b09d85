"""Addresses of the web: what a request needs, and what a person or a file may see."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

HIDDEN = "***"

_SIGN_IN = re.compile(r"^([a-z][a-z0-9+.-]*:)?//[^/?#]*@", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&;#])([^=&;#]+)=([^&;#]+)")
_SECRET = re.compile(
    r"(?:auth|authorization|bearer|credentials?|hmac|jwt|passwd|password"
    r"|pass(?:phrase)?|pwd|secret|session(?:id)?|sig|signature|token"
    r"|(?:^|[_.-]|access|api|auth|feed|id|pass|private|rss|secret|user)key(?:id)?"
    r"|(?:^|[_.-])(?:sid|sign|pw|hash|code))\Z",
    re.IGNORECASE,
)
"""How the names of parameters end whose values open a door."""

_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """The server that gets a request, and may see what belongs to it."""

    scheme: str
    host: str
    port: int

    def may_see_secrets_of(self, other: Origin) -> bool:
        """Is this the server ``other``, or the same over ``https``?"""
        return self == other or self.is_upgrade_of(other)

    def is_upgrade_of(self, other: Origin) -> bool:
        """Is this the server ``other`` over ``https``, each at its default port?"""
        return self == Origin("https", other.host, 443) and (
            (other.scheme, other.port) == ("http", 80)
        )

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"


def is_web(text: str) -> bool:
    """Is the text an address of ``http`` or ``https``, whatever else is wrong?"""
    return text[:8].lower().startswith(("http://", "https://"))


def origin(url: str) -> Origin:
    """Return the server of an address.

    Raises:
        ValueError: It names no host of ``http`` or ``https``; the text of the error has
            nothing of the address.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise ValueError("its host or port is malformed") from None
    if scheme not in _PORTS or not host:
        raise ValueError("it must begin with http:// or https://, and name a host")
    return Origin(scheme, host, port or _PORTS[scheme])


def without_sign_in(url: str) -> str:
    """Return an address without user and password; nothing else changes."""
    return _SIGN_IN.sub(r"\1//", url)


def shown(url: str) -> str:
    """Return an address that may be shown and stored: without secrets.

    User and password are removed. The values of parameters that open a door (``key``,
    ``token``, ``sig`` and the like) are hidden. An address without such parts is
    returned as it is.
    """
    return _PARAMETER.sub(_without_secret, without_sign_in(url))


def _without_secret(parameter: re.Match[str]) -> str:
    """Hide the value of a parameter that opens a door, however its name is written."""
    mark, name, _ = parameter.groups()
    plain = unquote(name).rstrip("[]")
    return f"{mark}{name}={HIDDEN}" if _SECRET.search(plain) else parameter[0]


def has_secrets(url: str) -> bool:
    """Has the address a part that must not be stored?"""
    return shown(url) != url


def joined(base: str, reference: str) -> str:
    """Return the address that a redirect names; user and password are removed.

    Raises:
        ValueError: It is no address of ``http`` or ``https``.
    """
    target = without_sign_in(urljoin(base, reference.strip()))
    origin(target)
    return target


def sign_in(url: str, auth: tuple[str, str] | None) -> str | None:
    """Return the header ``Authorization`` for user and password, if there are any.

    Args:
        url: The address, perhaps with both.
        auth: Both, given apart; they come first.
    """
    if auth is None:
        if not _SIGN_IN.match(url):
            return None
        user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
        auth = unquote(user), unquote(password)
    return f"Basic {b64encode(':'.join(auth).encode()).decode()}"
