"""Mistakes of newcomers: each error has the argument, its value, and the right form."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, SeenStoreConfig, StoreClosedError
from catalyst_seen.backends.memory import MemoryBackend

Parts = tuple[str, ...]

URL = "https://example.com/?" + "q" * 3_000
EITHER: dict[str, tuple[Callable[[Any], Any], type[Exception], Parts]] = {
    "key int": (
        lambda store: store.check_and_mark(17),
        TypeError, ("key must be a str", "int: 17", "use str(key)"),
    ),
    "key bytes": (
        lambda store: store.is_seen(b"gh-1"),
        TypeError, ("key must be a str", "bytes: b'gh-1'", "key.decode()"),
    ),
    "key Path": (
        lambda store: store.mark_seen(Path("a.xml")),
        TypeError, ("key must be a str", "'a.xml'", "use str(key)"),
    ),
    "key UUID": (
        lambda store: store.mark_seen(uuid.UUID(int=1)),
        TypeError, ("key must be a str", "UUID('0000", "use str(key)"),
    ),
    "key None": (
        lambda store: store.check_and_mark(None),
        TypeError, ("key must be a str", "None", "choose another field"),
    ),
    "key dict": (
        lambda store: store.check_and_mark({"id": "a"}),
        TypeError, ("key must be a str", "{'id': 'a'}", "choose the field"),
    ),
    "key list": (
        lambda store: store.check_and_mark(["a", "b"]),
        TypeError, ("key must be a str", "['a', 'b']", "ends in _many"),
    ),
    "key of a batch": (
        lambda store: store.mark_many(["a", 7]),
        TypeError, ("keys[1] must be a str", "int: 7", "use str(keys[1])"),
    ),
    "key with its line break": (
        lambda store: store.mark_many(["a\n", "b\n"]),
        ValueError, ("keys[0]", r"'a\n'", "line break", "key.strip()"),
    ),
    "key too long": (
        lambda store: store.check_and_mark(URL),
        ValueError, ("key", "3,021 bytes", "2,048", "hashlib.sha256"),
    ),
    "namespace too long": (
        lambda store: store.check_and_mark("a", namespace=URL),
        ValueError, ("namespace", "3,021 bytes", "hashlib.sha256"),
    ),
    "dicts without key=": (
        lambda store: store.filter_new([{"id": "a"}]),
        TypeError, ("key of items[0]", "{'id': 'a'}", "pass key="),
    ),
    "key= is a name": (
        lambda store: store.filter_new([{"id": "a"}], key="id"),
        TypeError, ("key must be a function", "'id'", "operator.itemgetter('id')",
                    "lambda item"),
    ),
    "one key to many": (
        lambda store: store.mark_many("abc"),
        TypeError, ("keys must be an iterable of keys", "'abc'", "put it in a list"),
    ),
    "async generator": (
        lambda store: store.mark_many(generated()),
        TypeError, ("keys must be an iterable", "async_generator", "async for"),
    ),
    "no iterable": (
        lambda store: store.mark_many(None),
        TypeError, ("keys must be an iterable of keys", "None"),
    ),
    "lease without unit": (
        lambda store: store.claim_many(["a"], lease="60"),
        ValueError, ("lease must be", "'7d'", "'60'", "units w, d, h, m, s, ms"),
    ),
    "ttl in words": (
        lambda store: store.mark_seen("a", ttl="7 days"),
        ValueError, ("ttl must be", "timedelta", "'7d'", "'7 days'"),
    ),
    "ttl of another type": (
        lambda store: store.mark_seen("a", ttl=[7]),
        TypeError, ("ttl must be", "timedelta", "'7d'", "list: [7]"),
    ),
    "ts is a datetime": (
        lambda store: store.mark_seen("a", datetime(2026, 1, 1, tzinfo=UTC)),
        TypeError, ("ts must be seconds since 1970", "2026", "ts.timestamp()"),
    ),
    "ts in milliseconds": (
        lambda store: store.mark_seen("a", 1_700_000_000_000),
        ValueError, ("ts must be seconds since 1970", "1700000000000", "by 1000"),
    ),
    "ts is a ttl": (
        lambda store: store.mark_seen("a", 60),
        ValueError, ("ts must be seconds since 1970", "60", "ttl=60"),
    ),
}  # fmt: skip
"""Calls of either store: what is called, the error, and parts of its message."""


async def generated() -> AsyncIterator[str]:
    """Yield keys, asynchronously."""
    yield "a"


def assert_parts(error: BaseException, parts: Parts) -> None:
    """Assert that a message has all parts, and is short enough to be read."""
    text = str(error)
    assert all(part in text for part in parts), text
    assert len(text) < 350, text


@pytest.mark.parametrize("mistake", EITHER)
class TestEitherStore:
    """Wrong arguments: both twins raise the same error."""

    async def test_asynchronous(self, mistake: str) -> None:
        """The asynchronous store explains the mistake."""
        call, error, parts = EITHER[mistake]
        async with AsyncSeenStore(":memory:", purge_interval=None) as store:
            with pytest.raises(error) as caught:
                await call(store)
            assert await store.count() == 0
        assert_parts(caught.value, parts)

    def test_blocking(self, mistake: str) -> None:
        """The blocking store explains it in the same words."""
        call, error, parts = EITHER[mistake]
        with SeenStore(":memory:", purge_interval=None) as store:
            with pytest.raises(error) as caught:
                call(store)
            assert store.count() == 0
        assert_parts(caught.value, parts)


CONSTRUCTION: dict[str, tuple[Callable[[Any], object], type[Exception], Parts]] = {
    "ttl_days": (
        lambda kind: kind(":memory:", ttl_days=7),
        TypeError, ("has no argument ttl_days=", "did you mean ttl=",
                    "SeenStoreConfig(ttl_days=...)"),
    ),
    "positional ttl": (
        lambda kind: kind(":memory:", 60),
        TypeError, ("takes target by position", "60 by name", "ttl="),
    ),
    "typing error": (
        lambda kind: kind(":memory:", purge_intervall=60),
        TypeError, ("has no argument purge_intervall=", "did you mean purge_interval="),
    ),
    "setting of the configuration": (
        lambda kind: kind(":memory:", wal_mode=False),
        TypeError, ("wal_mode=: it is a setting of SeenStoreConfig(wal_mode=...);",),
    ),
    "ttl in days": (
        lambda kind: kind(":memory:", ttl="7"),
        ValueError, ("ttl must be", "'7d'", "not '7'"),
    ),
    "scheme": (
        lambda kind: kind("valky://h"),
        ValueError, ("url", "valky://h", "did you mean valkey://"),
    ),
    "address as a path": (
        lambda kind: kind("localhost:6379"),
        ValueError, ("path", "'localhost:6379'", "valkey://localhost:6379"),
    ),
    "clock beside a backend": (
        lambda kind: kind(MemoryBackend(), clock=lambda: 1.0),
        ValueError, ("clock", "MemoryBackend", "SeenStoreConfig(clock=...)"),
    ),
    "setting of another database": (
        lambda kind: kind(SeenStoreConfig(":memory:", wait_replicas=1)),
        ValueError, ("wait_replicas", "1", "no effect on SQLite", "Redis"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", [AsyncSeenStore, SeenStore])
@pytest.mark.parametrize("mistake", CONSTRUCTION)
def test_construction(mistake: str, kind: type) -> None:
    """A store that is constructed in a wrong way says how it is constructed."""
    make, error, parts = CONSTRUCTION[mistake]
    with pytest.raises(error) as caught:
        make(kind)
    assert_parts(caught.value, parts)


ARGUMENTS: dict[str, tuple[Callable[[Any], object], Parts]] = {
    "positional namespace": (
        lambda store: store.check_and_mark("a", "feed"),
        (
            "SeenStore.check_and_mark",
            "takes key by position",
            "'feed' by name",
            "namespace=",
        ),
    ),
    "positional ttl": (
        lambda store: store.mark_seen("a", None, 60),
        ("SeenStore.mark_seen", "takes key and ts by position", "60 by name", "ttl="),
    ),
    "unknown name": (
        lambda store: store.is_seen("a", name_space="n"),
        ("SeenStore.is_seen", "name_space=", "did you mean namespace="),
    ),
    "claim": (
        lambda store: store.claim("a", "feed"),
        ("SeenStore.claim takes key by position", "'feed' by name", "namespace="),
    ),
    "claims": (
        lambda store: store.claim_many(["a"], leese=60),
        ("SeenStore.claim_many", "leese=", "did you mean lease="),
    ),
    "nothing by position": (
        lambda store: store.count("n"),
        ("SeenStore.count takes nothing by position", "'n' by name", "namespace="),
    ),
    "no such option": (
        lambda store: store.count(where="x"),
        ("SeenStore.count has no argument where=", "it has namespace"),
    ),
}


@pytest.mark.parametrize("mistake", ARGUMENTS)
class TestArguments:
    """Arguments that do not fit a verb: the error says how they are passed."""

    def test_asynchronous(self, mistake: str) -> None:
        """The asynchronous store explains it at the call, before an await."""
        call, parts = ARGUMENTS[mistake]
        with pytest.raises(TypeError) as caught:
            call(AsyncSeenStore(":memory:"))
        assert_parts(caught.value, ("AsyncSeenStore", *parts))

    def test_blocking(self, mistake: str) -> None:
        """The blocking store explains it as well."""
        call, parts = ARGUMENTS[mistake]
        with SeenStore(":memory:") as store, pytest.raises(TypeError) as caught:
            call(store)
        assert_parts(caught.value, parts)


class TestTwins:
    """The form of one twin, used with the other."""

    def test_with_of_the_asynchronous_store(self) -> None:
        """``with AsyncSeenStore`` names both right forms."""
        store: Any = AsyncSeenStore(":memory:")
        with pytest.raises(TypeError) as caught, store:
            pass
        assert_parts(caught.value, ("`async with AsyncSeenStore(", "`with SeenStore("))

    async def test_async_with_of_the_blocking_store(self) -> None:
        """``async with SeenStore`` names the twin."""
        with SeenStore(":memory:") as store:
            wrong: Any = store
            with pytest.raises(TypeError) as caught:
                async with wrong:
                    pass
        assert_parts(caught.value, ("SeenStore blocks", "`async with AsyncSeenStore("))

    async def test_async_with_of_a_blocking_claim(self) -> None:
        """``async with store.claim`` of a blocking store names the twin."""
        with SeenStore(":memory:") as store:
            wrong: Any = store.claim("a")
            with pytest.raises(TypeError) as caught:
                async with wrong:
                    pass
        assert_parts(caught.value, ("SeenStore blocks", "AsyncSeenStore("))

    def test_results_are_not_awaitable(self) -> None:
        """No framework that awaits what it can takes a store or a result for a call."""
        assert not inspect.isawaitable(AsyncSeenStore(":memory:"))
        with SeenStore(":memory:") as store:
            results = store, store.check_and_mark("a"), store.claim("b")
            assert not any(map(inspect.isawaitable, results))


UNAWAITED: dict[str, Callable[[Any], object]] = {
    "with": lambda call: call.__enter__(),
    "for": list,
    "async for": aiter,
    "len": len,
    "index": lambda call: call[0],
    "truth": bool,
}


@pytest.mark.parametrize("use", UNAWAITED)
@pytest.mark.parametrize(
    ("verb", "keys", "parts"),
    [
        ("filter_new", ["a"], ("await store.filter_new(...)",)),
        ("claim", "a", ("await store.claim(...)", "async with store.claim(...) as")),
        ("claim_many", ["a"], ("async with store.claim_many(...) as claims",)),
    ],
)
async def test_result_that_is_not_awaited(
    verb: str, keys: Any, use: str, parts: Parts
) -> None:
    """Whatever is done with a call that was not awaited names the right forms."""
    async with AsyncSeenStore(":memory:", purge_interval=None) as store:
        call = getattr(store, verb)(keys)
        with pytest.raises(TypeError) as caught:
            UNAWAITED[use](call)
        assert_parts(caught.value, parts)
        assert (await store.stats()).claimed == 0


@pytest.mark.parametrize("verb", [SeenStore.is_seen, AsyncSeenStore.claim])
def test_call_without_an_instance(verb: Callable[..., object]) -> None:
    """A verb of the class, and not of a store, is refused as Python refuses it."""
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        verb()


async def test_with_of_a_claim() -> None:
    """``with`` of a claim that was awaited names the right form."""
    async with AsyncSeenStore(":memory:", purge_interval=None) as store:
        claim: Any = await store.claim("a")
        with pytest.raises(TypeError, match="a Claim needs `async with`"), claim:
            pass


class TestLoops:
    """A store in another event loop, and in none of asyncio."""

    def test_other_loop(self, path: Path) -> None:
        """Another loop: the error names threads, pytest, and what belongs to a loop."""
        store = AsyncSeenStore(path)

        async def use() -> None:
            await store.is_seen("a")

        with asyncio.Runner() as first:
            first.run(wait_for(store.open))
            with pytest.raises(StoreClosedError) as caught:
                asyncio.run(use())
            first.run(wait_for(store.aclose))
        assert_parts(
            caught.value,
            (str(path), "was opened in another event loop", "use SeenStore",
             'loop_scope="session"'),
        )  # fmt: skip
        assert "open was opened" not in str(caught.value)

    async def test_other_thread(self, path: Path) -> None:
        """A thread that runs a loop of its own gets the same advice."""
        async with AsyncSeenStore(path) as store:
            with pytest.raises(
                StoreClosedError, match="use SeenStore, which any thread"
            ):
                await asyncio.to_thread(
                    lambda: asyncio.run(wait_for(partial(store.is_seen, "a")))
                )

    def test_trio(self) -> None:
        """A coroutine that no loop of asyncio runs, as by trio, is refused clearly."""
        opening = AsyncSeenStore(":memory:").open()
        with pytest.raises(StoreClosedError) as caught:
            opening.send(None)
        assert_parts(
            caught.value,
            ("needs a running event loop of asyncio", "trio", 'backend="asyncio"'),
        )

    async def test_verb_in_a_thread(self, path: Path) -> None:
        """A verb that a thread calls is not awaited: its truth test says what to do."""
        async with AsyncSeenStore(path) as store:
            sighting = await asyncio.to_thread(store.check_and_mark, "a")
            with pytest.raises(TypeError) as caught:
                bool(sighting)
        assert_parts(caught.value, ("await store.check_and_mark", "SeenStore"))

    async def test_call_without_a_loop(self, path: Path) -> None:
        """A call of an open store outside of asyncio is refused as well."""
        async with AsyncSeenStore(path) as store:
            with pytest.raises(
                StoreClosedError, match="a running event loop of asyncio"
            ):
                await asyncio.to_thread(lambda: store.mark_seen("a").send(None))

    async def test_close_is_aclose(self, path: Path) -> None:
        """``close`` closes the asynchronous store as ``aclose`` does."""
        store = AsyncSeenStore(path)
        await store.open()
        await store.close()
        with pytest.raises(StoreClosedError, match="closed"):
            await store.is_seen("a")


async def wait_for(call: Callable[[], Awaitable[object]]) -> None:
    """Await a call."""
    await call()
