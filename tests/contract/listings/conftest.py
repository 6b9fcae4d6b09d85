"""A namespace that is observed, on each backend."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore


@pytest.fixture
def feed(store: AsyncSeenStore) -> AsyncSeenStore:
    """The view of a namespace, by the rules of the configuration."""
    return store.namespace("feed")
