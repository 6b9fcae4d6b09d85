"""The verbs on whole namespaces: records, clear, rename, and what there is."""

from __future__ import annotations

import asyncio

import pytest

from catalyst_seen import AsyncSeenStore, InvalidKeyError, LeaseLostError, Record

from ..support.clock import NOON, Clock
from ..support.targets import Target

AWKWARD = [
    "", " a", "a b", "{a}", "}{", "{}", "a{b}c", "a:b", ":", "%3A", "%", "*", "?",
    "[x]",
    "a\\b", "_", "a%b", "ä☃𝄞", "\U0010ffff", "n" * 2_048,
    "https://news.example/rss/search?q=%22a+b%22+when:1d&hl=en-US&ceid=US:en",
]  # fmt: skip


async def listed(store: AsyncSeenStore, **selection: object) -> list[tuple[str, str]]:
    """Namespace and key of the selected records, sorted."""
    records = store.records(**selection)  # type: ignore[arg-type]
    return sorted([(one.namespace, one.key) async for one in records])


class TestNames:
    """Namespaces of every kind."""

    @pytest.mark.parametrize("name", AWKWARD[1:], ids=range(1, len(AWKWARD)))
    async def test_any_name_is_a_namespace(
        self, store: AsyncSeenStore, name: str
    ) -> None:
        """Every verb finds the keys of a namespace, whatever its name, and no other."""
        for other in AWKWARD:
            await store.mark_seen("k", namespace=other)
        assert await store.namespaces() == sorted(AWKWARD)
        assert await store.has_any(namespace=name)
        assert await listed(store, namespace=name) == [(name, "k")]
        assert await store.count(namespace=name) == 1
        assert await store.forget("k", namespace=name)
        assert not await store.has_any(namespace=name)
        assert await store.namespaces() == sorted({*AWKWARD} - {name})
        assert await store.clear(namespace=None) == len(AWKWARD) - 1
        assert not await store.has_any()

    async def test_too_long_a_name_is_refused(self, store: AsyncSeenStore) -> None:
        """A namespace has at most 2,048 bytes."""
        with pytest.raises(InvalidKeyError, match="2,049 bytes"):
            await store.mark_seen("k", namespace="n" * 2_049)

    async def test_only_what_is_not_unseen_counts(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """An expired key makes no namespace; a claimed one does, and is not seen."""
        await store.mark_seen("k", ttl=60, namespace="expired")
        await store.claim("k", lease=3_600, namespace="claimed")
        clock.advance(60)
        assert await store.namespaces() == ["claimed"]
        assert not await store.has_any()
        assert not await store.has_any(namespace="expired")
        await store.mark_seen("l", namespace="expired")
        assert await store.has_any()
        assert await store.has_any(namespace="expired")
        assert await store.namespaces() == ["claimed", "expired"]

    async def test_views_default_to_their_namespace(
        self, store: AsyncSeenStore
    ) -> None:
        """The verbs of a view concern its namespace."""
        view = store.namespace("n")
        await store.mark_seen("k")
        assert not await view.has_any()
        await view.mark_seen("l")
        assert [one.key async for one in view.records()] == ["l"]
        await view.rename("m")
        assert await store.namespaces() == ["", "m"]
        assert await view.clear() == 0
        assert await store.namespace("m").clear() == 1
        assert await store.is_seen("k")


class TestRecords:
    """records, by state, namespace, beginning and time."""

    async def test_records_by_state(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Each state lists its keys."""
        await store.mark_seen("seen")
        await store.claim("claimed", lease=3_600)
        await (await store.claim("released")).release()
        await (await store.claim("delayed")).release(3_600)
        await store.claim("over", lease=60)
        await store.claim("held", lease=60, on_abandoned="hold")
        await store.claim("dropped", lease=60, on_abandoned="drop")
        clock.advance(60)
        states = {
            "seen": ["dropped", "seen"],
            "claimed": ["claimed"],
            "released": ["delayed", "over", "released"],
            "held": ["held"],
            "pending": [],
        }
        for state, keys in states.items():
            assert await listed(store, state=state) == [("", key) for key in keys]
        assert len(await listed(store)) == 7

    async def test_record_tells_everything(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A record has instants, the end of the lease, attempt and note."""
        await store.claim("k", lease=60, ttl=600, note="text", namespace="n")
        clock.advance(60)
        await store.claim("k", lease=30, ttl=600, namespace="n")
        assert [one async for one in store.records()] == [
            Record(
                "k", "n", "claimed", NOON, NOON + 60, NOON + 690,
                until=NOON + 90, attempt=2, note="text",
            )
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "prefix", ["a", "a/", "ä", "%", "_", "*", "[", "\\", "\U0010ffff", "{", "a/b/c"]
    )
    async def test_records_by_prefix(self, store: AsyncSeenStore, prefix: str) -> None:
        """A prefix is taken literally, and compared by its characters."""
        keys = [
            "a", "a/b", "a/b/c", "A", "b", "äa", "ä", "%a", "_a", "*a", "[a", "\\a",
            "\U0010ffffa", "\U0010ffff", "{a}", "xa",
        ]  # fmt: skip
        await store.mark_many(keys)
        await store.mark_many(keys, namespace="n")
        expected = sorted(key for key in keys if key.startswith(prefix))
        found = await listed(store, prefix=prefix, namespace="n")
        assert found == [("n", key) for key in expected]

    async def test_records_since(self, store: AsyncSeenStore, clock: Clock) -> None:
        """Only keys that were marked or claimed at an instant or later."""
        await store.mark_many(["a", "b"])
        clock.advance(60)
        await store.mark_many(["b", "c"])
        assert await listed(store, since=NOON + 60) == [("", "b"), ("", "c")]
        assert await listed(store, since=NOON + 60.001) == []
        with pytest.raises(ValueError, match="since must be seconds since 1970"):
            store.records(since=60)

    async def test_wrong_state_is_refused(self, store: AsyncSeenStore) -> None:
        """A state that there is not is refused, with those that there are."""
        with pytest.raises(ValueError, match=r"state must be one of seen, .*held"):
            store.records(state="done")  # type: ignore[arg-type]

    async def test_all_pages_are_returned(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """Every record of many pages is returned once, beside other calls."""
        many = 2_500 if target.is_server else 12_000
        keys = [f"k{number}" for number in range(many)]
        await store.mark_many(keys[::2], namespace="a")
        await store.mark_many(keys[1::2], namespace="b")
        found = []
        async for record in store.records():
            found.append(record.key)
            if len(found) % 500 == 0:
                assert not await store.check_and_mark(
                    record.key, namespace="a" if record.namespace == "a" else "b"
                )
        assert sorted(found) == sorted(keys)


class TestClear:
    """clear."""

    async def test_clear_removes_every_state_of_one_namespace(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Keys in any state are gone, and new; other namespaces stay."""
        await store.mark_many(["seen", "k"], namespace="n")
        await store.mark_seen("seen")
        claim = await store.claim("claimed", namespace="n")
        await store.claim("held", lease=60, on_abandoned="hold", namespace="n")
        await store.mark_seen("expired", ttl=60, namespace="n")
        clock.advance(60)
        assert await store.clear(namespace="n") == 4
        assert await store.namespaces() == [""]
        with pytest.raises(LeaseLostError):
            await claim.confirm()
        keys = ["seen", "k", "claimed", "held", "expired"]
        assert await store.filter_new(keys, namespace="n") == keys
        assert await store.held() == []
        assert await store.clear(namespace="n") == 0

    async def test_clear_of_a_store_is_its_default_namespace(
        self, store: AsyncSeenStore
    ) -> None:
        """A clear without arguments never removes all."""
        await store.mark_seen("k")
        await store.mark_seen("k", namespace="n")
        assert await store.clear() == 1
        assert await store.namespaces() == ["n"]
        assert await store.clear(namespace=None) == 1
        assert await store.namespaces() == []

    async def test_clear_of_many_pages(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """A clear removes every page of its namespace, and nothing else."""
        many = 3_000 if target.is_server else 12_000
        await store.mark_many(map(str, range(many)), note="text", namespace="n")
        await store.mark_many(["a", "b"], namespace="m")
        await store.mark_many(["a", "b"], namespace="o")
        assert await store.clear(namespace="n") == many
        assert await store.namespaces() == ["m", "o"]
        assert await store.count() == 4


class TestRename:
    """rename."""

    async def test_keys_keep_their_states(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """Every key has its state, its times and its note under the new name."""
        await store.mark_seen("seen", note="text", namespace="old")
        await store.claim("claimed", lease=3_600, note="text", namespace="old")
        await store.claim("held", lease=60, on_abandoned="hold", namespace="old")
        await store.mark_seen("seen", namespace="other")
        clock.advance(60)
        before = [one async for one in store.records(namespace="old")]
        await store.rename("new", namespace="old")
        after = {one.key: one async for one in store.records(namespace="new")}
        assert await listed(store, namespace="old") == []
        assert len(before) == 3
        for record in before:
            moved = after[record.key]
            assert moved.namespace == "new"
            assert moved.expires_at == pytest.approx(record.expires_at)
            assert (moved.state, moved.until, moved.attempt, moved.note) == (
                record.state, record.until, record.attempt, record.note,
            )  # fmt: skip
        assert await store.namespaces() == ["new", "other"]
        assert await store.check_and_mark("seen", namespace="old")
        assert not await store.check_and_mark("seen", namespace="new")

    async def test_occupied_name_is_refused(self, store: AsyncSeenStore) -> None:
        """A name under which there are keys is refused, and nothing is changed."""
        await store.mark_seen("a", namespace="old")
        await store.mark_seen("b", namespace="new")
        with pytest.raises(ValueError, match="new_name='new' has keys already"):
            await store.rename("new", namespace="old")
        assert await listed(store) == [("new", "b"), ("old", "a")]

    async def test_expired_keys_do_not_occupy(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A name whose keys have all expired is free, and they do not come back."""
        await store.mark_seen("a", namespace="old")
        await store.mark_many(["a", "b"], ttl=60, note="text", namespace="new")
        clock.advance(60)
        await store.rename("new", namespace="old")
        assert await listed(store) == [("new", "a")]
        record = await store.get("a", namespace="new")
        assert record is not None
        assert record.note is None

    async def test_rename_to_the_same_or_from_nothing(
        self, store: AsyncSeenStore
    ) -> None:
        """A rename to its own name, or of a name without keys, changes nothing."""
        await store.mark_seen("a", namespace="n")
        await store.rename("n", namespace="n")
        await store.rename("new", namespace="nothing")
        assert await listed(store) == [("n", "a")]

    async def test_from_and_to_the_default_namespace(
        self, store: AsyncSeenStore
    ) -> None:
        """The default namespace can be renamed, and be the new name."""
        await store.mark_many(["a", "b"])
        await store.rename("n")
        assert await listed(store) == [("n", "a"), ("n", "b")]
        await store.rename("", namespace="n")
        assert await listed(store) == [("", "a"), ("", "b")]

    async def test_own_cache_forgets(self, store: AsyncSeenStore) -> None:
        """What the cache knew under the old name is not believed any more."""
        await store.mark_seen("k", namespace="old")
        assert await store.is_seen("k", namespace="old")
        await store.rename("new", namespace="old")
        assert not await store.is_seen("k", namespace="old")
        assert await store.is_seen("k", namespace="new")
        await store.clear(namespace="new")
        assert not await store.is_seen("k", namespace="new")

    async def test_beside_other_calls(self, store: AsyncSeenStore) -> None:
        """Marks of other namespaces go on while one is renamed; none is lost."""
        keys = [f"k{number}" for number in range(200)]
        await store.mark_many(keys, namespace="old")
        marks = [store.mark_seen(key, namespace="other") for key in keys]
        await asyncio.gather(store.rename("new", namespace="old"), *marks)
        assert await store.count(namespace="new") == 200
        assert await store.count(namespace="other") == 200
