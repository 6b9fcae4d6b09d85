"""Every operation in every state of a key, on every backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from catalyst_seen import AsyncSeenStore, Claim, LeaseLostError, Record, Verdict

from ..support.clock import DAY, NOON, Clock
from ..support.targets import Target

HOUR = 3_600.0
NOW = NOON + HOUR
LONG = 2 * HOUR

Step = Callable[[AsyncSeenStore, Claim, Clock], Awaitable[object]]


@dataclass
class Key:
    """The key "k" in some state: its last claim, and an earlier one."""

    store: AsyncSeenStore
    owner: Claim
    foreign: Claim

    async def snapshot(self) -> tuple[object, ...]:
        """Return all readable state of the key."""
        stats = await self.store.stats()
        record = await self.store.get("k")
        return record, stats.keys, stats.claimed, stats.abandoned

    async def is_lost(self) -> bool:
        """Has its owner lost the claim?"""
        try:
            await self.owner.confirm()
        except LeaseLostError:
            return True
        return False


async def forgotten(store: AsyncSeenStore, _owner: Claim, _clock: Clock) -> None:
    """Forget the key."""
    assert await store.forget("k")


async def expired(_store: AsyncSeenStore, owner: Claim, _clock: Clock) -> None:
    """Let the mark expire."""
    await owner.confirm(ttl=60)


async def purged(store: AsyncSeenStore, owner: Claim, clock: Clock) -> None:
    """Let the mark expire, and purge it."""
    await owner.confirm(ttl=60)
    clock.advance(60)
    await store.purge_expired()
    assert not await store.is_seen("k")


async def untouched(_store: AsyncSeenStore, _owner: Claim, _clock: Clock) -> None:
    """Neither confirm nor release."""


async def renewed(_store: AsyncSeenStore, owner: Claim, clock: Clock) -> None:
    """Renew after the end of the lease."""
    clock.advance(60)
    await owner.renew(lease=LONG)


async def released(_store: AsyncSeenStore, owner: Claim, _clock: Clock) -> None:
    """Release."""
    assert await owner.release()


async def delayed(_store: AsyncSeenStore, owner: Claim, _clock: Clock) -> None:
    """Release with a delay."""
    assert await owner.release(delay=LONG)


async def reopened(store: AsyncSeenStore, _owner: Claim, clock: Clock) -> None:
    """Resolve a held key as not handled."""
    clock.advance(60)
    assert await store.resolve("k", handled=False)


async def marked(store: AsyncSeenStore, _owner: Claim, _clock: Clock) -> None:
    """Mark the key without the claim."""
    await store.mark_seen("k")


async def confirmed(_store: AsyncSeenStore, owner: Claim, _clock: Clock) -> None:
    """Confirm."""
    await owner.confirm()


# State: its column of the state table, the options of its claim, and the next step.
STATES: dict[str, tuple[str, dict[str, object], Step]] = {
    "unseen": ("unseen", {}, forgotten),
    "expired": ("unseen", {}, expired),
    "purged": ("unseen", {}, purged),
    "abandoned": ("unseen", {"lease": 60, "ttl": 60}, untouched),
    "held, released, expired": (
        "unseen",
        {"on_abandoned": "hold", "ttl": 60},
        released,
    ),
    "claimed": ("live", {"lease": LONG}, untouched),
    "renewed": ("live", {"lease": 60}, renewed),
    "delayed": ("delayed", {"lease": 60}, delayed),
    "hold, live": ("live", {"lease": LONG, "on_abandoned": "hold"}, untouched),
    "drop, live": ("live", {"lease": LONG, "on_abandoned": "drop"}, untouched),
    "over": ("over", {"lease": 60}, untouched),
    "over, never expires": ("over", {"lease": 60, "ttl": None}, untouched),
    "released": ("released", {"lease": LONG}, released),
    "hold, released": (
        "released",
        {"lease": LONG, "on_abandoned": "hold"},
        released,
    ),
    "drop, released": (
        "released",
        {"lease": LONG, "on_abandoned": "drop"},
        released,
    ),
    "reopened": ("released", {"lease": 60, "on_abandoned": "hold"}, reopened),
    "held": ("held", {"lease": 60, "on_abandoned": "hold"}, untouched),
    "dropped": ("dropped", {"lease": 60, "on_abandoned": "drop"}, untouched),
    "marked": ("seen", {"lease": LONG}, marked),
    "confirmed": ("confirmed", {}, confirmed),
}
SEEN = {"dropped", "seen", "confirmed"}
WAITING = {"live", "delayed"}
RELEASED = {"released", "delayed"}
VERDICTS = {
    "unseen": Verdict.NEW,
    **dict.fromkeys(WAITING, Verdict.IN_FLIGHT),
    "released": Verdict.RETRY,
    "over": Verdict.RETRY,
    "held": Verdict.HELD,
    **dict.fromkeys(SEEN, Verdict.DUPLICATE),
}
RECORDED = {
    "unseen": None,
    "live": "claimed",
    "delayed": "released",
    "released": "released",
    "over": "released",
    "held": "held",
    **dict.fromkeys(SEEN, "seen"),
}
ABANDONED = {
    "retry": Verdict.RETRY,
    "hold": Verdict.HELD,
    "drop": Verdict.DUPLICATE,
}


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> str:
    """Each state of a key, by every path that leads there."""
    return str(request.param)


@pytest.fixture
def column(state: str) -> str:
    """The column of the state in the state table."""
    return STATES[state][0]


@pytest.fixture
async def key(store: AsyncSeenStore, clock: Clock, state: str) -> Key:
    """The key "k" in the state, claimed an hour ago."""
    foreign = await store.claim("k")
    await store.forget("k")
    _, options, step = STATES[state]
    owner = await store.claim("k", **options)  # type: ignore[arg-type]
    assert (owner.verdict, owner.attempt) == (Verdict.NEW, 1)
    await step(store, owner, clock)
    clock.now = NOW
    return Key(store, owner, foreign)


async def test_reads_agree_and_change_nothing(
    store: AsyncSeenStore, key: Key, column: str
) -> None:
    """is_seen, get, filter_new, count, records, held agree; nothing changes."""
    is_seen, before = column in SEEN, await key.snapshot()
    assert await store.is_seen("k") is is_seen
    record = await store.get("k")
    assert (record and record.state) == RECORDED[column]
    if record:
        assert (record.first_seen, record.attempt, record.note) == (NOON, 1, None)
        is_claimable = record.state in {"claimed", "released"}
        assert (record.until is not None) is is_claimable
        assert (record.until or 0) > NOW or column not in WAITING
    assert await store.filter_new(["k"]) == ([] if is_seen else ["k"])
    assert await store.count() == is_seen
    listed = [record] if record else []
    assert [one async for one in store.records()] == listed
    assert await store.held() == (listed if column == "held" else [])
    assert await store.has_any() is is_seen
    assert await store.namespaces() == ([""] if record else [])
    assert await key.snapshot() == before


def seen_at(first: float, *, ttl: float = DAY, attempt: int | None = None) -> Record:
    """The record of "k" that is marked now; it was claimed once, if not new."""
    if attempt is None:
        attempt = 0 if first == NOW else 1
    return Record("k", "", "seen", first, NOW, NOW + ttl, attempt=attempt)


async def test_mark_seen_marks_in_every_state(
    store: AsyncSeenStore, key: Key, column: str
) -> None:
    """mark_seen makes any key seen, refreshes a seen one, and ends its claim."""
    await store.mark_seen("k")
    assert await store.get("k") == seen_at(NOW if column == "unseen" else NOON)
    assert await key.is_lost() is (column != "confirmed")


async def test_check_and_mark_only_if_free(
    store: AsyncSeenStore, key: Key, column: str
) -> None:
    """check_and_mark marks an unseen or claimable key, and changes no other."""
    before = await key.snapshot()
    sighting = await store.check_and_mark("k")
    assert sighting.verdict is VERDICTS[column]
    assert sighting.attempt == (0 if column == "unseen" else 1)
    assert (sighting.retry_after is not None) is (column in WAITING)
    if sighting:
        first = NOW if column == "unseen" else NOON
        assert (sighting.first_seen, sighting.last_seen) == (first, NOW)
        assert await store.get("k") == seen_at(first)
        assert await key.is_lost()
    else:
        assert sighting.first_seen == NOON
        assert await key.snapshot() == before


async def test_claim_only_if_free(store: AsyncSeenStore, key: Key, column: str) -> None:
    """A claim acquires an unseen or claimable key, as its next attempt."""
    before = await key.snapshot()
    claim = await store.claim("k", lease=10)
    assert claim.verdict is VERDICTS[column]
    if claim:
        assert claim.attempt == (1 if column == "unseen" else 2)
        assert (claim.lease_until, claim.remaining()) == (NOW + 10, 10)
        assert claim.retry_after is None
        assert (await store.claim("k")).retry_after == 10
        assert await key.is_lost()
        await claim.confirm()
        first = NOW if column == "unseen" else NOON
        assert await store.get("k") == seen_at(first, attempt=claim.attempt)
    else:
        assert claim.attempt == 1
        assert claim.remaining() == 0
        assert await key.snapshot() == before
        live = (NOW + claim.retry_after) if claim.retry_after else None
        assert claim.lease_until == live
        assert (live is not None) is (column in WAITING)


async def test_confirm_by_owner_even_if_late(
    store: AsyncSeenStore, key: Key, column: str
) -> None:
    """Confirm marks the owner's key, repeatedly, whether the lease ended or not.

    A release ends the right to confirm.
    """
    before = await key.snapshot()
    if column in {"unseen", "seen", *RELEASED}:
        with pytest.raises(LeaseLostError, match="claim on 'k', attempt 1: it is lost"):
            await key.owner.confirm()
        assert await key.snapshot() == before
        return
    for _ in range(2):
        await key.owner.confirm(ttl=60)
        if column == "confirmed":
            assert await key.snapshot() == before
        else:
            assert await store.get("k") == seen_at(NOON, ttl=60)
        assert (await store.claim("k")).verdict is Verdict.DUPLICATE


async def test_renew_restarts_an_ended_lease(
    store: AsyncSeenStore, clock: Clock, key: Key, column: str
) -> None:
    """Renew restarts the lease, an ended one too, unless it was released or marked."""
    before = await key.snapshot()
    if column in {"unseen", "seen", "confirmed", *RELEASED}:
        with pytest.raises(LeaseLostError):
            await key.owner.renew(10)
        assert await key.snapshot() == before
        return
    await key.owner.renew(10)
    assert (key.owner.lease_until, key.owner.remaining()) == (NOW + 10, 10)
    assert (await store.claim("k")).retry_after == 10
    clock.advance(10)
    assert (await store.claim("k")).verdict is ABANDONED[
        key.owner._lease.acquired.on_abandoned
    ]


@pytest.mark.parametrize("delay", [0, 10])
async def test_release_makes_claimable_after_delay(
    store: AsyncSeenStore, clock: Clock, key: Key, column: str, delay: float
) -> None:
    """Release makes the owner's key claimable, at once or after a delay."""
    before = await key.snapshot()
    if column in {"unseen", "seen", "confirmed"}:
        assert await key.owner.release(delay) is False
        assert await key.snapshot() == before
        return
    assert await key.owner.release(delay) is True
    if delay:
        assert (await store.claim("k")).retry_after == delay
        clock.advance(delay)
    claim = await store.claim("k")
    assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)


