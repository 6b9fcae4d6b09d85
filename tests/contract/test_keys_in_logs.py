"""Keys are the user's data: no event above ``debug`` has one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig, StoreUnavailableError

from ..support.sqlite_faults import SqliteFaults, sqlite_error
from ..support.waiting import until

PRIVATE = "private-key"


async def test_no_event_has_a_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails, the events say what and where, and not on which key."""
    caplog.set_level(logging.INFO, "catalyst_seen")

    def events() -> set[str]:
        return {vars(one)["seen_event"] for one in caplog.records}

    def begin(execute: Callable[[], object]) -> object:
        if failures:
            failures.pop()
            raise sqlite_error("SQLITE_FULL")
        return execute()

    failures: list[None] = []
    faults = SqliteFaults()
    faults.replace("BEGIN", begin)
    config = SeenStoreConfig(path, tuning=faults.tuning, purge_interval=None)
    async with AsyncSeenStore(config) as store:
        lost = await store.claim(PRIVATE)
        await store.forget(PRIVATE)
        assert await store.confirm_many([lost]) == [False]

        failures += [None] * 2
        assert not await store.is_seen(PRIVATE)
        assert await store.cleanup_old_entries() == 0

        claim = await store.claim(PRIVATE)
        failures += [None] * 2
        with pytest.raises(LookupError):
            async with claim:
                raise LookupError

        failures.append(None)
        confirming = asyncio.ensure_future(claim.confirm())
        await asyncio.sleep(0)
        confirming.cancel()
        await until(lambda: "confirm_failed" in events())

        faults.refuse("COMMIT", "SQLITE_IOERR_FSYNC")
        with pytest.raises(Exception, match=r"nobody knows"):
            await store.mark_seen(PRIVATE)

        async with store.claim(f"{PRIVATE} 2", lease=1.5, keep_alive=True):
            failures.append(None)
            await until(lambda: "renew_failed" in events())

        failures.append(None)
        with pytest.raises(StoreUnavailableError) as refused:
            await store.mark_seen(PRIVATE)
    assert events() == {
        "store_created", "claims_lost", "lookup_failed", "cleanup_failed",
        "release_failed", "confirm_failed", "connection_reopened", "renew_failed",
    }  # fmt: skip
    assert PRIVATE not in str([vars(one) for one in caplog.records])
    assert PRIVATE not in str(refused.value)
