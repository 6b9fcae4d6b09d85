"""Bad keys and values are refused in words, before any I/O, and lose nothing."""

from __future__ import annotations

import decimal
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    InvalidKeyError,
    SeenStore,
    StoreClosedError,
    Verdict,
)

from ..support.targets import SERVERS, Places, Target

Verb = Callable[[AsyncSeenStore, Any], Awaitable[object]]

KEY_VERBS: dict[str, Verb] = {
    "is_seen": lambda store, key: store.is_seen(key),
    "mark_seen": lambda store, key: store.mark_seen(key),
    "check_and_mark": lambda store, key: store.check_and_mark(key),
    "forget": lambda store, key: store.forget(key),
    "get": lambda store, key: store.get(key),
    "claim": lambda store, key: _claim(store, key, lease=1),
    "claim_many": lambda store, key: store.claim_many(["fine", key]),
    "resolve": lambda store, key: store.resolve(key, handled=True),
    "mark_many": lambda store, key: store.mark_many(["fine", key]),
    "check_and_mark_many": lambda store, key: store.check_and_mark_many(["fine", key]),
    "filter_new": lambda store, key: store.filter_new(["fine", key]),
    "filter_new key": lambda store, key: store.filter_new(
        ["fine", "bad"], key=lambda item: item if item == "fine" else key
    ),
}
NAMESPACE_VERBS: dict[str, Verb] = {
    "is_seen": lambda store, name: store.is_seen("k", namespace=name),
    "mark_seen": lambda store, name: store.mark_seen("k", namespace=name),
    "check_and_mark": lambda store, name: store.check_and_mark("k", namespace=name),
    "forget": lambda store, name: store.forget("k", namespace=name),
    "get": lambda store, name: store.get("k", namespace=name),
    "claim": lambda store, name: _claim(store, "k", namespace=name),
    "claim_many": lambda store, name: store.claim_many(["k"], namespace=name),
    "resolve": lambda store, name: store.resolve("k", handled=True, namespace=name),
    "mark_many": lambda store, name: store.mark_many(["k"], namespace=name),
    "check_and_mark_many": lambda store, name: store.check_and_mark_many(
        ["k"], namespace=name
    ),
    "filter_new": lambda store, name: store.filter_new(["k"], namespace=name),
    "count": lambda store, name: store.count(namespace=name),
    "held": lambda store, name: store.held(namespace=name),
    "stats": lambda store, name: store.stats(namespace=name),
    "purge_expired": lambda store, name: store.purge_expired(namespace=name),
    "cleanup": lambda store, name: store.cleanup_old_entries(namespace=name),
}
TTL_VERBS: dict[str, Verb] = {
    "mark_seen": lambda store, ttl: store.mark_seen("k", ttl=ttl),
    "mark_many": lambda store, ttl: store.mark_many(["k"], ttl=ttl),
    "check_and_mark": lambda store, ttl: store.check_and_mark("k", ttl=ttl),
    "check_and_mark_many": lambda store, ttl: store.check_and_mark_many(["k"], ttl=ttl),
    "claim": lambda store, ttl: _claim(store, "k", ttl=ttl),
    "claim_many": lambda store, ttl: store.claim_many(["k"], ttl=ttl),
    "resolve": lambda store, ttl: store.resolve("k", handled=True, ttl=ttl),
    "confirm": lambda store, ttl: _use_claim(store, lambda c: c.confirm(ttl=ttl)),
    "confirm_many": lambda store, ttl: _use_claim(
        store, lambda claim: store.confirm_many([claim], ttl=ttl)
    ),
}
LEASE_VERBS: dict[str, Verb] = {
    "claim": lambda store, lease: _claim(store, "k", lease=lease),
    "claim_many": lambda store, lease: store.claim_many(["k"], lease=lease),
    "renew": lambda store, lease: _use_claim(store, lambda c: c.renew(lease=lease)),
}
DELAY_VERBS: dict[str, Verb] = {
    "wait": lambda store, wait: _claim(store, "k", wait=wait),
    "delay": lambda store, delay: _use_claim(store, lambda c: c.release(delay=delay)),
    "delay many": lambda store, delay: _use_claim(
        store, lambda claim: store.release_many([claim], delay=delay)
    ),
}
NOT_TEXT: list[object] = [
    None, 1, 0, 1.5, math.nan, True, b"k", bytearray(b"k"), ("a", "b"), ["k"],
    decimal.Decimal(1), uuid.UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), frozenset(),
]  # fmt: skip
NOT_KEYS = ["", " ", "\t\n", "\u2003", "a\0b", "\0", "\ud800", "x\udfff", "k" * 2_049]
NOT_NAMESPACES = [" ", "\n", "a\0b", "\ud800", "n" * 257, "é" * 129]


