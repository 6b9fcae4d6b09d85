"""``refresh``: what is listed again stays seen, and nothing else is touched."""

from __future__ import annotations

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, Verdict

from ..support.clock import DAY, NOON, Clock
from ..support.targets import Target


async def test_seen_keys_live_for_another_ttl(
    store: AsyncSeenStore, clock: Clock
) -> None:
    """The TTL counts from the refresh; first_seen stays, last_seen moves."""
    await store.mark_many(["a", "b"], ttl=60)
    clock.advance(50)
    assert await store.refresh(["a", "c", "a"], ttl=60) == 2
    record = await store.get("a")
    assert record is not None
    assert (record.first_seen, record.last_seen) == (NOON, NOON + 50)
    assert record.expires_at == NOON + 110
    clock.advance(10)
    assert await store.filter_new(["a", "b", "c"]) == ["b", "c"]


@pytest.mark.parametrize(("first", "again"), [(60, 30), (None, 30), (60, None)])
async def test_ttl_is_never_shortened(
    store: AsyncSeenStore, first: float | None, again: float | None
) -> None:
    """A shorter TTL changes nothing, and a mark for ever stays one."""
    await store.mark_seen("k", ttl=first)
    assert await store.refresh(["k"], ttl=again) == 1
    record = await store.get("k")
    assert record is not None
    expected = None if first is None or again is None else NOON + 60
    assert record.expires_at == expected


async def test_what_is_not_seen_is_not_touched(
    store: AsyncSeenStore, clock: Clock
) -> None:
    """New, expired, claimed, released and held keys stay what they are."""
    await store.mark_seen("expired", ttl=1)
    held = await store.claim("held", lease=1, on_abandoned="hold")
    released = await store.claim("released")
    claimed = await store.claim("claimed", lease=60)
    await released.release()
    clock.advance(1)
    keys = ["new", "expired", "held", "released", "claimed"]
    assert await store.refresh(keys) == 0
    verdicts = [sighting.verdict for sighting in await store.claim_many(keys)]
    assert verdicts == [
        Verdict.NEW,
        Verdict.NEW,
        Verdict.HELD,
        Verdict.RETRY,
        Verdict.IN_FLIGHT,
    ]
    await claimed.confirm()
    await held.confirm()


async def test_abandoned_with_drop_is_seen(store: AsyncSeenStore, clock: Clock) -> None:
    """A key whose claim was abandoned with "drop" is seen, and is refreshed."""
    await store.claim("k", lease=1, on_abandoned="drop", ttl=60)
    clock.advance(1)
    assert await store.refresh(["k"], ttl=DAY) == 1
    clock.advance(DAY - 1)
    assert await store.is_seen("k")


async def test_confirmed_claim_stays_confirmed(store: AsyncSeenStore) -> None:
    """A refresh between a confirm and its repetition disturbs neither."""
    claim = await store.claim("k")
    await claim.confirm()
    assert await store.refresh(["k"]) == 1
    await claim.confirm()


async def test_repeats_in_a_batch_see_each_other(store: AsyncSeenStore) -> None:
    """A thousand keys, some twice, in one call; none of them is an empty call."""
    keys = [str(number) for number in range(1_000)]
    await store.mark_many(keys[::2])
    assert await store.refresh(keys + keys[:10]) == 505
    assert await store.refresh([]) == 0


def test_blocking_twin(target: Target, clock: Clock) -> None:
    """The same on the blocking twin."""
    with SeenStore(target.config()) as store:
        store.mark_seen("k", ttl=60)
        assert store.refresh(iter(["k", "other"]), ttl=DAY) == 1
        clock.advance(DAY - 1)
        assert store.filter_new(["k", "other"]) == ["other"]
