"""One spelling of an address.

What is folded here are spellings of one address; the path, the case and the order of
what stays are never rewritten.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEFAULT_PORTS = {80, 443}

_TRACKING = re.compile(
    r"(?:utm_|at_|mc_|_hs)\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|xtor",
    re.IGNORECASE,
)
"""Parameters by which publishers count readers, and never name an item.

utm_ is Google Analytics', at_ and xtor are AT Internet's, mc_ is Mailchimp's, _hs is
HubSpot's; the others mark clicks in Facebook, Google, Bing, Yandex and Instagram.
"""

_FROM_FEED = re.compile(r"(?:ref|source|from)=(?:rss|feed|atom)", re.IGNORECASE)
"""A parameter that says that the reader came from a feed."""

_AMPERSAND = re.compile(r"&(?:amp;)+", re.IGNORECASE)
"""An ampersand that was escaped once, or again and again."""

_UNRESERVED = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986, section 2.3
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def unescaped(text: str) -> str:
    """Return a text with ``&`` for one that was escaped, however often."""
    return _AMPERSAND.sub("&", text)


def canonical_url(url: str) -> str:
    """Return one spelling of the address of a web page, for keys and not for links.

    Two addresses have the same one if they differ in nothing but: ``http`` and
    ``https``; ``www.``; the case of the host; the default port; parameters of tracking;
    the order of parameters with different names; ``&amp;`` in place of ``&``; an empty
    query, fragment or path; and characters that are escaped without need. Anything that
    may name another item is kept: the case of the path, a slash at its end, other
    parameters, and fragments.

    Args:
        url: An address. One that is not of ``http`` or ``https``, or cannot be split,
            is returned as it is, without blanks around it.
    """
    text = url.strip()
    plain = unescaped(text)
    try:
        parts = urlsplit(plain)
        host = _host(parts)
    except ValueError:  # no such port, or brackets that do not match
        return text
    if parts.scheme not in {"http", "https"} or not host:
        return text
    query = "&".join(_parameters(parts.query.split("&")))
    fragment = "" if parts.fragment.startswith("xtor=") else parts.fragment
    whole = "".join(
        (
            "https://",
            host,
            _decoded(parts.path) or "/",
            f"?{query}" if query else "",
            f"#{_decoded(fragment)}" if fragment else "",
        )
    )
    # What was left out may have stood before a blank.
    return whole if whole == whole.strip() else canonical_url(whole)


def _host(parts: SplitResult) -> str:
    """Return user, host and port as far as they matter."""
    user, at, _ = parts.netloc.rpartition("@")
    host = (parts.hostname or "").removeprefix("www.")
    if ":" in host:
        host = f"[{host}]"
    if host and parts.port is not None and parts.port not in _DEFAULT_PORTS:
        host = f"{host}:{parts.port}"
    return f"{user}{at}{host}" if host else ""


def _parameters(parameters: Iterable[str]) -> list[str]:
    """Return the parameters that may name an item, ordered by their names.

    The order of parameters with one name may have a meaning, and is kept.
    """
    kept = []
    for parameter in map(_decoded, parameters):
        name, _, _ = parameter.partition("=")
        if parameter and not (
            _TRACKING.fullmatch(name) or _FROM_FEED.fullmatch(parameter)
        ):
            kept.append((name, parameter))
    return [parameter for _, parameter in sorted(kept, key=lambda pair: pair[0])]


def _decoded(text: str) -> str:
    """Decode what is escaped without need; the other escapes get capital letters."""
    return _ESCAPES.sub(_decode, text)


def _decode(escapes: re.Match[str]) -> str:
    raw = bytes.fromhex(escapes.group().replace("%", ""))
    try:
        characters = raw.decode()
    except UnicodeDecodeError:
        return escapes.group().upper()
    return "".join(
        character
        if character in _UNRESERVED or (character > "\x7f" and character.isprintable())
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in characters
    )
