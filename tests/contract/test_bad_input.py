"""Invalid keys and values are refused before any I/O, and change nothing."""

from __future__ import annotations

import decimal
import gc
import math
import uuid
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalyst_seen import (
    AsyncSeenStore,
    InvalidKeyError,
    SeenStore,
    StoreClosedError,
)

from ..support.targets import SERVERS, Places, Target
from ..support.verbs import (
    DELAY_VERBS,
    KEY_VERBS,
    LEASE_VERBS,
    NAMESPACE_VERBS,
    TTL_VERBS,
)

NOT_TEXT: list[object] = [
    None, 1, 0, 1.5, math.nan, True, b"k", bytearray(b"k"), ("a", "b"), ["k"],
    decimal.Decimal(1), uuid.UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), frozenset(),
]  # fmt: skip
NOT_KEYS = ["", " ", "\t\n", "\u2003", "a\0b", "\0", "\ud800", "x\udfff", "k" * 2_049]
NOT_LINES = ["k\n", "k\r\n", "k\r", "\nk", "\rk", "é\n"]
NOT_NAMESPACES = [" ", "\n", "a\0b", "\ud800", "n" * 2_049, "é" * 1_025]


@pytest.fixture
async def store() -> AsyncIterator[AsyncSeenStore]:
    """An open store; validation is the same for all backends."""
    async with AsyncSeenStore(":memory:", purge_interval=None) as made:
        yield made


class Link(str):  # noqa: SLOT000 - as theirs
    """A string that refers to its document, and prints as it likes."""

    document: object = None

    def __str__(self) -> str:
        """Return something else than the text."""
        return "no text"


class Document:
    """What a string of a parser refers to."""


@pytest.mark.parametrize("verb", KEY_VERBS)
class TestKeys:
    """Invalid keys."""

    @pytest.mark.parametrize("key", NOT_TEXT, ids=repr)
    async def test_key_of_other_type_is_type_error(
        self, store: AsyncSeenStore, verb: str, key: object
    ) -> None:
        """A key that is not a str is a TypeError with argument and type."""
        with pytest.raises(TypeError, match=r"key.*must be a str, not "):
            await KEY_VERBS[verb](store, key)
        assert await store.count() == 0

    @pytest.mark.parametrize("key", NOT_KEYS, ids=ascii)
    async def test_unstorable_key_stores_nothing(
        self, store: AsyncSeenStore, verb: str, key: str
    ) -> None:
        """A str that some backend cannot store is an InvalidKeyError."""
        with pytest.raises(InvalidKeyError, match="key"):
            await KEY_VERBS[verb](store, key)
        assert await store.count() == 0

    @pytest.mark.parametrize("key", NOT_LINES, ids=ascii)
    async def test_line_of_a_file_is_refused(
        self, store: AsyncSeenStore, verb: str, key: str
    ) -> None:
        """A line break at either end is refused, but where a key only ends."""
        if verb in {"forget", "resolve"}:
            assert not await KEY_VERBS[verb](store, key)
            return
        with pytest.raises(InvalidKeyError, match=r"line break.*use key\.strip\(\)"):
            await KEY_VERBS[verb](store, key)
        assert await store.count() == 0

    async def test_key_is_checked_before_the_store(self, verb: str) -> None:
        """A bad key is refused before the store is found to be closed."""
        store = AsyncSeenStore("/nowhere/seen.db")
        with pytest.raises(InvalidKeyError):
            await KEY_VERBS[verb](store, "")
        with pytest.raises(StoreClosedError):
            await KEY_VERBS[verb](store, "k")


