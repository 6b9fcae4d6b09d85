"""The functions by which a caller describes the items of a listing."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from ._items import check_key_function, listed
from ._validation import check_key, check_note, truncated_repr
from .backends.listings import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_ITEMS = 50_000
"""Items of a listing."""

MAX_NOTES = 32 * 1024 * 1024
"""UTF-8 bytes of the notes of a listing, together."""

_DIGEST_BYTES = 12  # of 50,000 items, two differ by chance in one of 10**19 listings


class ItemFields(NamedTuple):
    """Reads what an observation needs of an item; ``observe`` describes each function.

    An item without a function for its key is the key.
    """

    key: Callable[[Any], str] | None
    spellings: Callable[[Any], Iterable[str]] | None
    aliases: Callable[[Any], str | Sequence[str] | None] | None
    digest: Callable[[Any], str | None] | None
    note: Callable[[Any], str | None] | None

    def read(self, item: Any, position: int) -> Item:  # noqa: ANN401 - the user's
        """Return the item, checked; errors name its position."""
        where = f"of items[{position}]"
        key = check_key(item if self.key is None else self.key(item), f"key {where}")
        spellings: dict[str, None] = {}
        if self.spellings is not None:
            for form in listed(self.spellings(item), f"spellings {where}"):
                spellings[check_key(form, f"spelling {where}")] = None
            spellings.pop(key, None)
        return Item(
            key,
            tuple(spellings),
            None if self.aliases is None else _words(self.aliases(item), where),
            None if self.digest is None else _digest(self.digest(item), where),
            None if self.note is None else check_note(self.note(item), f"note {where}"),
        )


@dataclass(slots=True)
class Listing:
    """The items that a caller gave, and what an observation needs of each.

    Attributes:
        given: The caller's items.
        items: The distinct ones, in order, by their keys.
        positions: The position of each of them in ``given``.
    """

    given: list[Any]
    fields: ItemFields
    items: dict[str, Item] = field(default_factory=dict)
    positions: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, given: Iterable[Any], fields: ItemFields) -> Listing:
        """Check the functions, and the number of items."""
        check_key_function(fields.key)
        listing = cls(listed(given, "items"), fields)
        if len(listing.given) > MAX_ITEMS:
            raise ValueError(
                f"items must be at most {MAX_ITEMS:,}, not {len(listing.given):,}:"
                " observe the newest ones"
            )
        return listing

    def read(self, first: int, chunk: list[Any]) -> None:
        """Read items, of which the first one has this position."""
        for position, one in enumerate(chunk, first):
            item = self.fields.read(one, position)
            if item.key not in self.items:
                self.items[item.key] = item
                self.positions.append(position)

    def read_items(self) -> list[Item]:
        """Return the items that were read, if their notes are not too long."""
        notes = sum(len((item.note or "").encode()) for item in self.items.values())
        if notes > MAX_NOTES:
            raise ValueError(
                f"the notes of items must be at most {MAX_NOTES:,} bytes of UTF-8"
                f" together, not {notes:,}: shorten them"
            )
        return list(self.items.values())

    def at(self, numbers: Iterable[int]) -> list[Any]:
        """Return the caller's items of some numbers of distinct items."""
        return [self.given[self.positions[number]] for number in numbers]


def _words(given: str | Sequence[str] | None, where: str) -> str | None:
    """Return the texts of an alias as words that can be compared."""
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else listed(given, f"aliases {where}")
    words = [_digest(text, where) for text in texts]
    return " ".join(word for word in words if word is not None) or None


def _digest(text: str | None, where: str) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"digest {where} must be a str, not {truncated_repr(text)}")
    encoded = text.encode(errors="surrogatepass")
    return blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()
