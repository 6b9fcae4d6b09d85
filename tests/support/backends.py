"""Batches of an open store, recorded or changed on their way to the backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

from catalyst_seen import AsyncSeenStore, StoreUnavailableError
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import Operation

Batch = Sequence[Operation[object]]
Hook = Callable[[Batch, Callable[[], Awaitable[BatchResult]]], Awaitable[BatchResult]]
"""Runs in place of a batch; its second argument executes the batch."""


@contextmanager
def intercepted(store: AsyncSeenStore, hook: Hook) -> Iterator[None]:
    """Call a hook in place of every batch that an open store sends."""
    backend = store._lifecycle.backend
    apply = backend.apply

    async def intercept(
        operations: Batch, *, sample_version: bool, timeout: float
    ) -> BatchResult:
        execute = partial(
            apply, operations, sample_version=sample_version, timeout=timeout
        )
        return await hook(operations, execute)

    with patch.object(backend, "apply", intercept):
        yield


@contextmanager
def recorded(store: AsyncSeenStore) -> Iterator[list[list[str]]]:
    """Yield a list that grows by the keys of every batch that an open store sends."""
    batches: list[list[str]] = []

    async def record(
        operations: Batch, apply: Callable[[], Awaitable[BatchResult]]
    ) -> BatchResult:
        batches.append([key for one in operations for _, key in one.ids()])
        return await apply()

    with intercepted(store, record):
        yield batches


@contextmanager
def failing(store: AsyncSeenStore) -> Iterator[None]:
    """Refuse every batch that an open store sends."""

    async def refuse(_: Batch, __: object) -> BatchResult:
        raise StoreUnavailableError(store.location, "the disk is full", "Free some")

    with intercepted(store, refuse):
        yield
