"""The stores that are exported together, and the label that tells them apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .. import AsyncSeenStore, ConfigurationError, SeenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

Store = AsyncSeenStore | SeenStore
"""A store of either twin."""


def labelled(stores: Sequence[Store]) -> list[tuple[str, Store]]:
    """Return the stores with their labels: where they are, and a number if it repeats.

    Raises:
        TypeError: One is not a store.
        ValueError: There is none.
    """
    if not stores:
        raise ValueError("pass at least one store")
    found: list[tuple[str, Store]] = []
    seen: Counter[str] = Counter()
    for store in stores:
        check_store(store)
        seen[store.location] += 1
        number = seen[store.location]
        label = store.location if number == 1 else f"{store.location} #{number}"
        found.append((label, store))
    return found


def check_store(store: object) -> None:
    """Raise ``TypeError`` unless it is a store."""
    if not isinstance(store, Store):
        raise TypeError(
            f"a store must be an AsyncSeenStore or a SeenStore, not {store!r}"
        )


def missing(extra: str, package: str, exc: ImportError) -> ConfigurationError:
    """Return the error of an export whose library is not installed."""
    error = ConfigurationError(
        extra,
        f"{package} is not installed: pip install 'catalyst-seen[{extra}]'",
    )
    error.__cause__ = exc
    return error