class TestMessages:
    """Errors name the argument, the value and the rule."""

    async def test_bad_key_of_batch_has_its_index(self, store: AsyncSeenStore) -> None:
        """The error of a bad key in a batch has its index."""
        with pytest.raises(InvalidKeyError, match=r"keys\[2\]: '' is empty or blank"):
            await store.mark_many(["a", "b", ""])

    async def test_long_value_is_truncated(self, store: AsyncSeenStore) -> None:
        """A long value is truncated in the error, with its size and the limit."""
        with pytest.raises(InvalidKeyError, match=r"2,050 bytes.*2,048") as caught:
            await store.mark_seen("é" * 1_025)
        assert len(str(caught.value)) < 250
        assert caught.value.argument == "key"

    @pytest.mark.parametrize(
        "verb", ["mark_many", "check_and_mark_many", "claim_many", "filter_new"]
    )
    @pytest.mark.parametrize("one", ["key", b"key"], ids=repr)
    async def test_single_str_is_no_batch(
        self, store: AsyncSeenStore, verb: str, one: str | bytes
    ) -> None:
        """A str in place of an iterable of keys is not split into characters."""
        with pytest.raises(TypeError, match="must be an iterable of keys, not"):
            await getattr(store, verb)(one)
        with (
            SeenStore(":memory:") as blocking,
            pytest.raises(TypeError, match="must be an iterable of keys, not"),
        ):
            getattr(blocking, verb)(one)


@pytest.mark.parametrize("verb", NAMESPACE_VERBS)
class TestNamespaces:
    """Invalid namespaces."""

    @pytest.mark.parametrize("name", NOT_NAMESPACES, ids=ascii)
    async def test_unstorable_namespace_is_refused(
        self, store: AsyncSeenStore, verb: str, name: str
    ) -> None:
        """Namespaces follow the rules of keys, up to 2,048 bytes; empty is allowed."""
        with pytest.raises(InvalidKeyError, match="namespace"):
            await NAMESPACE_VERBS[verb](store, name)

    @pytest.mark.parametrize("name", [1, b"n", ("n",)], ids=repr)
    async def test_namespace_of_other_type_is_refused(
        self, store: AsyncSeenStore, verb: str, name: str
    ) -> None:
        """A namespace that is not a str is a TypeError."""
        with pytest.raises(TypeError, match="namespace must be a str"):
            await NAMESPACE_VERBS[verb](store, name)


@pytest.mark.parametrize("verb", TTL_VERBS)
class TestTtl:
    """Invalid TTLs."""

    @pytest.mark.parametrize(
        "ttl",
        [0, 0.0, 1e-9, -1, -0.001, math.nan, math.inf, -math.inf, 1e18, 10**400,
         timedelta(0), timedelta(seconds=-1), timedelta.max],
        ids=repr,
    )  # fmt: skip
    async def test_ttl_out_of_range_is_refused(
        self, store: AsyncSeenStore, verb: str, ttl: float
    ) -> None:
        """A zero, negative, NaN, infinite or too long TTL is a ValueError."""
        with pytest.raises(
            ValueError, match=r"ttl must be at least 0.001 seconds.*None means never"
        ):
            await TTL_VERBS[verb](store, ttl)
        assert await store.count() == 0

    @pytest.mark.parametrize("ttl", [True, False, b"60", [60]], ids=repr)
    async def test_ttl_of_other_type_is_refused(
        self, store: AsyncSeenStore, verb: str, ttl: object
    ) -> None:
        """A TTL that is no duration is a TypeError, a bool as well."""
        with pytest.raises(TypeError, match="ttl must be a number of seconds, a time"):
            await TTL_VERBS[verb](store, ttl)

    async def test_ttl_without_unit_is_refused(
        self, store: AsyncSeenStore, verb: str
    ) -> None:
        """A text without a unit is a ValueError: 60 may be seconds or days."""
        with pytest.raises(
            ValueError, match=r"ttl must be .* a text like '7d', .*'60'"
        ):
            await TTL_VERBS[verb](store, "60")
        assert await store.count() == 0


@pytest.mark.parametrize("verb", LEASE_VERBS)
class TestLease:
    """Invalid leases."""

    @pytest.mark.parametrize(
        "lease", [0, -1, 1e-9, math.nan, math.inf, 1e18, timedelta(0)], ids=repr
    )
    async def test_lease_out_of_range_is_refused(
        self, store: AsyncSeenStore, verb: str, lease: float
    ) -> None:
        """A zero, negative, NaN, infinite or too long lease is a ValueError."""
        with pytest.raises(ValueError, match=r"lease must be at least 0.001 seconds"):
            await LEASE_VERBS[verb](store, lease)
        assert (await store.stats()).claimed == 0

    @pytest.mark.parametrize("lease", [None, True, [60]], ids=repr)
    async def test_lease_of_other_type_is_refused(
        self, store: AsyncSeenStore, verb: str, lease: object
    ) -> None:
        """A lease is finite: None is a TypeError, as a bool is."""
        with pytest.raises(TypeError, match="lease must be a number of seconds, a ti"):
            await LEASE_VERBS[verb](store, lease)


