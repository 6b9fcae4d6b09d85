"""Notes: texts that are stored with keys."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, InvalidKeyError, LeaseLostError, Verdict

from ..support.clock import Clock
from ..support.targets import Target

LONGEST = "ä" * 32_768  # 65,536 bytes
TEXTS = ["a", " ", "line\nline\r\n", '{"title": "ä ☃ 𝄞"}', "\u2028", "'; --", LONGEST]


async def note(store: AsyncSeenStore, key: str = "k") -> str | None:
    """Return the note of a key that is not unseen."""
    record = await store.get(key)
    assert record is not None
    return record.note


class TestTexts:
    """What a note may be."""

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    async def test_note_comes_back_as_it_was(
        self, store: AsyncSeenStore, text: str
    ) -> None:
        """Any text comes back unchanged, from get, records and claims."""
        await store.mark_seen("k", note=text)
        assert await note(store) == text
        assert [one.note async for one in store.records()] == [text]
        claim = await store.claim("c", note=text)
        assert claim.note == text
        await claim.release()
        assert (await store.claim("c")).note == text

    @pytest.mark.parametrize("text", [f"{LONGEST}a", "a\0b", "\ud800"])
    async def test_bad_note_is_refused(self, store: AsyncSeenStore, text: str) -> None:
        """A note that is too long, or no text of UTF-8, is refused; nothing is done."""
        for verb in (store.mark_seen, store.check_and_mark, store.claim):
            with pytest.raises(InvalidKeyError, match="note"):
                await verb("k", note=text)
        with pytest.raises(InvalidKeyError, match=r"note\('b'\)"):
            await store.mark_many(["a", "b"], note={"a": "", "b": text}.get)
        assert [one async for one in store.records()] == []

    async def test_note_must_be_a_text(self, store: AsyncSeenStore) -> None:
        """Anything but a text is refused, with what to do."""
        with pytest.raises(TypeError, match="note must be a str, not dict"):
            await store.mark_seen("k", note={"a": 1})  # type: ignore[arg-type]

    async def test_function_returns_the_note_of_each_key(
        self, store: AsyncSeenStore
    ) -> None:
        """The verbs on batches take one note, or a function of the key."""
        await store.mark_many(["a", "b"], note=str.upper)
        await store.check_and_mark_many(["b", "c"], note="all")
        await store.claim_many(["c", "d"], note=lambda key: key * 2)
        assert [await note(store, key) for key in "abcd"] == ["A", "B", "all", "dd"]


class TestChanges:
    """Which calls change a note."""

    async def test_none_keeps_and_empty_removes(self, store: AsyncSeenStore) -> None:
        """A call without a note keeps it; an empty one removes it."""
        await store.mark_seen("k", note="first")
        await store.mark_seen("k")
        await store.refresh(["k"])
        assert await note(store) == "first"
        await store.mark_seen("k", note="second")
        assert await note(store) == "second"
        await store.mark_seen("k", note="")
        assert await note(store) is None

    async def test_note_stays_through_a_claim(self, store: AsyncSeenStore) -> None:
        """A claim, its renewals, a release, the next claim and its confirm keep it."""
        claim = await store.claim("k", note="text")
        await claim.renew()
        await claim.release()
        assert await note(store) == "text"
        claim = await store.claim("k")
        assert (claim.verdict, claim.note) == (Verdict.RETRY, "text")
        await claim.confirm()
        assert await note(store) == "text"

    async def test_confirm_writes_a_note(self, store: AsyncSeenStore) -> None:
        """A confirm may write a note, the second one of a claim as well."""
        claim = await store.claim("k", note="before")
        await claim.confirm(note="after")
        assert await note(store) == "after"
        await claim.confirm(note="corrected")
        assert await note(store) == "corrected"
        await claim.confirm(note="")
        assert await note(store) is None

    async def test_who_loses_writes_none(
        self, store: AsyncSeenStore, clock: Clock
    ) -> None:
        """A call without an effect changes no note, and a false claim reads none."""
        await store.mark_seen("k", note="mine")
        assert not await store.check_and_mark("k", note="other")
        assert (await store.claim("k", note="other")).note is None
        assert await note(store) == "mine"
        owner = await store.claim("c", lease=60, note="mine")
        assert (await store.claim("c", note="other")).note is None
        clock.advance(60)
        await store.claim("c")
        with pytest.raises(LeaseLostError):
            await owner.confirm(note="late")
        assert await note(store, "c") == "mine"

    async def test_check_and_mark_of_a_released_key(
        self, store: AsyncSeenStore
    ) -> None:
        """A check-and-mark that marks a released key replaces its note."""
        await (await store.claim("k", note="claimed")).release()
        assert await store.check_and_mark("k", note="marked")
        assert await note(store) == "marked"

    async def test_notes_within_a_batch(self, store: AsyncSeenStore) -> None:
        """Within a batch the last effective note of a key counts."""
        texts = iter(["one", "two", None])
        await store.mark_many(["k", "k", "k"], note=lambda _: next(texts))
        assert await note(store) == "two"
        texts = iter(["first", "second"])
        await store.check_and_mark_many(["n", "n"], note=lambda _: next(texts))
        assert await note(store, "n") == "first"


class TestEnds:
    """A key that becomes unseen loses its note."""

    async def test_forgotten(self, store: AsyncSeenStore) -> None:
        """A forgotten key has no note when it is marked again."""
        await store.mark_seen("k", note="old")
        await store.forget("k")
        assert await store.check_and_mark("k")
        assert await note(store) is None

    async def test_forgotten_and_marked_in_one_batch(
        self, store: AsyncSeenStore
    ) -> None:
        """The same if both are in one batch."""
        await store.mark_many(["a", "b"], note="old")
        await store.forget_many(["a", "b"])
        await store.mark_many(["a", "b"])
        assert [await note(store, key) for key in "ab"] == [None, None]

    @pytest.mark.parametrize("is_purged", [False, True])
    async def test_expired(
        self, store: AsyncSeenStore, clock: Clock, *, is_purged: bool
    ) -> None:
        """The same for an expired key, purged or not."""
        await store.mark_seen("k", ttl=60, note="old")
        await store.claim("c", lease=60, ttl=60, note="old")
        clock.advance(120)
        if is_purged:
            await store.purge_expired()
        assert await store.check_and_mark("k")
        assert (await store.claim("c")).note is None
        assert [await note(store, key) for key in "kc"] == [None, None]

    @pytest.mark.parametrize("verb", ["cleanup", "clear"])
    async def test_removed(
        self, store: AsyncSeenStore, clock: Clock, verb: str
    ) -> None:
        """The same for a key that a cleanup or a clear removed."""
        await store.mark_seen("k", note="old")
        clock.advance(60)
        removed = await (
            store.clear() if verb == "clear" else store.cleanup_old_entries(0)
        )
        assert removed == 1
        await store.mark_seen("k")
        assert await note(store) is None


class TestNotesOfOthers:
    """A note belongs to one key."""

    async def test_notes_are_those_of_their_keys(
        self, store: AsyncSeenStore, target: Target
    ) -> None:
        """Many keys with and without notes, in two namespaces, are not mixed up."""
        many = 100 if target.is_server else 1_500
        keys = [f"k{number}" for number in range(many)]
        await store.mark_many(keys[::2], note=lambda key: f"{key} a", namespace="a")
        await store.mark_many(keys[1::2], namespace="a")
        await store.mark_many(keys, note=lambda key: f"{key} b", namespace="b")
        records = {(one.namespace, one.key): one.note async for one in store.records()}
        expected = {("b", key): f"{key} b" for key in keys}
        expected |= {("a", key): f"{key} a" for key in keys[::2]}
        assert records == {**dict.fromkeys(("a", key) for key in keys), **expected}
