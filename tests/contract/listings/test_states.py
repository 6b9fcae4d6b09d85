"""Every operation in every state of a key that was observed: the state table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from catalyst_seen import AsyncSeenStore, Claim, LeaseLostError, Record, Verdict

from ...support.clock import DAY, NOON, Clock
from .support import Entry, handled, keys, observe

NOW = NOON + 3_600

Step = Callable[[AsyncSeenStore, Clock], Awaitable[Claim | None]]


async def pending(_feed: AsyncSeenStore, _clock: Clock) -> None:
    """Leave the key as it was observed."""


async def claimed(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Claim the key for a day."""
    return await feed.claim("k", lease=DAY)


async def over(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Claim it for a minute."""
    return await feed.claim("k", lease=60)


async def released(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Release it."""
    claim = await feed.claim("k")
    assert await claim.release()
    return claim


async def delayed(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Release it with a delay of a day."""
    claim = await feed.claim("k")
    assert await claim.release(delay=DAY)
    return claim


async def held(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Abandon a claim with the policy to hold it."""
    return await feed.claim("k", lease=60, on_abandoned="hold")


async def confirmed(feed: AsyncSeenStore, _clock: Clock) -> Claim:
    """Handle it."""
    async with feed.claim("k") as claim:
        return claim


async def marked(feed: AsyncSeenStore, _clock: Clock) -> None:
    """Mark it."""
    await feed.mark_seen("k")


async def baseline(feed: AsyncSeenStore, _clock: Clock) -> None:
    """Mark it without handling, as a first listing is."""
    await feed.clear()
    await observe(feed, "kx")


STATES: dict[str, tuple[Step, str, Verdict, int]] = {
    "pending": (pending, "pending", Verdict.NEW, 0),
    "claimed": (claimed, "claimed", Verdict.IN_FLIGHT, 1),
    "over": (over, "released", Verdict.RETRY, 1),
    "released": (released, "released", Verdict.RETRY, 1),
    "delayed": (delayed, "released", Verdict.IN_FLIGHT, 1),
    "held": (held, "held", Verdict.HELD, 1),
    "confirmed": (confirmed, "seen", Verdict.DUPLICATE, 1),
    "marked": (marked, "seen", Verdict.DUPLICATE, 0),
    "baseline": (baseline, "seen", Verdict.DUPLICATE, 0),
}


@dataclass
class Key:
    """The key "k" of an observed namespace, its claim, and what is true of it."""

    feed: AsyncSeenStore
    claim: Claim | None
    state: str
    verdict: Verdict
    attempt: int

    async def record(self) -> Record:
        """Return its record; it never expires."""
        record = await self.feed.get("k")
        assert record is not None
        assert record.expires_at is None
        return record

    async def is_seen_for_ever(self, clock: Clock) -> bool:
        """Is it seen, and stays so whatever its TTL?"""
        clock.advance(100 * DAY)
        return (await self.record()).state == "seen" and not await handled(self.feed)


@pytest.fixture(params=STATES)
async def key(
    feed: AsyncSeenStore, clock: Clock, request: pytest.FixtureRequest
) -> Key:
    """The key in each state, an hour later."""
    step, state, verdict, attempt = STATES[request.param]
    await observe(feed, "x")
    await observe(feed, ["x", Entry("k", "note")])
    claim = await step(feed, clock)
    clock.now = NOW
    return Key(feed, claim, state, verdict, attempt)


async def test_reads(key: Key) -> None:
    """The reads agree, and change nothing."""
    before = await key.record()
    assert (before.state, before.attempt) == (key.state, key.attempt)
    is_seen = key.state == "seen"
    assert await key.feed.is_seen("k") is is_seen
    assert await key.feed.filter_new(["k"]) == ([] if is_seen else ["k"])
    assert [one.key async for one in key.feed.records(state=before.state)].count("k")
    assert [one.key for one in await key.feed.held()] == ["k"] * (key.state == "held")
    stats = await key.feed.stats()
    assert stats.claimed == (key.verdict is Verdict.IN_FLIGHT)
    assert await key.record() == before


async def test_mark_seen(key: Key, clock: Clock) -> None:
    """A mark makes it seen in every state; a claim is lost, but for a confirmed one."""
    await key.feed.mark_seen("k", ttl=1)
    if key.claim is not None and key.state != "seen":
        with pytest.raises(LeaseLostError):
            await key.claim.confirm()
    assert await key.is_seen_for_ever(clock)


async def test_refresh(key: Key, clock: Clock) -> None:
    """A refresh touches a seen key only."""
    before = await key.record()
    assert await key.feed.refresh(["k"], ttl=1) == (key.state == "seen")
    if key.state == "seen":
        assert await key.is_seen_for_ever(clock)
    else:
        assert await key.record() == before


@pytest.mark.parametrize("is_batch", [False, True])
async def test_check_and_mark(key: Key, clock: Clock, *, is_batch: bool) -> None:
    """It marks what can be claimed, and changes nothing else."""
    before = await key.record()
    if is_batch:
        (sighting,) = await key.feed.check_and_mark_many(["k"], ttl=1)
    else:
        sighting = await key.feed.check_and_mark("k", ttl=1)
    assert (sighting.verdict, sighting.attempt) == (key.verdict, key.attempt)
    if sighting:
        assert await key.is_seen_for_ever(clock)
    else:
        assert await key.record() == before


@pytest.mark.parametrize("is_batch", [False, True])
async def test_claim(key: Key, clock: Clock, *, is_batch: bool) -> None:
    """A claim acquires what can be claimed, as the next attempt, with the note."""
    if is_batch:
        (claim,) = await key.feed.claim_many(["k"], ttl=1)
    else:
        claim = await key.feed.claim("k", ttl=1)
    assert claim.verdict is key.verdict
    if not claim:
        return
    assert (claim.attempt, claim.note) == (key.attempt + 1, "note")
    assert (await key.record()).state == "claimed"
    await claim.confirm()
    assert await key.is_seen_for_ever(clock)


async def test_observe(key: Key) -> None:
    """A listing lists it, and changes nothing else."""
    before = await key.record()
    seen = await observe(key.feed, ["x", Entry("k", "other")])
    assert keys(seen.new) == ["k"] * bool(key.verdict)
    assert await key.record() == before


async def test_leaving_the_listing(key: Key) -> None:
    """A listing without it changes nothing either."""
    before = await key.record()
    assert not (await observe(key.feed, "x")).new
    assert await key.record() == before
    assert await handled(key.feed) == ["note"] * bool(key.verdict)


async def test_confirm(key: Key, clock: Clock) -> None:
    """The owner confirms, whether the lease is over or not; not after a release."""
    if key.claim is None:
        return
    if (
        key.state == "released"
        and key.claim.remaining() == 0
        and (key.verdict is Verdict.IN_FLIGHT or key.claim._lease.is_finished)
    ):
        with pytest.raises(LeaseLostError):
            await key.claim.confirm()
        return
    await key.claim.confirm(ttl=1)
    assert await key.is_seen_for_ever(clock)


async def test_renew(key: Key, clock: Clock) -> None:
    """The owner renews, whether the lease is over or not; not after it has ended it."""
    if key.claim is None:
        return
    if key.claim._lease.is_finished:
        with pytest.raises(LeaseLostError):
            await key.claim.renew()
        return
    await key.claim.renew(10)
    assert (await key.record()).state == "claimed"
    clock.advance(100 * DAY)
    assert (await key.record()).state in {"released", "held"}


@pytest.mark.parametrize("verb", ["release", "hold"])
async def test_release_and_hold(key: Key, clock: Clock, verb: str) -> None:
    """The owner gives it back, or holds it, unless it was marked or given back."""
    if key.claim is None:
        return
    before = await key.record()
    is_ended = key.state == "seen" or (verb == "hold" and key.claim._lease.is_finished)
    assert await getattr(key.claim, verb)(error="why") is not is_ended
    if is_ended:
        assert await key.record() == before
        return
    record = await key.record()
    assert (record.state, record.error) == (
        "held" if verb == "hold" else "released",
        "why",
    )
    clock.advance(DAY)
    assert await handled(key.feed) == ["note"] * (verb == "release")


@pytest.mark.parametrize("is_handled", [False, True])
async def test_resolve(key: Key, clock: Clock, *, is_handled: bool) -> None:
    """A held key becomes seen, or pending again; no other changes."""
    before = await key.record()
    is_held = key.state == "held"
    assert await key.feed.resolve("k", handled=is_handled, ttl=1) is is_held
    if not is_held:
        assert await key.record() == before
    elif is_handled:
        assert await key.is_seen_for_ever(clock)
    else:
        clock.advance(100 * DAY)
        assert await handled(key.feed) == ["note"]


async def test_forget(key: Key) -> None:
    """A forget ends it in every state: the next listing has it as new."""
    assert await key.feed.forget("k")
    assert await key.feed.get("k") is None
    assert await handled(key.feed) == []
    assert keys((await observe(key.feed, ["x", Entry("k", "anew")])).new) == ["k"]
    assert await handled(key.feed) == ["anew"]


async def test_removals(key: Key, clock: Clock) -> None:
    """Neither a purge nor a cleanup removes it in any state."""
    clock.advance(1_000 * DAY)
    await key.feed.purge_expired()
    await key.feed.cleanup_old_entries(1)
    assert (await key.record()).key == "k"