@pytest.mark.parametrize("verb", DELAY_VERBS)
class TestDelay:
    """Invalid delays and waits."""

    @pytest.mark.parametrize("delay", [-0.001, math.nan, math.inf], ids=repr)
    async def test_delay_out_of_range_is_refused(
        self, store: AsyncSeenStore, verb: str, delay: float
    ) -> None:
        """A negative, NaN or infinite delay is a ValueError; zero is allowed."""
        argument = verb.removesuffix(" many")
        with pytest.raises(ValueError, match=f"{argument} must be at least 0 seconds"):
            await DELAY_VERBS[verb](store, delay)

    @pytest.mark.parametrize("delay", [None, False, [1]], ids=repr)
    async def test_delay_of_other_type_is_refused(
        self, store: AsyncSeenStore, verb: str, delay: object
    ) -> None:
        """A delay that is no duration is a TypeError."""
        argument = verb.removesuffix(" many")
        with pytest.raises(TypeError, match=f"{argument} must be a number of sec"):
            await DELAY_VERBS[verb](store, delay)


class TestOtherValues:
    """Invalid instants, ages and choices."""

    @pytest.mark.parametrize("policy", ["Retry", "", None, 1], ids=repr)
    async def test_unknown_policy_is_refused(
        self, store: AsyncSeenStore, policy: Any
    ) -> None:
        """A policy is one of three words, in every call."""
        wanted = "on_abandoned must be one of retry, hold, drop"
        with pytest.raises(ValueError, match=wanted):
            await store.claim("k", on_abandoned=policy)
        with pytest.raises(ValueError, match=wanted):
            await store.claim_many(["k"], on_abandoned=policy)
        with pytest.raises(ValueError, match=wanted):
            AsyncSeenStore(":memory:", on_abandoned=policy)
        assert (await store.stats()).claimed == 0

    @pytest.mark.parametrize("handled", [1, None, "yes"], ids=repr)
    async def test_handled_must_be_a_bool(
        self, store: AsyncSeenStore, handled: Any
    ) -> None:
        """Only True and False are accepted, not any truthy value."""
        with pytest.raises(TypeError, match="handled must be True or False"):
            await store.resolve("k", handled=handled)

    async def test_keep_alive_must_be_a_bool(self, store: AsyncSeenStore) -> None:
        """keep_alive is True or False; the number of seconds is the lease's."""
        wrong: Any = 30
        with pytest.raises(TypeError, match="keep_alive must be True or False"):
            await store.claim("k", keep_alive=wrong)

    @pytest.mark.parametrize("ts", [-1, math.nan, math.inf, 1_700_000_000_000, 10**400])
    async def test_ts_in_milliseconds_is_refused(
        self, store: AsyncSeenStore, ts: float
    ) -> None:
        """An instant before 1970 or after 9999 (milliseconds) is a ValueError."""
        with pytest.raises(ValueError, match="seconds since 1970"):
            await store.mark_seen("k", ts)

    @pytest.mark.parametrize("ts", [0, 1, 60, 946_684_799])
    async def test_ts_before_2000_is_refused(
        self, store: AsyncSeenStore, ts: float
    ) -> None:
        """A duration in the place of an instant is refused, with the right argument."""
        with pytest.raises(ValueError, match=rf"ts must be .* by name: ttl={ts}"):
            await store.mark_seen("k", ts)
        with pytest.raises(ValueError, match=rf"ts must be .* by name: ttl={ts}"):
            await store.mark_many(["k"], ts)
        assert await store.count() == 0

    async def test_ts_before_2000_is_accepted_there(self) -> None:
        """A store whose own clock is before 2000 accepts instants of its time."""
        async with AsyncSeenStore(":memory:", clock=lambda: 1_000.0) as store:
            await store.mark_seen("k", 990)
            record = await store.get("k")
            assert record is not None
            assert record.last_seen == 990

    async def test_ts_as_a_datetime_is_refused(self, store: AsyncSeenStore) -> None:
        """The error of a datetime has the call that converts it."""
        ts: Any = datetime(2026, 1, 1, tzinfo=UTC)
        with pytest.raises(TypeError, match=r"not datetime: .*use ts\.timestamp\(\)"):
            await store.mark_seen("k", ts)

    @pytest.mark.parametrize("ts", [True, "0", datetime.now(UTC)], ids=["b", "s", "d"])
    async def test_ts_of_other_type_is_refused(
        self, store: AsyncSeenStore, ts: Any
    ) -> None:
        """An instant that is not a number is a TypeError."""
        with pytest.raises(TypeError, match="ts must be seconds since 1970"):
            await store.mark_seen("k", ts)

    @pytest.mark.parametrize("age", [-1, math.nan, math.inf, 40_000])
    async def test_age_out_of_range_is_refused(
        self, store: AsyncSeenStore, age: float
    ) -> None:
        """An age is from zero to a hundred years."""
        with pytest.raises(ValueError, match="days_old must be at least 0"):
            await store.cleanup_old_entries(age)

    @pytest.mark.parametrize("age", [True, "30", None, timedelta(days=1)])
    async def test_age_of_other_type_is_refused(
        self, store: AsyncSeenStore, age: Any
    ) -> None:
        """An age in days is a number."""
        with pytest.raises(TypeError, match="days_old must be a number of days"):
            await store.cleanup_old_entries(age)


