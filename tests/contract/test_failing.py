"""A store whose calls fail shows it: in its statistics, its alarms and its check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from catalyst_seen import (
    AsyncSeenStore,
    CallFailures,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from catalyst_seen._engine.failures import kind_of
from catalyst_seen._types import CallKind
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import Operation

from ..support.backends import Batch, intercepted
from ..support.clock import DAY, Clock
from ..support.sqlite_faults import SqliteFaults
from ..support.targets import Target
from ..support.waiting import until

CAUSE = "database or disk is full (SQLITE_FULL)"
NO_FAILURES = {"read": CallFailures(), "write": CallFailures()}

READS: dict[str, Any] = {"is_seen": "k", "get": "k", "filter_new": ["k", "l"]}
WRITES: dict[str, Any] = {
    "mark_seen": "k", "check_and_mark": "k", "check_and_mark_many": ["k", "l"],
    "claim": "k", "forget": "k",
}  # fmt: skip


class Backend:
    """Makes the batches of an open store fail; one at a time, as its lock has it."""

    def __init__(self, store: AsyncSeenStore) -> None:
        self.location = store.location
        self.fails = False
        self.fails_to_write = False
        self._apply = store._lifecycle.backend.apply

    async def apply(
        self, operations: Sequence[Operation[Any]], **options: Any
    ) -> object:
        """Fail, or pass a batch on."""
        is_write = kind_of(operations) == "write"
        if self.fails or (self.fails_to_write and is_write):
            raise StoreUnavailableError(self.location, CAUSE, "Free some space")
        return await self._apply(operations, **options)


@pytest.fixture
async def backend(store: AsyncSeenStore) -> AsyncIterator[Backend]:
    """The backend of the store, as far as it can be made to fail."""
    made = Backend(store)
    with patch.object(store._lifecycle.backend, "apply", made.apply):
        yield made


async def alarms(store: AsyncSeenStore) -> tuple[str, ...]:
    """Return the alarms of a store, which its check agrees with.

    Those of the server's settings, which are made for tests, are left out.
    """
    found = (await store.stats()).alarms
    report = await store.check()
    assert report.problems == found
    assert bool(report) is not bool(found)
    return tuple(alarm for alarm in found if " is off: " not in alarm)


async def failures(store: AsyncSeenStore) -> Mapping[CallKind, CallFailures]:
    """Return the failed calls of a store."""
    return (await store.stats()).failures


async def failing(call: Awaitable[object]) -> None:
    """Make a call that raises, or answers what the old store did."""
    with suppress(StoreUnavailableError):
        await call


@pytest.mark.parametrize("verb", READS)
async def test_read_that_fails(
    store: AsyncSeenStore, backend: Backend, verb: str
) -> None:
    """The first failed read begins an alarm, and the next read that succeeds ends it.

    What only reports the alarms does not.
    """
    assert await alarms(store) == ()
    began = time.time()
    backend.fails = True
    with capture_logs():
        await failing(getattr(store, verb)(READS[verb]))
        since = (await failures(store))["read"].since
        await failing(getattr(store, verb)(READS[verb]))
    (alarm,) = await alarms(store)
    assert "no call that reads has succeeded since 20" in alarm
    assert "2 have failed" in alarm
    assert CAUSE in alarm
    backend.fails = False
    await getattr(store, verb)(READS[verb])
    assert await alarms(store) == ()
    found = await failures(store)
    assert found["write"] == CallFailures()
    assert found["read"].count == 2
    assert began <= (found["read"].since or 0) <= time.time()
    assert found["read"].since == since  # of the first one
    assert CAUSE in str(found["read"].error)


@pytest.mark.parametrize("verb", WRITES)
async def test_write_that_fails(
    store: AsyncSeenStore, backend: Backend, verb: str
) -> None:
    """The first failed write begins an alarm, and the next write ends it, no read."""
    backend.fails_to_write = True
    await failing(getattr(store, verb)(WRITES[verb]))
    assert await store.count() == 0
    assert not await store.is_seen("k")
    (alarm,) = await alarms(store)
    assert "no call that writes has succeeded since 20" in alarm
    backend.fails_to_write = False
    await store.mark_seen("m")
    assert await alarms(store) == ()
    found = await failures(store)
    assert (found["read"].count, found["write"].count) == (0, 1)


async def test_duplicate_ends_no_alarm(target: Target) -> None:
    """A call that could have written, and only read, does not show that writes work."""
    config = target.config(purge_interval=None, recent_staleness=0)
    async with AsyncSeenStore(config) as store:
        await store.mark_seen("k")
        backend = Backend(store)
        with patch.object(store._lifecycle.backend, "apply", backend.apply):
            backend.fails = True
            await failing(store.mark_seen("l"))
            backend.fails = False
            assert not await store.check_and_mark("k")
            assert not await store.claim("k")
            assert not await store.forget("unknown")
            assert len(await alarms(store)) == 1
            assert await store.claim("l")
            assert await alarms(store) == ()


async def test_calls_of_one_batch(store: AsyncSeenStore, backend: Backend) -> None:
    """Of a batch that fails, each call counts; its reads are retried and succeed."""
    backend.fails_to_write = True
    calls = [store.mark_seen(str(number)) for number in range(20)]
    reads = [store.is_seen(str(number)) for number in range(20)]
    await asyncio.gather(*calls, *reads, return_exceptions=True)
    found = await failures(store)
    assert (found["read"].count, found["write"].count) == (0, 20)


async def test_key_that_fails_alone(store: AsyncSeenStore) -> None:
    """A key that fails beside others, as in a full Redis, is a failed call as well."""

    async def refuse_first(
        _: Batch, apply: Callable[[], Awaitable[BatchResult]]
    ) -> BatchResult:
        result = await apply()
        refusal = StoreUnavailableError(store.location, CAUSE, "Free some space")
        return result._replace(results=[refusal, *result.results[1:]])

    with intercepted(store, refuse_first), pytest.raises(StoreError):
        await store.mark_many(["a", "b"])
    (alarm,) = await alarms(store)
    assert CAUSE in alarm
    assert (await failures(store))["write"].count == 1


async def test_detached_call(store: AsyncSeenStore, backend: Backend) -> None:
    """A confirm, and a release that nobody waits for, count as well."""
    one, other = await store.claim("k"), store.claim("l")
    with capture_logs(), suppress(ZeroDivisionError):
        async with other:
            backend.fails = True
            await failing(one.confirm())
            raise ZeroDivisionError
    assert (await failures(store))["write"].count == 3  # a release has a retry


async def test_cancelled_caller(store: AsyncSeenStore, backend: Backend) -> None:
    """A call whose caller has given up counts when it fails."""
    await asyncio.gather(
        *(store.mark_seen(key) for key in "abc")
    )  # the next ones queue
    sent, go_on = asyncio.Event(), asyncio.Event()
    apply = backend.apply

    async def wait(*args: Any, **kwargs: Any) -> object:
        sent.set()
        await go_on.wait()
        return await apply(*args, **kwargs)

    backend.fails = True
    with patch.object(store._lifecycle.backend, "apply", wait):
        calls = [asyncio.create_task(store.mark_seen(key)) for key in "de"]
        await sent.wait()
        for call in calls:
            call.cancel()
        go_on.set()
        await asyncio.wait(calls)
        await until(lambda: store._lifecycle.failures.calls()["write"].count == 2)


async def test_inspection_that_fails(store: AsyncSeenStore) -> None:
    """A count that fails is a failed read, and a count that succeeds ends the alarm."""
    refusal = StoreUnavailableError(store.location, CAUSE, "Free some space")
    backend: Any = store._lifecycle.backend
    for verb, call in (
        ("count", store.count),
        ("records", store.held),
        ("has_any", store.has_any),
        ("namespaces", store.namespaces),
    ):
        with patch.object(backend, verb, side_effect=refusal):
            await failing(call())
        (alarm,) = await alarms(store)
        assert CAUSE in alarm
        await store.count()
        assert await alarms(store) == ()
    assert (await failures(store))["read"].count == 4


async def test_report_that_fails(store: AsyncSeenStore) -> None:
    """Statistics or a check that cannot be had are reported by raising, and only so."""
    refusal = StoreUnavailableError(store.location, CAUSE, "Free some space")
    backend: Any = store._lifecycle.backend
    for verb, call in (("stats", store.stats), ("check", store.check)):
        with (
            patch.object(backend, verb, side_effect=refusal),
            pytest.raises(StoreUnavailableError),
        ):
            await call()
    assert await alarms(store) == ()


async def test_no_failure(store: AsyncSeenStore) -> None:
    """A refused argument and a closed store are no failures of the database."""
    bad: Any = 3
    for call in (store.mark_seen(bad), store.is_seen(""), store.count(namespace=bad)):
        with pytest.raises((TypeError, ValueError)):
            await call
    assert await failures(store) == NO_FAILURES
    await store.aclose()
    for late in (store.mark_seen("k"), store.count(), store.purge_expired()):
        with pytest.raises(StoreClosedError):
            await late
    assert store._lifecycle.failures.calls() == NO_FAILURES


async def test_store_without_failure(store: AsyncSeenStore) -> None:
    """Ordinary use has neither failures nor alarms."""
    await store.mark_many(["a", "b"])
    async with store.claim("c") as claim:
        await claim.renew()
    await store.purge_expired()
    assert await failures(store) == NO_FAILURES
    assert await alarms(store) == ()


@pytest.mark.parametrize("verb", ["purge_expired", "cleanup_old_entries"])
async def test_removal_that_fails(path: Path, clock: Clock, verb: str) -> None:
    """A purge that fails is a failed write; one that removes nothing ends no alarm."""
    faults = SqliteFaults()
    config = SeenStoreConfig(path, tuning=faults.tuning, purge_interval=None)
    async with AsyncSeenStore(config, ttl=10, clock=clock, on_error="raise") as store:
        remove: Callable[[], Awaitable[int]] = getattr(store, verb)
        await store.mark_many(["a", "b"])
        clock.advance(40 * DAY)
        faults.refuse("DELETE", "SQLITE_FULL")
        with pytest.raises(StoreUnavailableError):
            await remove()
        await store.purge_expired(namespace="nobody's")
        (alarm,) = await alarms(store)
        assert "no call that writes" in alarm
        assert "SQLITE_FULL" in alarm
        assert await remove() == 2
        assert await alarms(store) == ()
        assert (await failures(store))["write"].count == 1


async def test_unknown_outcome(store: AsyncSeenStore) -> None:
    """A change whose outcome is unknown is a failed call."""
    unknown = OutcomeUnknownError(store.location, CAUSE, "Ask again")
    backend = store._lifecycle.backend
    with (
        patch.object(backend, "apply", side_effect=unknown),
        pytest.raises(OutcomeUnknownError),
    ):
        await store.mark_seen("k")
    assert (await failures(store))["write"].count == 1
