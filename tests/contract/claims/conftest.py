"""Stores whose claims are tested: on servers, on files that fail, by a manual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    SeenStoreConfig,
)
from catalyst_seen._tuning import Tuning

from ...support.clock import DAY, Clock
from ...support.sqlite_faults import SqliteFaults
from ...support.targets import Pair, Target


@pytest.fixture
async def live(shared: Target) -> AsyncIterator[AsyncSeenStore]:
    """An open store with the real clock."""
    async with AsyncSeenStore(shared.config(purge_interval=None)) as store:
        yield store


@pytest.fixture
async def unpolled(shared: Target) -> AsyncIterator[AsyncSeenStore]:
    """An open store with the real clock, whose waiters rely on being woken."""
    config = shared.config(purge_interval=None, tuning=Tuning(first_poll=60))
    async with AsyncSeenStore(config) as store:
        yield store


@pytest.fixture
async def pair(shared: Target) -> AsyncIterator[Pair]:
    """Two open stores at one place, with the real clock."""
    config = shared.config(purge_interval=None)
    async with AsyncSeenStore(config) as store, AsyncSeenStore(config) as other:
        yield store, other


@pytest.fixture
def faults() -> SqliteFaults:
    """Faults of the SQLite connections of ``hasty`` and ``faulty``."""
    return SqliteFaults()


@pytest.fixture
async def faulty(path: Path, faults: SqliteFaults) -> AsyncIterator[AsyncSeenStore]:
    """An open store on a file, with the real clock, whose statements may fail."""
    config = SeenStoreConfig(path, purge_interval=None, tuning=faults.tuning)
    async with AsyncSeenStore(config) as store:
        yield store


@pytest.fixture
async def hasty(path: Path, faults: SqliteFaults) -> AsyncIterator[AsyncSeenStore]:
    """An open store on a file, with the real clock, that hardly waits for a lock."""
    config = SeenStoreConfig(
        path, timeout=0.5, purge_interval=None, tuning=faults.tuning
    )
    async with AsyncSeenStore(config) as store:
        yield store


@pytest.fixture
async def steady(
    shared: Target,
    clock: Clock,  # noqa: ARG001 - its time is the target's
) -> AsyncIterator[Pair]:
    """Two open stores at one place, whose leases do not end while the machine stalls.

    Their clock is the manual one; ``keep_alive`` notices within a third of a lease, in
    real seconds, that it has been advanced.
    """
    config = shared.config(purge_interval=None)
    async with (
        AsyncSeenStore(config, ttl=DAY) as store,
        AsyncSeenStore(config, ttl=DAY) as other,
    ):
        yield store, other