@pytest.fixture
async def store() -> AsyncIterator[AsyncSeenStore]:
    """An open store; what is refused before any I/O knows no backend."""
    async with AsyncSeenStore(":memory:", purge_interval=None) as made:
        yield made


async def _claim(store: AsyncSeenStore, key: str, **options: Any) -> Claim:
    return await store.claim(key, **options)


async def _use_claim(
    store: AsyncSeenStore, use: Callable[[Claim], Awaitable[object]]
) -> None:
    """Use a claim, and see that it is still owned after that went wrong."""
    claim = await store.claim("used")
    try:
        await use(claim)
    finally:
        assert (await store.claim("used")).verdict is Verdict.IN_FLIGHT
        await store.forget("used")


@pytest.mark.parametrize("verb", KEY_VERBS)
class TestKeys:
    """What is not a key."""

    @pytest.mark.parametrize("key", NOT_TEXT, ids=repr)
    async def test_not_text(
        self, store: AsyncSeenStore, verb: str, key: object
    ) -> None:
        """Anything but a str is a TypeError that names argument and type."""
        with pytest.raises(TypeError, match=r"key.*must be a str, not "):
            await KEY_VERBS[verb](store, key)
        assert await store.count() == 0

    @pytest.mark.parametrize("key", NOT_KEYS, ids=ascii)
    async def test_not_a_key(self, store: AsyncSeenStore, verb: str, key: str) -> None:
        """A str that no backend could keep is an InvalidKeyError; nothing is stored."""
        with pytest.raises(InvalidKeyError, match="key"):
            await KEY_VERBS[verb](store, key)
        assert await store.count() == 0

    async def test_before_any_io(self, verb: str) -> None:
        """A bad key is refused even where a good one finds no open store."""
        store = AsyncSeenStore("/nowhere/seen.db")
        with pytest.raises(InvalidKeyError):
            await KEY_VERBS[verb](store, "")
        with pytest.raises(StoreClosedError):
            await KEY_VERBS[verb](store, "k")


class TestMessages:
    """An error says which argument, which value, what is allowed."""

    async def test_place_in_a_batch(self, store: AsyncSeenStore) -> None:
        """A bad key of a batch is named by its place."""
        with pytest.raises(InvalidKeyError, match=r"keys\[2\]: '' is empty or blank"):
            await store.mark_many(["a", "b", ""])

    async def test_long_value_is_shortened(self, store: AsyncSeenStore) -> None:
        """The value is shown, not all of it, with its size and the limit."""
        with pytest.raises(InvalidKeyError, match=r"2,050 bytes.*2,048") as caught:
            await store.mark_seen("é" * 1_025)
        assert len(str(caught.value)) < 250
        assert caught.value.argument == "key"

    @pytest.mark.parametrize(
        "verb", ["mark_many", "check_and_mark_many", "claim_many", "filter_new"]
    )
    @pytest.mark.parametrize("one", ["key", b"key"], ids=repr)
    async def test_one_str_is_no_batch(
        self, store: AsyncSeenStore, verb: str, one: str | bytes
    ) -> None:
        """One str where many are due is not taken for its characters."""
        with pytest.raises(TypeError, match="must be an iterable of keys, not"):
            await getattr(store, verb)(one)
        with (
            SeenStore(":memory:") as blocking,
            pytest.raises(TypeError, match="must be an iterable of keys, not"),
        ):
            getattr(blocking, verb)(one)


@pytest.mark.parametrize("verb", NAMESPACE_VERBS)
class TestNamespaces:
    """What is not a namespace."""

    @pytest.mark.parametrize("name", NOT_NAMESPACES, ids=ascii)
    async def test_not_a_namespace(
        self, store: AsyncSeenStore, verb: str, name: str
    ) -> None:
        """The rules of keys, at most 256 bytes; only the empty one is fine."""
        with pytest.raises(InvalidKeyError, match="namespace"):
            await NAMESPACE_VERBS[verb](store, name)

    @pytest.mark.parametrize("name", [1, b"n", ("n",)], ids=repr)
    async def test_not_text(self, store: AsyncSeenStore, verb: str, name: str) -> None:
        """Anything but a str is a TypeError."""
        with pytest.raises(TypeError, match="namespace must be a str"):
            await NAMESPACE_VERBS[verb](store, name)