class TestParserStrings:
    """Strings that refer to a document, as those of lxml and Beautiful Soup do."""

    @pytest.mark.parametrize("verb", KEY_VERBS)
    async def test_document_is_not_kept(self, store: AsyncSeenStore, verb: str) -> None:
        """Nothing keeps the object that was the key: neither cache nor backend."""
        key = Link("k")
        key.document = Document()
        document = weakref.ref(key.document)
        await KEY_VERBS[verb](store, key)
        await store.is_seen("other")  # the last operation is another one
        del key
        gc.collect()
        assert document() is None

    @pytest.mark.parametrize("verb", ["mark_seen", "check_and_mark", "claim"])
    async def test_namespace_is_not_kept(
        self, store: AsyncSeenStore, verb: str
    ) -> None:
        """Nothing keeps the object that was the namespace."""
        namespace = Link("n")
        namespace.document = Document()
        document = weakref.ref(namespace.document)
        await NAMESPACE_VERBS[verb](store, namespace)
        await store.is_seen("other")
        del namespace
        gc.collect()
        assert document() is None

    async def test_results_are_plain(self, store: AsyncSeenStore) -> None:
        """Keys and namespaces in results are of the type str, with the same text."""
        sighting = await store.check_and_mark(Link("k"), namespace=Link("n"))
        claim = await store.claim(Link("c"))
        many = await store.check_and_mark_many([Link("a"), "b"])
        for text in (sighting.key, sighting.namespace, claim.key, many[0].key):
            assert type(text) is str
        assert (sighting.key, sighting.namespace) == ("k", "n")


class TestDifferentKeys:
    """Different keys are different rows, and are returned unchanged."""

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
    async def test_similar_keys_are_different(
        self, store: AsyncSeenStore, one: str, other: str
    ) -> None:
        """NFC and NFD, case, blanks and look-alikes are different keys."""
        assert await store.check_and_mark(one)
        assert not await store.is_seen(other)
        assert await store.check_and_mark(other)
        assert await store.count() == 2

    async def test_longest_key_is_stored_whole(self, store: AsyncSeenStore) -> None:
        """A key and a namespace of 2,048 bytes each are stored completely."""
        key, namespace = "é" * 1_024, "n" * 2_048
        await store.mark_seen(key, namespace=namespace)
        assert not await store.is_seen(key[:-1] + "è", namespace=namespace)
        record = await store.get(key, namespace=namespace)
        assert record is not None
        assert (record.key, record.namespace) == (key, namespace)

    async def test_str_subclass_is_its_text(self, store: AsyncSeenStore) -> None:
        """A key or namespace of a subclass of str equals its text."""
        await store.mark_seen(Link("k"), namespace=Link("n"))
        assert await store.is_seen("k", namespace="n")

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
    def test_any_accepted_text_is_unchanged(
        self, places: Places, path: Path, backend: str, ids: list[tuple[str, str]]
    ) -> None:
        """Any accepted text is returned unchanged, and all texts are different keys."""
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
