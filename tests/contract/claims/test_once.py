"""``once``: a function that is called only by the owner of a key."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from catalyst_seen import AsyncSeenStore, Once, SeenStore, Verdict

from ...support.clock import Clock
from ...support.targets import Target


class HandlingError(Exception):
    """What a function raises."""


async def double(number: int) -> int:
    """Return twice the number, in a later turn of the loop."""
    await asyncio.sleep(0)
    return 2 * number


async def test_function_is_called_once(store: AsyncSeenStore) -> None:
    """Of ten callers, one calls the function; the others get the verdict."""
    results = await asyncio.gather(
        *(store.once("k", partial(double, 21)) for _ in range(10))
    )
    (ran,) = [one for one in results if one]
    assert ran == Once(Verdict.NEW, 42)
    assert {one.verdict for one in results if not one} <= {
        Verdict.IN_FLIGHT,
        Verdict.DUPLICATE,
    }
    assert await store.once("k", partial(double, 21)) == Once(Verdict.DUPLICATE, None)


async def test_plain_function_is_called_in_the_callers_task(
    store: AsyncSeenStore,
) -> None:
    """A function that returns no awaitable works as well."""
    once = await store.once("k", lambda: [asyncio.current_task()])
    assert once.result == [asyncio.current_task()]


async def test_failure_releases(store: AsyncSeenStore) -> None:
    """A function that raises is called again by the next caller, as a retry."""

    async def fail() -> None:
        raise HandlingError

    with pytest.raises(HandlingError):
        await store.once("k", fail)
    record = await store.get("k")
    assert record is not None
    assert record.error == "HandlingError"
    retried = await store.once("k", partial(double, 1))
    assert retried == Once(Verdict.RETRY, 2)
    assert (retried.attempt, retried.retry_after) == (2, None)


async def test_cancellation_releases(store: AsyncSeenStore) -> None:
    """A cancelled call gives the key back."""
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.once("k", hang))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.claim("k")).verdict is Verdict.RETRY


async def test_options_are_those_of_claim(store: AsyncSeenStore, clock: Clock) -> None:
    """Namespace, lease, TTL and policy reach the claim."""
    assert await store.once("k", partial(double, 1), namespace="n", ttl=60)
    record = await store.get("k", namespace="n")
    assert record is not None
    assert record.expires_at == clock() + 60
    with pytest.raises(ValueError, match="lease"):
        await store.once("other", _raise, lease=-1)


async def test_function_is_not_called_without_the_claim(
    store: AsyncSeenStore, clock: Clock
) -> None:
    """Whatever keeps the key from the caller keeps the function from being called."""
    await store.claim("k", lease=5, on_abandoned="hold")
    refused = await store.once("k", _raise)
    assert refused == Once(Verdict.IN_FLIGHT, None)
    assert (refused.attempt, refused.retry_after) == (1, 5)
    clock.advance(5)
    assert await store.once("k", _raise) == Once(Verdict.HELD, None)
    await store.mark_seen("k")
    assert await store.once("k", _raise) == Once(Verdict.DUPLICATE, None)


def _raise() -> None:
    raise HandlingError


@pytest.mark.parametrize("function", [None, "send", 7])
async def test_no_function_is_refused(store: AsyncSeenStore, function: object) -> None:
    """What cannot be called is refused before the key is claimed."""
    with pytest.raises(TypeError, match=r"functools\.partial"):
        await store.once("k", function)  # type: ignore[call-overload]
    assert await store.claim("k")


async def test_coroutine_is_refused_and_discarded(store: AsyncSeenStore) -> None:
    """``once(key, send(item))`` is the likely mistake; nothing warns besides."""
    with pytest.raises(TypeError, match=r"functools\.partial"):
        await store.once("k", double(1))  # type: ignore[call-overload]
    assert await store.claim("k")


class TestBlocking:
    """The same on the blocking twin."""

    def test_function_is_called_once(self, target: Target) -> None:
        """In the caller's thread, and once."""
        with SeenStore(target.config()) as store:
            assert store.once("k", lambda: 42) == Once(Verdict.NEW, 42)
            assert store.once("k", _raise) == Once(Verdict.DUPLICATE, None)
            with store.claim("l"):
                assert store.once("l", _raise) == Once(Verdict.IN_FLIGHT, None)

    def test_failure_releases(self, target: Target) -> None:
        """An exception gives the key back."""
        with SeenStore(target.config()) as store:
            with pytest.raises(HandlingError):
                store.once("k", _raise)
            assert store.once("k", lambda: 1).verdict is Verdict.RETRY

    def test_coroutine_functions_are_refused(self, target: Target) -> None:
        """Nothing would await them; the key stays claimable."""
        with SeenStore(target.config()) as store:
            with pytest.raises(TypeError, match="AsyncSeenStore"):
                store.once("k", partial(double, 1))
            with pytest.raises(TypeError, match="AsyncSeenStore"):
                store.once("k", lambda: double(1))
            assert store.claim("k")
