"""What commands on whole namespaces have in common: what is there, and what is near."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from .._output import Rows
from .._spoken import by_state, called, keys, quoted
from .rows import CHANGE_COLUMNS, row_of
from .states import counted_by_state

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Source

    from .._settings import Settings


async def source_of(store: AsyncSeenStore, namespace: str) -> Source | None:
    """Return the source of a namespace; the default namespace has none."""
    return await store.source(namespace=namespace) if namespace else None


async def count_states(
    store: AsyncSeenStore, namespace: str | None
) -> tuple[int, dict[str, int]]:
    """Return how many keys there are, and how many in each state."""
    states: dict[str, int] = {}
    for counts in (await counted_by_state(store, namespace)).values():
        for state, number in counts.items():
            states[state] = states.get(state, 0) + number
    return sum(states.values()), states


def in_words(total: int, states: dict[str, int]) -> str:
    """Return a number of keys and of each state: ``3 keys (2 seen, 1 claimed)``."""
    return f"{keys(total)} ({by_state(states)})" if total else "0 keys"


async def show_all(
    settings: Settings, store: AsyncSeenStore, namespace: str | None
) -> None:
    """Write every key that a command would change, one by one as they are read."""
    with Rows(settings, CHANGE_COLUMNS) as rows:
        async for record in store.records(namespace=namespace):
            rows.add(**row_of(record, CHANGE_COLUMNS))


async def tell_names(settings: Settings, store: AsyncSeenStore, namespace: str) -> None:
    """Say that a namespace has nothing, and which one may have been meant."""
    names = await store.namespaces()
    near = get_close_matches(namespace, names, n=3) or [
        name for name in names if name.casefold() == namespace.casefold()
    ]
    hint = f"; near: {', '.join(map(quoted, near))}" if near else ""
    settings.say(f"{called(namespace)} has no keys and no source{hint}")