async def test_foreign_token_changes_nothing(key: Key, column: str) -> None:
    """A token that is not in the row changes nothing."""
    before = await key.snapshot()
    with pytest.raises(LeaseLostError, match="it is lost"):
        await key.foreign.confirm()
    with pytest.raises(LeaseLostError):
        await key.foreign.renew()
    assert await key.foreign.release() is False
    assert await key.snapshot() == before
    assert await key.is_lost() is (column in {"unseen", "seen", *RELEASED})


async def test_forget_removes_in_every_state(
    store: AsyncSeenStore, key: Key, column: str
) -> None:
    """Forget makes any key unseen; its result is whether there was a row."""
    assert await store.forget("k") is (column != "unseen")
    assert await key.is_lost()
    claim = await store.claim("k")
    assert (claim.verdict, claim.attempt) == (Verdict.NEW, 1)


@pytest.mark.parametrize("handled", [True, False])
async def test_resolve_only_if_held(
    store: AsyncSeenStore, key: Key, column: str, *, handled: bool
) -> None:
    """Resolve makes a held key seen or claimable, and changes no other."""
    before = await key.snapshot()
    assert await store.resolve("k", handled=handled) is (column == "held")
    if column != "held":
        assert await key.snapshot() == before
    elif handled:
        assert await store.get("k") == seen_at(NOON)
    else:
        claim = await store.claim("k")
        assert (claim.verdict, claim.attempt) == (Verdict.RETRY, 2)


@pytest.mark.usefixtures("key")
async def test_stats_count_every_state(
    store: AsyncSeenStore, state: str, column: str
) -> None:
    """Stats count seen, claimed and released keys, and abandoned ones by policy."""
    stats = await store.stats()
    assert stats.keys == (column in SEEN)
    assert stats.claimed == (column in WAITING)
    assert stats.released == (column == "released")
    assert stats.abandoned == {
        "retry": state.startswith("over"),
        "hold": column == "held",
        "drop": column == "dropped",
    }


@pytest.mark.usefixtures("key")
async def test_purge_and_cleanup_spare_claims(
    store: AsyncSeenStore, target: Target, clock: Clock, state: str, column: str
) -> None:
    """A purge removes expired rows; a cleanup spares live leases and held keys."""
    is_there = state not in {"unseen", "purged"}
    expired = target.removed(column == "unseen" and is_there)
    assert await store.purge_expired() == expired
    spared = column in {*WAITING, "held"}
    is_left = column != "unseen"
    assert await store.cleanup_old_entries(0.001) == (is_left and not spared)
    clock.advance(100 * DAY)
    purged = 0 if column == "held" or "hold, live" in state else spared
    assert await store.purge_expired() == target.removed(purged)
