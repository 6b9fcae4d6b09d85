"""Keys of what sources list: an identity that stays when a document is broken.

A key has to be the same whichever way a document was parsed, and whatever a publisher
adds to a link. What is folded here are spellings of one address; the path, the case
and the order of what stays are never rewritten.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit
from xml.sax.saxutils import escape

from ._errors import InvalidKeyError
from ._validation import check_key

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Alias",
    "Fields",
    "Identity",
    "Recipe",
    "RecipeName",
    "canonical_url",
    "identity",
    "recipe_name",
    "storable",
]

_MAX_SPELLINGS = 8

Alias: TypeAlias = tuple[str, ...]
"""A canonical link, and then its witnesses.

Two items are the same under another id if their links are equal and any witness is.
"""

RecipeName: TypeAlias = Literal["guid", "link", "strip_fragment"]
"""A recipe of this module.

``guid`` takes the guid, else the link, else a digest; ``link`` takes the link first;
``strip_fragment`` is ``guid`` without what follows a ``#``, for publishers that count
editions there (``…#0`` becomes ``…#1``).
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """What an item says of itself, as text without markup of its document.

    Attributes:
        guid: Its id, as published.
        link: The address of its page, as published; it may be relative.
        title: The title.
        content: Summary and contents, joined by line breaks.
        enclosures: Addresses of its files.
        date: When it was published, as published.
    """

    guid: str = ""
    link: str = ""
    title: str = ""
    content: str = ""
    enclosures: Sequence[str] = ()
    date: str = ""


Recipe: TypeAlias = RecipeName | Callable[[Fields], str]
"""How a key is made: a name, or a function of your own with a name of its own.

A function returns the key, or ``""`` to leave it to the guid, the link and the digest.
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """What names an item.

    Attributes:
        key: The key.
        recipe: What gave it: ``"guid"``, ``"link"``, ``"digest"``, ``"strip_fragment"``
            or the name of the function.
        spellings: Other forms of the same key, as older programs and looser parsers
            stored them: at most eight, the likeliest first, without the key itself.
        alias: Says that an item under another id is the same; ``None`` without a link,
            or with nothing beside it.
    """

    key: str
    recipe: str
    spellings: tuple[str, ...]
    alias: Alias | None


_NAMES: tuple[RecipeName, ...] = ("guid", "link", "strip_fragment")

_EDITION = re.compile(r"#\d+\Z")
"""A fragment by which a publisher counts the editions of one page."""

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


def identity(
    *,
    guid: str = "",
    link: str = "",
    title: str = "",
    content: str = "",
    enclosures: Sequence[str] = (),
    date: str = "",
    recipe: Recipe = "guid",
    formerly: Sequence[Recipe] = (),
) -> Identity:
    """Return what names an item: its guid, else its link, else a digest of the rest.

    The texts are those of a document that was read strictly; see ``Fields``. A link is
    folded by ``canonical_url``; a guid is kept as it is, without blanks around it.

    Args:
        guid: Its id, as published.
        link: The address of its page, as published.
        title: The title.
        content: Summary and contents, joined by line breaks.
        enclosures: Addresses of its files.
        date: When it was published, as published.
        recipe: How the key is made.
        formerly: Recipes by which keys of this source were made before. Their keys are
            given as spellings, so that a change of the recipe repeats nothing. Keys of
            another recipe are given without being asked for only where they cannot
            name another item: the whole guid, if its fragment is stripped.

    Raises:
        TypeError: A recipe is neither a name nor a function, or returns no text.
        ValueError: No recipe has that name, or a function has no name of its own.
    """
    fields = Fields(
        guid=guid,
        link=link,
        title=title,
        content=content,
        enclosures=enclosures,
        date=date,
    )
    source, text = _named(fields, recipe)
    key = storable(text)
    forms: list[str] = []
    for former in formerly:
        its_source, its_text = _named(fields, former)
        forms += [its_text, *_forms(fields, its_source)]
    forms += _forms(fields, source)
    spellings = dict.fromkeys(map(storable, forms))
    spellings.pop(key, None)
    return Identity(key, source, tuple(spellings)[:_MAX_SPELLINGS], _alias(fields))


def recipe_name(recipe: Recipe) -> str:
    """Return the name of a recipe, to keep with the state of a source.

    Raises:
        TypeError: It is neither a name nor a function.
        ValueError: No recipe has that name, or the function has no name of its own.
    """
    if isinstance(recipe, str):
        if recipe not in _NAMES:
            raise ValueError(
                f"recipe must be one of {', '.join(_NAMES)}, or a function,"
                f" not {recipe!r}"
            )
        return recipe
    name = getattr(recipe, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(
            f"recipe must be one of {', '.join(_NAMES)}, or a function with a name,"
            f" not {type(recipe).__name__}"
        )
    if not name.isidentifier() or name in {*_NAMES, "digest"}:
        raise ValueError(
            f"the recipe {name!r} needs a name of its own, because the name is kept:"
            " define it by def"
        )
    return name


def _named(fields: Fields, recipe: Recipe) -> tuple[str, str]:
    """Return what gives the key, and its text."""
    name = recipe_name(recipe)
    guid = fields.guid.strip()
    by_guid, by_link = ("guid", guid), ("link", canonical_url(fields.link))
    candidates = [by_guid, by_link]
    if not isinstance(recipe, str):
        candidates.insert(0, (name, _called(recipe, fields)))
    elif name == "link":
        candidates = [by_link, by_guid]
    elif name == "strip_fragment":
        candidates.insert(0, (name, guid.partition("#")[0].strip()))
    for source, text in candidates:
        if text:
            return source, text
    return "digest", _digest(
        _collapsed(fields.title),
        _collapsed(fields.content),
        [*map(_collapsed, fields.enclosures)],
        _collapsed(fields.date),
    )


def _called(recipe: Callable[[Fields], str], fields: Fields) -> str:
    text = recipe(fields)
    if not isinstance(text, str):
        raise TypeError(
            f"the recipe {recipe_name(recipe)!r} must return a str, not"
            f" {type(text).__name__}"
        )
    return text.strip()


def _forms(fields: Fields, source: str) -> list[str]:
    """Return what older programs and looser parsers made of a text that gives a key."""
    if source in {"guid", "strip_fragment"}:
        return _written(fields.guid)
    if source == "link":
        return _written(fields.link)
    if source == "digest":  # of the example poller
        text = f"{fields.title}\n{fields.content}"
        return [_sha256(text)]
    return []


def _written(text: str) -> list[str]:
    """Return the forms of an id or a link.

    feedparser's loose parser, which reads documents that are not well-formed, leaves
    ids escaped, and reads ``&amp;amp;`` in links as ``&amp`` without its semicolon.
    """
    stripped = text.strip()
    plain = _AMPERSAND.sub("&", stripped)
    return [
        stripped,
        escape(stripped),
        escape(stripped, {'"': "&quot;", "'": "&apos;"}),
        plain,
        plain.replace("&", "&amp;"),
        plain.replace("&", "&amp"),
        plain.replace("&", "&amp;amp;"),
        _collapsed(stripped),
        text,
    ]


def _alias(fields: Fields) -> Alias | None:
    """Return the link without the number of an edition, and its witnesses."""
    link = _EDITION.sub("", canonical_url(fields.link))
    texts = {"title": _collapsed(fields.title), "date": _collapsed(fields.date)}
    witnesses = [
        f"{name}:{_digest(text)[7:39]}" for name, text in texts.items() if text
    ]
    return (storable(link), *witnesses) if link and witnesses else None


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _digest(*parts: str | list[str]) -> str:
    """Return a digest of texts; where one ends and the next begins matters."""
    return _sha256(json.dumps(parts))


def _sha256(text: str) -> str:
    encoded = text.encode(errors="surrogatepass")
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def storable(text: str) -> str:
    """Return a text that is a valid key: itself, else a digest of it.

    Texts of more than 2,048 bytes, blank ones, and those with a NUL, a lone surrogate
    or a line break at an end are no keys. The digest is ``sha256:`` and its hexadecimal
    form.
    """
    try:
        return check_key(text)
    except InvalidKeyError:
        return _sha256(text)


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
    unescaped = _AMPERSAND.sub("&", text)
    try:
        parts = urlsplit(unescaped)
        host = _host(parts)
    except ValueError:  # no such port, or brackets that do not match
        return text
    if parts.scheme not in {"http", "https"} or not host:
        return text
    query = "&".join(_parameters(parts.query.split("&")))
    fragment = "" if parts.fragment.startswith("xtor=") else parts.fragment
    return "".join(
        (
            "https://",
            host,
            _decoded(parts.path) or "/",
            f"?{query}" if query else "",
            f"#{_decoded(fragment)}" if fragment else "",
        )
    )


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