@pytest.mark.parametrize("verb", TTL_VERBS)
class TestTtl:
    """What is not a TTL."""

    @pytest.mark.parametrize(
        "ttl",
        [0, 0.0, 1e-9, -1, -0.001, math.nan, math.inf, -math.inf, 1e18, 10**400,
         timedelta(0), timedelta(seconds=-1), timedelta.max],
        ids=repr,
    )  # fmt: skip
    async def test_out_of_range(
        self, store: AsyncSeenStore, verb: str, ttl: float
    ) -> None:
        """Zero, negative, NaN, infinite and absurdly long are a ValueError."""
        with pytest.raises(
            ValueError, match=r"ttl must be at least 0.001 seconds.*None means never"
        ):
            await TTL_VERBS[verb](store, ttl)
        assert await store.count() == 0

    @pytest.mark.parametrize("ttl", [True, False, "60", b"60", [60]], ids=repr)
    async def test_not_a_duration(
        self, store: AsyncSeenStore, verb: str, ttl: object
    ) -> None:
        """A bool or a text is a TypeError."""
        with pytest.raises(TypeError, match="ttl must be seconds or a timedelta"):
            await TTL_VERBS[verb](store, ttl)


@pytest.mark.parametrize("verb", LEASE_VERBS)
class TestLease:
    """What is not a lease."""

    @pytest.mark.parametrize(
        "lease", [0, -1, 1e-9, math.nan, math.inf, 1e18, timedelta(0)], ids=repr
    )
    async def test_out_of_range(
        self, store: AsyncSeenStore, verb: str, lease: float
    ) -> None:
        """Zero, negative, NaN, infinite and absurdly long are a ValueError."""
        with pytest.raises(ValueError, match=r"lease must be at least 0.001 seconds"):
            await LEASE_VERBS[verb](store, lease)
        assert (await store.stats()).claimed == 0

    @pytest.mark.parametrize("lease", [None, True, "60"], ids=repr)
    async def test_not_a_duration(
        self, store: AsyncSeenStore, verb: str, lease: object
    ) -> None:
        """A lease has an end; None is a TypeError, as a bool and a text are."""
        with pytest.raises(TypeError, match="lease must be seconds or a timedelta"):
            await LEASE_VERBS[verb](store, lease)


@pytest.mark.parametrize("verb", DELAY_VERBS)
class TestDelay:
    """What is neither a delay nor a wait; zero is."""

    @pytest.mark.parametrize("delay", [-0.001, math.nan, math.inf], ids=repr)
    async def test_out_of_range(
        self, store: AsyncSeenStore, verb: str, delay: float
    ) -> None:
        """Negative, NaN and infinite are a ValueError."""
        argument = verb.removesuffix(" many")
        with pytest.raises(ValueError, match=f"{argument} must be at least 0 seconds"):
            await DELAY_VERBS[verb](store, delay)

    @pytest.mark.parametrize("delay", [None, False, "1"], ids=repr)
    async def test_not_a_duration(
        self, store: AsyncSeenStore, verb: str, delay: object
    ) -> None:
        """Anything but a number or a timedelta is a TypeError."""
        argument = verb.removesuffix(" many")
        with pytest.raises(TypeError, match=f"{argument} must be seconds"):
            await DELAY_VERBS[verb](store, delay)


