"""A process that polls feeds, to measure the memory of what it remembers of them.

    python -m benchmarks.remembering FORM FILE FEEDS

It writes a line of JSON: MB that the polls have left behind, and the percentage of the
items of the last poll that was answered from memory. Each poll brings new strings.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import tracemalloc
from typing import TYPE_CHECKING

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

from .contestants.ours import Ours, OursByFilter
from .feeds import AT_ONCE, ITEMS, Feeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contestants import Polling

FORMS = {"check_and_mark_many": Ours, "filter_new": OursByFilter}
"""The forms of a poll of our store, by the verb that answers if nothing is new."""

SET = "set"
"""The form without a store."""

_NEW_ITEMS = 4  # of each feed, one after the other: what has left may be forgotten


class KeysInASet:
    """A set in memory, which remembers every key."""

    def __init__(self) -> None:
        """Begin with no keys."""
        self._seen: set[tuple[str, str]] = set()

    async def poll(self, namespace: str, keys: Sequence[str]) -> int:
        """Add the keys of a feed that are not there; return their number."""
        new = {(namespace, key) for key in keys} - self._seen
        self._seen |= new
        return len(new)


async def in_store(form: str, path: str, feeds: Feeds) -> dict[str, float]:
    """Poll with an open store: as in a file of earlier, with new items, unchanged."""
    config = SeenStoreConfig(path, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        await _poll(FORMS[form](store), feeds, 0)
    async with AsyncSeenStore(config) as store:
        poller = FORMS[form](store)
        tracemalloc.start()
        for poll in (*range(_NEW_ITEMS + 1), _NEW_ITEMS):
            await _poll(poller, feeds, poll)
        before = (await store.stats()).recent_hits
        await _poll(poller, feeds, _NEW_ITEMS)
        hits = (await store.stats()).recent_hits - before
        return {"memory": _in_use(), "hits": 100 * hits / (ITEMS * len(feeds))}


async def in_set(feeds: Feeds) -> dict[str, float]:
    """Do the same with a set."""
    poller = KeysInASet()
    tracemalloc.start()
    for poll in range(_NEW_ITEMS + 1):
        await _poll(poller, feeds, poll)
    return {"memory": _in_use(), "hits": 100.0}


async def _poll(poller: Polling, feeds: Feeds, poll: int) -> None:
    left = iter(feeds.listings(poll))

    async def poll_on() -> None:
        for name, keys in left:
            await poller.poll(name, keys)

    await asyncio.gather(*(poll_on() for _ in range(AT_ONCE)))


def _in_use() -> float:
    """Return the memory that Python has allocated since it is traced, in MB."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1e6


async def main(form: str, path: str, number: int) -> None:
    """Poll; report."""
    logging.getLogger("catalyst_seen").setLevel(logging.ERROR)  # a store is created
    feeds = Feeds(number, polls=_NEW_ITEMS)
    measured = in_set(feeds) if form == SET else in_store(form, path, feeds)
    sys.stdout.write(json.dumps(await measured))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
