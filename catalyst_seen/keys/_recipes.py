"""Recipes: how the key of an item is made of what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._address import canonical_url
from ._digest import collapsed, digest

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

_NAMES: tuple[RecipeName, ...] = ("guid", "link", "strip_fragment")


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


def named(fields: Fields, recipe: Recipe) -> tuple[str, str]:
    """Return what gives the key, and its text."""
    name = recipe_name(recipe)
    guid = fields.guid.strip()
    order: tuple[str, ...] = ("guid", "link")
    if not isinstance(recipe, str):
        text = _called(recipe, fields)
        if text:
            return name, text
    elif name == "link":
        order = ("link", "guid")
    elif name == "strip_fragment" and (text := guid.partition("#")[0].strip()):
        return name, text
    for source in order:
        text = guid if source == "guid" else canonical_url(fields.link)
        if text:
            return source, text
    return "digest", digest(
        collapsed(fields.title),
        collapsed(fields.content),
        [*map(collapsed, fields.enclosures)],
        collapsed(fields.date),
    )


def _called(recipe: Callable[[Fields], str], fields: Fields) -> str:
    text = recipe(fields)
    if not isinstance(text, str):
        raise TypeError(
            f"the recipe {recipe_name(recipe)!r} must return a str, not"
            f" {type(text).__name__}"
        )
    return text.strip()
