"""The states of keys, and how many keys are in each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore

State = Literal["seen", "claimed", "released", "pending", "held"]
STATES: tuple[State, ...] = get_args(State)


async def counted_by_state(
    store: AsyncSeenStore, namespace: str | None
) -> dict[str, Counter[str]]:
    """Count the keys of each namespace by their state.

    Nearly all keys are seen, and a store counts those by itself; the others are read.
    """
    stats = await store.stats(namespace=namespace)
    counts = {
        name: Counter(seen=number) for name, number in stats.keys_by_namespace.items()
    }
    for state in STATES[1:]:
        async for record in store.records(namespace=namespace, state=state):
            counts.setdefault(record.namespace, Counter())[state] += 1
    return counts
