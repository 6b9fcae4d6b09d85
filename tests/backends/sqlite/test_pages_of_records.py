"""Pages of records and of removals in a file: ranges of an index, never all rows."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore, Record, SeenStoreConfig
from catalyst_seen._types import RECORD_STATES
from catalyst_seen.backends.base import Selection
from catalyst_seen.backends.sqlite.backend import SqliteBackend

from ...support.clock import NOON, Clock
from ...support.sqlite_files import write
from ...support.sqlite_statements import SqliteStatements

EDGES = [
    "a", "a/", "a/b", "az", "b", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000",
    "\uffff", "\U00010000", "\U0010ffff", "\U0010ffff" * 2, "a\U0010ffff", "ab\ud7ff",
]  # fmt: skip
"""Keys and prefixes, on both sides of where UTF-8 gets longer or has a gap."""


@pytest.fixture
def statements() -> SqliteStatements:
    """The statements of the backend."""
    return SqliteStatements()


@pytest.fixture
async def backend(
    path: Path, clock: Clock, statements: SqliteStatements
) -> AsyncIterator[SqliteBackend]:
    """An open backend on a file."""
    config = SeenStoreConfig(
        path, clock=clock, purge_interval=None, tuning=statements.tuning
    )
    made = SqliteBackend(path, config, None)
    await made.open()
    yield made
    await made.aclose()


async def fill(path: Path, clock: Clock, names: list[str], keys: list[str]) -> None:
    """Store keys in every state, some of which have expired."""
    rng = random.Random(20_261_127)
    async with AsyncSeenStore(path, clock=clock, purge_interval=None) as store:
        for name, key in product(names, keys):
            note = rng.choice([None, f"{name} {key}"])
            ttl = rng.choice([None, 60, 3_600])
            policy = rng.choice(["retry", "hold", "drop", "mark", "release"])
            if policy == "mark":
                await store.mark_seen(key, ttl=ttl, note=note, namespace=name)
                continue
            claim = await store.claim(
                key, lease=rng.choice([60, 3_600]), ttl=ttl, note=note, namespace=name,
                on_abandoned="retry" if policy == "release" else policy,  # type: ignore[arg-type]
                keep_alive=False,
            )  # fmt: skip
            if policy == "release":
                await claim.release(rng.choice([0, 3_600]))
            clock.advance(0.5)
    clock.advance(60)


async def pages(
    backend: SqliteBackend, selection: Selection, limit: int
) -> list[list[Record]]:
    """Read all pages."""
    found: list[list[Record]] = []
    cursor = None
    while True:
        page = await backend.records(selection, limit=limit, cursor=cursor)
        found.append(page.records)
        cursor = page.cursor
        if cursor is None:
            return found


async def test_every_selection(
    backend: SqliteBackend, path: Path, clock: Clock
) -> None:
    """Any selection in pages of any length is what ``Selection.has`` selects of all."""
    names = ["", "n", "ä"]
    await fill(path, clock, names, EDGES)
    (everything,) = await pages(backend, Selection(), 1_000)
    states = {record.state for record in everything}
    assert states == {*RECORD_STATES} - {"pending"}
    middle = sorted(record.last_seen for record in everything)[len(everything) // 2]
    for name, state, prefix, since, limit in product(
        [None, *names, "none"], [None, *RECORD_STATES], ["", *EDGES[::2]],
        [None, middle], [1, 7],
    ):  # fmt: skip
        selection = Selection(name, state, prefix, since)
        found = [one for page in await pages(backend, selection, limit) for one in page]
        expected = [record for record in everything if selection.has(record)]
        assert sorted(found, key=repr) == sorted(expected, key=repr), selection


@pytest.mark.parametrize("prefix", EDGES)
async def test_every_prefix(backend: SqliteBackend, path: Path, prefix: str) -> None:
    """A prefix selects the keys that begin so, in the order of their bytes."""
    keys = [*EDGES, *(f"{edge}{more}" for edge in EDGES for more in EDGES)]
    async with AsyncSeenStore(path, ttl=None) as store:
        await store.mark_many(keys, namespace="n")
    for name in ("n", None):
        (page,) = await pages(backend, Selection(name, prefix=prefix), 1_000)
        expected = sorted({key for key in keys if key.startswith(prefix)})
        assert [record.key for record in page] == expected


async def test_a_page_is_bounded(
    backend: SqliteBackend, path: Path, clock: Clock
) -> None:
    """A page ends after so many rows, whether they are selected, expired or neither.

    In a range of another prefix, or of held keys, only its rows count.
    """
    async with AsyncSeenStore(path, clock=clock, purge_interval=None) as store:
        await store.mark_many((f"a{one}" for one in range(95)), ttl=60)
        await store.mark_many(f"b{one}" for one in range(100))
        await store.claim_many(
            [f"c{one}" for one in range(5)], lease=60, on_abandoned="hold"
        )
    clock.advance(60)
    for selection, number in (
        (Selection(), 21),
        (Selection(state="claimed"), 21),
        (Selection("", since=NOON + 1), 21),
        (Selection(prefix="b"), 11),
        (Selection(prefix="b9", state="claimed"), 2),
        (Selection(prefix="x"), 1),
        (Selection(state="held"), 1),
        (Selection(state="pending"), 21),
    ):
        assert len(await pages(backend, selection, 10)) == number, selection


async def test_a_page_has_few_namespaces(backend: SqliteBackend, path: Path) -> None:
    """A page ends after as many namespaces, though they have no such keys."""
    async with AsyncSeenStore(path, ttl=None) as store:
        for number in range(25):
            await store.mark_seen("k", namespace=str(number))
        await store.mark_seen("x", namespace="24")
    found = await pages(backend, Selection(prefix="x"), 10)
    assert [len(page) for page in found] == [0, 0, 1]


async def test_a_page_has_few_notes(backend: SqliteBackend, path: Path) -> None:
    """A page ends earlier if its notes are long."""
    async with AsyncSeenStore(path, ttl=None) as store:
        await store.mark_many(map(str, range(200)), note="x" * 65_000)
    found = await pages(backend, Selection(), 1_000)
    assert [len(page) for page in found] == [62, 62, 62, 14]
    assert len({record.key for page in found for record in page}) == 200


async def test_while_namespaces_change(backend: SqliteBackend, path: Path) -> None:
    """A key that is there from the first page to the last is returned once.

    Whatever is made, renamed or removed between two pages.
    """
    for name in (None, "b"):
        async with AsyncSeenStore(path, ttl=None) as store:
            for one in "abc":
                await store.mark_many(map(str, range(10)), namespace=one)
            found: list[Record] = []
            cursor = None
            for step in range(100):
                page = await backend.records(Selection(name), limit=3, cursor=cursor)
                found += page.records
                cursor = page.cursor
                if cursor is None:
                    break
                if step == 1:
                    await store.clear(namespace="a")
                    await store.rename("d", namespace="c")
                    await store.mark_many(map(str, range(10)), namespace="new")
                if step == 2 and name is None:
                    await store.rename("a", namespace="b")
            keys = [record.key for record in found if record.namespace in {"a", "b"}]
            if name is None:
                keys = keys[6:]  # of the namespace that was cleared
            assert sorted(keys) == list(map(str, range(10)))
            await store.clear(namespace=None)


@pytest.mark.parametrize("name", [None, "n"])
@pytest.mark.parametrize("is_analyzed", [False, True])
async def test_no_call_scans_all(
    backend: SqliteBackend,
    path: Path,
    statements: SqliteStatements,
    name: str | None,
    *,
    is_analyzed: bool,
) -> None:
    """What is asked of one key, one page or one namespace is found by an index."""
    async with AsyncSeenStore(backend) as store:
        for one in ("m", "n"):
            await store.mark_many(map(str, range(100)), note="text", namespace=one)
        if is_analyzed:
            write(path, "ANALYZE")
        statements.executed.clear()
        await store.check_and_mark_many(["1", "new"], namespace="n")
        await store.forget_many(["1", "2"], namespace="n")
        claims = await store.claim_many(["3", "x"], note="text", namespace="n")
        assert any(claims)
        await store.has_any(namespace=name)
        for state, prefix in product([None, *RECORD_STATES], ["", "9"]):
            async for _ in store.records(state=state, prefix=prefix, namespace=name):
                pass
        for remove in (backend.purge, backend.clear):
            page = await remove(
                namespace=name, limit=10, cursor=None, lock_timeout=None
            )
            await remove(
                namespace=name, limit=10, cursor=page.cursor, lock_timeout=None
            )
        await backend.cleanup(0, namespace=name, limit=10, cursor=None)
        await store.rename("other", namespace="n")
        assert await store.namespaces() == ["m", "other"]
    plans = statements.plans(path)
    assert len(plans) > 50
    allowed = {"SCAN seen"} if name is None else set()  # has_any: the first seen key
    assert {one for one in plans if "SCAN seen" in one} <= allowed
    assert [one for one in plans if "TEMP B-TREE" in one or "SCAN detail" in one] == []
    assert [one for one in plans if "AUTOMATIC" in one] == []
    held = [one for one in plans if "seen_held" in one]
    assert held
    assert all("(namespace,key)>(?,?) AND (namespace,key)<(?,?)" in one for one in held)
