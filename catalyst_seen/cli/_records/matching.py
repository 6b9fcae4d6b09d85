"""The keys that a command line means: by their names, or by globs."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from .._output import Rows
from .._spoken import in_namespace, quoted
from .globs import is_glob, literal_prefix
from .lookup import find, find_many, names_of
from .near import tell_near
from .rows import CHANGE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from catalyst_seen import AsyncSeenStore, Record

    from .._settings import Settings
    from .states import State


_ASKED = 100
"""Keys whose records are read to know whether they have a TTL."""


class Chosen(NamedTuple):
    """A key that a command would change, with its state before."""

    namespace: str
    key: str
    state: str


async def chosen(
    settings: Settings,
    store: AsyncSeenStore,
    patterns: Sequence[str],
    namespace: str | None,
    *,
    is_exact: bool = False,
    state: State | None = None,
) -> list[Chosen]:
    """Return the keys that some patterns mean, each once.

    What a pattern without a match may have meant is said.

    Args:
        settings: The options of every command.
        store: The store.
        patterns: Keys and globs. A glob that is a key itself means that key only.
        namespace: The namespace; ``None`` is all.
        is_exact: Are all of them keys?
        state: Only keys in this state.
    """
    found: dict[Chosen, None] = {}
    names = await names_of(store, namespace)
    for pattern in dict.fromkeys(patterns):
        has_any = False
        is_key = is_exact or not is_glob(pattern)
        records = _matching(settings, store, pattern, namespace, names, is_key=is_key)
        async for record in records:
            if state in {None, record.state}:
                has_any = True
                found[Chosen(record.namespace, record.key, record.state)] = None
            elif is_key:
                has_any = True
                where = in_namespace(record.namespace)
                settings.say(
                    f"{quoted(record.key)} {where} is {record.state}, not {state}"
                )
        if not has_any:
            what = f"is {state}" if state else "matches"
            scope = in_namespace(namespace) if namespace is not None else "anywhere"
            settings.say(f"{quoted(pattern)}: no key {what} {scope}")
            await tell_near(
                settings, store, pattern, namespace, is_glob=not is_key, state=state
            )
    return [*found]


async def _matching(
    settings: Settings,
    store: AsyncSeenStore,
    pattern: str,
    namespace: str | None,
    names: Sequence[str],
    *,
    is_key: bool,
) -> AsyncIterator[Record]:
    records = await find(store, pattern, names)
    for record in records:
        yield record
    if is_key:
        return
    if records:
        settings.say(f"{quoted(pattern)} is a key itself: only that one is meant")
        return
    prefix = literal_prefix(pattern)
    async for record in store.records(namespace=namespace, prefix=prefix):
        if fnmatchcase(record.key, pattern):
            yield record


def show(settings: Settings, keys: Sequence[Chosen]) -> None:
    """Write the keys that a command would change."""
    with Rows(settings, CHANGE_COLUMNS) as rows:
        for one in keys:
            rows.add(**one._asdict())


async def tell_ttl(
    settings: Settings, store: AsyncSeenStore, changed: Sequence[Chosen]
) -> None:
    """Say for how long keys are kept to which a command has given the tool's own TTL.

    What a feed lists has none. The first keys stand for all.
    """
    pairs = [(one.namespace, one.key) for one in changed[:_ASKED]]
    records = await find_many(store, pairs)
    if store.cfg.ttl is not None and any(one and one.expires_at for one in records):
        days = store.cfg.ttl / 86_400
        settings.say(
            f"kept for {days:g} days: --ttl says otherwise, as the TTL of your program"
            " is not known here"
        )