class TestOtherValues:
    """Instants, ages and choices."""

    @pytest.mark.parametrize("policy", ["Retry", "", None, 1], ids=repr)
    async def test_on_abandoned(self, store: AsyncSeenStore, policy: Any) -> None:
        """A policy is one of three words, everywhere."""
        wanted = "on_abandoned must be one of retry, hold, drop"
        with pytest.raises(ValueError, match=wanted):
            await store.claim("k", on_abandoned=policy)
        with pytest.raises(ValueError, match=wanted):
            await store.claim_many(["k"], on_abandoned=policy)
        with pytest.raises(ValueError, match=wanted):
            AsyncSeenStore(":memory:", on_abandoned=policy)
        assert (await store.stats()).claimed == 0

    @pytest.mark.parametrize("handled", [1, None, "yes"], ids=repr)
    async def test_handled(self, store: AsyncSeenStore, handled: Any) -> None:
        """Handled or not is True or False, not anything that looks like it."""
        with pytest.raises(TypeError, match="handled must be True or False"):
            await store.resolve("k", handled=handled)

    async def test_keep_alive(self, store: AsyncSeenStore) -> None:
        """So is keep_alive; the number of seconds is the lease's."""
        wrong: Any = 30
        with pytest.raises(TypeError, match="keep_alive must be True or False"):
            await store.claim("k", keep_alive=wrong)

    @pytest.mark.parametrize("ts", [-1, math.nan, math.inf, 1_700_000_000_000, 10**400])
    async def test_ts_out_of_range(self, store: AsyncSeenStore, ts: float) -> None:
        """An instant before 1970, after 9999 (milliseconds!) or none at all."""
        with pytest.raises(ValueError, match="seconds since 1970"):
            await store.mark_seen("k", ts)

    @pytest.mark.parametrize("ts", [True, "0", datetime.now(UTC)], ids=["b", "s", "d"])
    async def test_ts_not_a_number(self, store: AsyncSeenStore, ts: Any) -> None:
        """Anything but a number is a TypeError."""
        with pytest.raises(TypeError, match="ts must be seconds since 1970"):
            await store.mark_seen("k", ts)

    @pytest.mark.parametrize("age", [-1, math.nan, math.inf, 40_000])
    async def test_days_out_of_range(self, store: AsyncSeenStore, age: float) -> None:
        """An age is zero or more, and at most a hundred years."""
        with pytest.raises(ValueError, match="days_old must be at least 0"):
            await store.cleanup_old_entries(age)

    @pytest.mark.parametrize("age", [True, "30", None, timedelta(days=1)])
    async def test_days_not_a_number(self, store: AsyncSeenStore, age: Any) -> None:
        """An age in days is a number."""
        with pytest.raises(TypeError, match="days_old must be a number of days"):
            await store.cleanup_old_entries(age)


class TestDifferentKeys:
    """Two different keys are never the same row, and come back as they went in."""

    @pytest.fixture
    async def store(self, target: Target) -> AsyncIterator[AsyncSeenStore]:
        """An open store on each backend."""
        async with AsyncSeenStore(target.config(purge_interval=None)) as made:
            yield made

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("caf\u00e9", "cafe\u0301"),
            ("Key", "key"),
            ("k", "k "),
            ("k", " k"),
            ("K", "\u212a"),
            ("k", "\ufeffk"),
            ("1", "1.0"),
            ("a%20b", "a b"),
            ("k", "k\u200b"),
        ],
        ids=ascii,
    )
    async def test_pairs(self, store: AsyncSeenStore, one: str, other: str) -> None:
        """NFC and NFD, case, blanks and look-alikes are different."""
        assert await store.check_and_mark(one)
        assert not await store.is_seen(other)
        assert await store.check_and_mark(other)
        assert await store.count() == 2

    async def test_longest(self, store: AsyncSeenStore) -> None:
        """A key of 2,048 bytes and a namespace of 256 are whole to the last one."""
        key, namespace = "é" * 1_024, "n" * 256
        await store.mark_seen(key, namespace=namespace)
        assert not await store.is_seen(key[:-1] + "è", namespace=namespace)
        record = await store.get(key, namespace=namespace)
        assert record is not None
        assert (record.key, record.namespace) == (key, namespace)

    async def test_str_subclass(self, store: AsyncSeenStore) -> None:
        """A subclass of str is the text that it holds."""

        class Id(str):
            __slots__ = ()

        await store.mark_seen(Id("k"))
        assert await store.is_seen("k")

    @pytest.mark.parametrize("backend", ["memory", *SERVERS])
    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            ),
            unique=True,
            max_size=30,
        )
    )
    @pytest.mark.slow
    def test_any_text(
        self, places: Places, path: Path, backend: str, ids: list[tuple[str, str]]
    ) -> None:
        """Whatever text is accepted comes back unchanged, and all are told apart."""
        with (
            places.target(backend, path) as target,
            SeenStore(target.config(purge_interval=None)) as store,
        ):
            kept = set()
            for namespace, key in ids:
                try:
                    assert store.check_and_mark(key, namespace=namespace)
                except InvalidKeyError:
                    continue
                kept.add((namespace, key))
            assert store.count() == len(kept)
            for namespace, key in kept:
                record = store.get(key, namespace=namespace)
                assert record is not None
                assert (record.namespace, record.key) == (namespace, key)
