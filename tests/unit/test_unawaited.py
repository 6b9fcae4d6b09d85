"""A verb that is not awaited: no truth, no further warning, and a coroutine besides."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import anyio
import pytest

from catalyst_seen import AsyncSeenStore, Unawaited, UnawaitedClaim

OTHERS = {"namespace", "get_cache_stats", "metrics", "close", "records", "pending"}
"""Methods that are not asynchronous, and ``close``, whose name is ``aclose``."""

VERBS = sorted(
    name
    for name, member in inspect.getmembers(AsyncSeenStore, inspect.isfunction)
    if not name.startswith("_") and name not in OTHERS
)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "once": ("k", lambda: None),
    "backup": ("copy.db",),
    "resolve": ("k",),
    "rename": ("new",),
    "failed": ("why",),
    "observed_unchanged": ("validators",),
    **dict.fromkeys(("confirm_many", "release_many"), ([],)),
    **dict.fromkeys(
        ("is_seen", "mark_seen", "check_and_mark", "claim", "forget", "get"), ("k",)
    ),
    **dict.fromkeys(
        (
            "mark_many",
            "check_and_mark_many",
            "claim_many",
            "refresh",
            "filter_new",
            "forget_many",
            "observe",
        ),
        (["k"],),
    ),
}


def call(store: AsyncSeenStore, name: str) -> Any:
    """Call a verb with the arguments that it needs, and do not await it."""
    options = {"handled": True} if name == "resolve" else {}
    return getattr(store, name)(*ARGUMENTS.get(name, ()), **options)


@pytest.fixture
def store() -> AsyncSeenStore:
    """A store that is not open."""
    return AsyncSeenStore(":memory:")


@pytest.mark.parametrize("name", VERBS)
def test_result_without_await_has_no_truth(store: AsyncSeenStore, name: str) -> None:
    """The truth test of every verb raises; no warning (an error here) comes besides."""
    result = call(store, name)
    assert isinstance(result, Unawaited)
    with pytest.raises(TypeError, match=rf"await store\.{name}\("):
        bool(result)
    del result


@pytest.mark.parametrize("name", ["confirm", "release", "renew"])
async def test_verbs_of_a_claim_have_no_truth(name: str) -> None:
    """``if claim.confirm()`` is the same mistake."""
    async with AsyncSeenStore(":memory:") as store:
        claim = await store.claim("k")
        with pytest.raises(TypeError, match="is not awaited yet"):
            bool(getattr(claim, name)())


def test_message_has_both_right_forms(store: AsyncSeenStore) -> None:
    """The message names ``await``, and the twin that needs none."""
    with pytest.raises(TypeError, match=r"await store\.is_seen\(.*SeenStore"):
        assert store.is_seen("k")
    with pytest.raises(TypeError, match=r"await store\.claim.*async with store\.claim"):
        assert store.claim("k")
    with pytest.raises(TypeError, match=r"async with store\.claim_many.*= await store"):
        assert store.claim_many(["k"])
    checking: Any = store.check_and_mark("k")
    with pytest.raises(AttributeError, match=r"'verdict': check_and_mark is not"):
        _ = checking.verdict
    checking.close()


def test_forgotten_call_still_warns(store: AsyncSeenStore) -> None:
    """A call whose truth nobody tests is a coroutine that was never awaited."""
    with pytest.warns(RuntimeWarning, match="never awaited"):
        store.mark_seen("k")


async def _in_a_group(work: Coroutine[Any, Any, Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
    return task.result()


async def _in_anyio(work: Coroutine[Any, Any, Any]) -> Any:
    results = []

    async def run() -> None:
        results.append(await work)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    return results[0]


async def _gathered(work: Coroutine[Any, Any, Any]) -> Any:
    (result,) = await asyncio.gather(work)
    return result


@pytest.mark.parametrize(
    "run",
    [
        asyncio.create_task,
        _gathered,
        _in_a_group,
        _in_anyio,
        partial(asyncio.wait_for, timeout=10),
        asyncio.shield,
        asyncio.ensure_future,
    ],
)
async def test_whatever_runs_coroutines_runs_it(run: Callable[..., Any]) -> None:
    """Tasks, groups, time-outs and anyio take a verb as they take a coroutine."""
    async with AsyncSeenStore(":memory:") as store:
        assert (await run(store.check_and_mark("k"))).first_seen
        assert await run(store.is_seen("k")) is True
        assert (await run(store.claim("other"))).verdict


async def test_anyio_starts_a_verb_itself() -> None:
    """``start_soon(store.mark_seen, key)`` needs no wrapper."""
    async with AsyncSeenStore(":memory:") as store:
        async with anyio.create_task_group() as group:
            group.start_soon(store.mark_seen, "k")
        assert await store.is_seen("k")


async def test_cancelled_and_thrown_into() -> None:
    """Closing and throwing reach the call, as in any coroutine."""
    async with AsyncSeenStore(":memory:") as store:
        work = store.mark_seen("k")
        with pytest.raises(LookupError):
            work.throw(LookupError())
        store.mark_seen("k").close()
        assert not await store.is_seen("k")


def test_mocks_see_coroutine_functions() -> None:
    """A mock of the class has awaitable verbs, as before."""
    assert asyncio.iscoroutinefunction(AsyncSeenStore.check_and_mark)
    mock = create_autospec(AsyncSeenStore, instance=True)
    assert isinstance(AsyncMock(spec=AsyncSeenStore).is_seen, AsyncMock)
    result = mock.is_seen("k")
    assert inspect.isawaitable(result)
    asyncio.run(_awaited(result))


async def _awaited(result: Any) -> Any:
    return await result


def test_claim_is_a_subclass() -> None:
    """One type for all, and claims are of it too."""
    assert issubclass(UnawaitedClaim, Unawaited)
    assert issubclass(Unawaited, Coroutine)
