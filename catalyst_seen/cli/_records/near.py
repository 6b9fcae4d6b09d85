"""Keys that a person may have meant, where the one that was named is not there."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from catalyst_seen.keys import canonical_url

from .._output import progress
from .._spoken import in_namespace, quoted
from .lookup import find_many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from catalyst_seen import AsyncSeenStore, Record

    from .._settings import Settings
    from .states import State

IN_NOTE = "its note contains that"
"""The reason of a key that is named by a word of its note, such as a title."""

_MOST = 5
"""Near keys that are shown."""

_EXAMINED = 100_000
"""Keys that are compared one by one; a million would take half a minute."""


class Near(NamedTuple):
    """A near key, and what it has in common with the one that was named."""

    record: Record
    reason: str

    def __str__(self) -> str:
        where = in_namespace(self.record.namespace)
        return f"{quoted(self.record.key)} {where} ({self.reason})"


async def tell_near(
    settings: Settings,
    store: AsyncSeenStore,
    text: str,
    namespace: str | None,
    *,
    is_glob: bool = False,
    state: State | None = None,
) -> None:
    """Say which keys are near to one, or to a glob, that is not there.

    With a state, only keys in that state are.
    """
    if settings.is_quiet:
        return
    likeness = _Likeness(text, namespace, is_glob=is_glob, state=state)
    tell(settings, *await _find(settings, store, likeness))


async def find_near(
    settings: Settings, store: AsyncSeenStore, text: str, namespace: str | None
) -> tuple[list[Near], int]:
    """Return the keys that are near to one, and how many were compared for that."""
    likeness = _Likeness(text, namespace, is_glob=False, state=None)
    return await _find(settings, store, likeness)


def tell(settings: Settings, found: list[Near], examined: int) -> None:
    """Say which keys are near."""
    for near in found:
        settings.say(f"near: {near}")
    if not found and examined == _EXAMINED:
        settings.say(f"nothing near among the first {_EXAMINED:,} keys; there are more")
    elif not found:
        settings.say("nothing near is there")


async def _find(
    settings: Settings, store: AsyncSeenStore, likeness: _Likeness
) -> tuple[list[Near], int]:
    found = [] if likeness.is_glob else await _spelled_otherwise(store, likeness)
    return (found, 0) if found else await _compared(settings, store, likeness)


async def _spelled_otherwise(store: AsyncSeenStore, likeness: _Likeness) -> list[Near]:
    """Return near keys that can be asked for by their names; that is fast."""
    names = await store.namespaces()
    variants = _variants(likeness.text)
    pairs = [(name, variant) for variant in variants for name in names]
    found = [
        near
        for record in await find_many(store, pairs)
        if record and (near := likeness.near(record))
    ]
    async for record in store.records(prefix=likeness.text, namespace=None):
        if len(found) >= _MOST:
            break
        near = likeness.near(record)
        if near and near not in found:
            found.append(near)
    return found[:_MOST]


async def _compared(
    settings: Settings, store: AsyncSeenStore, likeness: _Likeness
) -> tuple[list[Near], int]:
    """Return near keys among the first ones, and how many were compared."""
    found: list[Near] = []
    examined = 0
    with progress(settings, "looking for near keys", _EXAMINED) as advance:
        async for record in store.records(namespace=None):
            examined += 1
            if near := likeness.near(record):
                found.append(near)
            if len(found) == _MOST or examined == _EXAMINED:
                break
            if not examined % 1_000:
                advance(1_000)
    return found, examined


class _Likeness:
    """Compares the keys of a store with one that is not there."""

    def __init__(
        self, text: str, namespace: str | None, *, is_glob: bool, state: State | None
    ) -> None:
        self.text = text
        self.is_glob = is_glob
        self._namespace = namespace
        self._state = state
        self._folded = text.casefold()
        self._canonical = canonical_url(text)
        self._is_url = self._canonical.startswith("https://")

    def near(self, record: Record) -> Near | None:
        """Return a record with what makes it near; ``None`` if nothing does."""
        if self._state not in {None, record.state}:
            return None
        reason = (self._to_glob if self.is_glob else self._to_key)(record)
        return Near(record, reason) if reason else None

    def _to_glob(self, record: Record) -> str | None:
        is_here = self._namespace in {None, record.namespace}
        if fnmatchcase(record.key, self.text):
            return None if is_here else "another namespace"
        folded = record.key.casefold()
        if fnmatchcase(folded, self._folded):
            return "in another case"
        return "it contains that" if fnmatchcase(folded, f"*{self._folded}*") else None

    def _to_key(self, record: Record) -> str | None:
        key, text = record.key, self.text
        if key == text:
            is_here = self._namespace in {None, record.namespace}
            return None if is_here else "another namespace"
        folded = key.casefold()
        relations = {
            "a blank or a line break at its end": key.strip() == text.strip(),
            "in another case": folded == self._folded,
            "a slash at its end": key.rstrip("/") == text.rstrip("/"),
            "the same address, in another spelling": self._is_same_page(key),
            "a longer key that begins with it": key.startswith(text),
            "it contains that": self._folded in folded,
            IN_NOTE: self._folded in (record.note or "").casefold(),
        }
        return next((name for name, is_so in relations.items() if is_so), None)

    def _is_same_page(self, key: str) -> bool:
        if not self._is_url or key[:4].casefold() != "http":
            return False
        return canonical_url(key).rstrip("/") == self._canonical.rstrip("/")


def _variants(text: str) -> Iterable[str]:
    """Return other spellings of a key, each of which may be one."""
    bare = text.strip()
    made = {bare, *_cases(bare), bare.rstrip("/"), f"{bare}/"}
    if "://" in bare:
        made.update(_addresses(bare))
    return [one for one in dict.fromkeys([text, *sorted(made)]) if one]


def _cases(text: str) -> Iterator[str]:
    yield from (text.lower(), text.upper(), text.capitalize(), text.title())


def _addresses(url: str) -> Iterator[str]:
    canonical = canonical_url(url)
    for address in (url, canonical):
        rest = address.partition("://")[2]
        for host in (rest, rest.removeprefix("www."), f"www.{rest}"):
            for scheme in ("http", "https"):
                bare = f"{scheme}://{host}".rstrip("/")
                yield from (bare, f"{bare}/")
