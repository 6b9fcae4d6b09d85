"""Groups C and D: an observation that dies, or that the disk refuses, at any point."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import OutcomeUnknownError, SeenStore, SeenStoreConfig, StoreError

from ..support.sqlite_faults import SqliteFaults
from .harness import observer
from .harness.killing import copied, sweep
from .harness.report import Fault
from .harness.zygote import Zygote

OLD, FIRST, LAST = 60, 30, 90
NEW = {str(number) for number in range(OLD, LAST) if number % 10}
NEW |= {f"{number}*" for number in range(OLD, LAST, 10)}
REPLACED = {f"{number}*" for number in range(FIRST, OLD, 10)}
_QUICK = {"write": 7, "sync": 4, "truncate": 1}


def words(path: Path, first: int, last: int) -> list[str]:
    """Word the command that observes items of these numbers, and handles them."""
    settings = json.dumps({"path": str(path), "synchronous": "FULL"})
    return [sys.executable, observer.__file__, settings, str(first), str(last)]


def prepare(path: Path) -> None:
    """Make a file in which 300 items are a baseline."""
    with SeenStore(path) as store:
        observer.observe(store.namespace("feed", feeds=observer.RULES), 0, OLD)


def stored(path: Path) -> tuple[dict[str, bool], int, bool]:
    """Read by plain sqlite3 which keys are stored, and whether each waits.

    Returns:
        That; the number of polls; and whether the file is intact.
    """
    with closing(sqlite3.connect(path)) as db:
        rows = dict(db.execute("SELECT key, lease_until IS NOT NULL FROM seen"))
        ((polls,),) = db.execute("SELECT polls FROM namespace")
        intact = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return {key: bool(waits) for key, waits in rows.items()}, polls, intact


def check(said: Sequence[str], left: Path) -> set[str]:
    """Check what a crash left: the observation is there, whole, or it is not.

    Returns:
        The keys that were handled, acknowledged.
    """
    rows, polls, intact = stored(left)
    assert intact
    done = {line.removeprefix("= ") for line in said if line.startswith("= ")}
    begun = {line.removeprefix("+ ") for line in said if line.startswith("+ ")}
    if polls == 1:
        assert "observed" not in said
        assert rows == {str(number): False for number in range(OLD)}
        return done
    assert polls == 2
    assert {*rows} >= NEW | REPLACED
    seen = {key for key in NEW if not rows[key]}
    assert done <= seen <= begun
    assert not any(rows[key] for key in REPLACED)
    return done


@pytest.mark.parametrize("call", ["write", "sync", "truncate"])
def test_killed_while_observing(
    path: Path, fault: Fault, zygote: Zygote, call: str, *, torture: bool
) -> None:
    """A poller that is killed anywhere loses no item, and repeats none.

    What it leaves is the whole observation or nothing of it; the next poller handles
    each item that was not handled, and no other.
    """
    row = fault("C9", f"killed at each {call} of an observation and what it handles")
    prepare(path)
    step = 1 if torture else _QUICK[call]
    halves = 0
    for child in sweep(zygote, words(path, FIRST, LAST), path, call, step):
        done = check(child.said(), copied(path)) if path.exists() else set()
        with SeenStore(path) as store:
            feed = store.namespace("feed", feeds=observer.RULES)
            observer.observe(feed, FIRST, LAST)
            claimed = {record.key for record in feed.records(state="claimed")}
            seen = NEW - {*feed.filter_new(NEW)}
            came = {claim.key for claim in feed.pending() if claim.release(delay=99)}
        assert done <= seen
        assert len(claimed) <= 1
        assert came == NEW - seen - claimed
        halves += len(claimed)
        row.passed()
    assert row.rounds > 1
    row.note(f"{halves} of them between a claim and its confirm")


def test_killed_at_a_baseline(
    path: Path, fault: Fault, zygote: Zygote, *, torture: bool
) -> None:
    """A first listing is a baseline as a whole, wherever its poller is killed."""
    row = fault("C9", "killed at each write of a first listing")
    found = set()
    step = 1 if torture else 3
    for child in sweep(zygote, words(path, 0, OLD), path, "write", step):
        assert not any(line.startswith("+ ") for line in child.said())
        if path.exists() and _has_schema(copied(path)):
            found.add(len(_keys(copied(path))))
        with SeenStore(path) as store:
            feed = store.namespace("feed", feeds=observer.RULES)
            observer.observe(feed, 0, OLD)
            assert feed.count() == OLD
            assert not list(feed.pending())
        row.passed()
    assert found <= {0, OLD}
    assert OLD in found
    row.note(f"keys found: {sorted(found)}")


def _has_schema(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("SELECT 1 FROM sqlite_master").fetchall())


def _keys(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as db:
        return {key for (key,) in db.execute("SELECT key FROM seen")}


_STATEMENTS = (
    "INSERT INTO seen",
    "INSERT INTO detail",
    "UPDATE seen SET listed_poll",
    "UPDATE namespace",
    "COMMIT",
)


@pytest.mark.parametrize("statement", _STATEMENTS)
@pytest.mark.parametrize("error", ["SQLITE_FULL", "SQLITE_IOERR_WRITE"])
def test_disk_refuses(path: Path, fault: Fault, statement: str, error: str) -> None:
    """A disk that is full or broken leaves nothing of an observation, and it shows."""
    row = fault("D1", f"{error} at {statement} of an observation")
    prepare(path)
    faults = SqliteFaults()
    config = SeenStoreConfig(path, tuning=faults.tuning, purge_interval=None)
    with SeenStore(config) as store:
        feed = store.namespace("feed", feeds=observer.RULES)
        refused = faults.refuse(statement, error)
        with pytest.raises(StoreError) as caught:
            observer.observe(feed, FIRST, LAST)
        assert refused == [statement]
        is_unknown = statement == "COMMIT" and error != "SQLITE_FULL"
        assert isinstance(caught.value, OutcomeUnknownError) is is_unknown
        assert any("no call that writes" in one for one in store.stats().alarms)
        assert feed.count() == OLD
        observer.observe(feed, FIRST, LAST)
        came = {claim.key for claim in feed.pending() if claim.release(delay=99)}
        assert came == NEW
        assert not store.stats().alarms
    row.passed()
