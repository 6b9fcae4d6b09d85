"""What the old synchronous store had, and programs that use it still call."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ._config import SeenStoreConfig
    from ._engine.dispatcher import Dispatcher

T = TypeVar("T")

_LOOKUPS = ("is_seen", "check_and_mark", "claim")


def one_target(
    target: T | None, config: SeenStoreConfig | None
) -> T | SeenStoreConfig | None:
    """Return the target of a store, which the old store called ``config``.

    Raises:
        TypeError: Both are given.
    """
    if target is not None and config is not None:
        raise TypeError("config is the target by its old name: pass one of them")
    return config if target is None else target


def cache_stats(dispatcher: Dispatcher) -> dict[str, float]:
    """Return the statistics of the cache of seen keys, under their old names.

    A miss is an operation that asked the database whether a key is seen.
    """
    cache = dispatcher.cache
    if not cache.size:
        return {"enabled": False}
    executed = dispatcher.counters.operations.by_verb()
    misses = sum(executed[verb] for verb in _LOOKUPS)
    hits = cache.hits.total()
    lookups = hits + misses
    return {
        "enabled": True,
        "size": len(cache),
        "max_size": cache.size,
        "hits": hits,
        "misses": misses,
        "hit_rate_percent": round(100 * hits / lookups, 2) if lookups else 0,
    }
