"""Group commit: callers that ask at once share a transaction, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.backends import _state_machine
from catalyst_seen.backends._state_machine import transition
from catalyst_seen.backends.base import BatchResult
from catalyst_seen.backends.operations import Operation

from ..support.backends import Batch, intercepted, recorded
from ..support.locks import write_lock
from ..support.sqlite_faults import SqliteFaults
from ..support.sqlite_files import read
from ..support.targets import Target

Batches = list[list[str]]


@pytest.fixture
def sent(store: AsyncSeenStore) -> Iterator[Batches]:
    """The keys of every batch that the store sends."""
    with recorded(store) as batches:
        yield batches


@pytest.fixture
def recording() -> Iterator[ExitStack]:
    """A stack for the recordings of stores that a test opens."""
    with ExitStack() as stack:
        yield stack


class TestTogether:
    """Who shares a batch."""

    async def test_concurrent_calls_share_two_batches(
        self, store: AsyncSeenStore, sent: Batches
    ) -> None:
        """A hundred concurrent calls are sent in two batches, in order."""
        keys = [f"key {number}" for number in range(100)]
        calls = [store.check_and_mark(key) for key in keys]
        sightings = await asyncio.gather(*calls)
        assert [sighting.key for sighting in sightings if sighting] == keys
        assert sent == [keys[:1], keys[1:]]  # the first did not wait for company
        assert (await store.stats()).batches == 2

    async def test_repeated_calls_share_batches(
        self, store: AsyncSeenStore, sent: Batches
    ) -> None:
        """Tasks that repeat calls continue to share batches."""

        async def ask(task: int) -> None:
            for number in range(20):
                assert await store.check_and_mark(f"{task} {number}")

        await asyncio.gather(*(ask(task) for task in range(100)))
        assert sum(map(len, sent)) == 2_000
        assert len(sent) < 2 * 21

    async def test_claims_and_confirms_share_batches(
        self, store: AsyncSeenStore, sent: Batches
    ) -> None:
        """Tasks that claim and confirm share batches."""

        async def handle(task: int) -> None:
            for number in range(20):
                async with store.claim(f"{task} {number}") as claim:
                    assert claim

        await asyncio.gather(*(handle(task) for task in range(100)))
        assert sum(map(len, sent)) == 4_000
        assert len(sent) < 2 * 41

    async def test_single_call_is_sent_at_once(
        self, store: AsyncSeenStore, sent: Batches
    ) -> None:
        """A single caller waits for no other call: one call, one batch."""
        for number in range(10):
            await store.mark_seen(str(number))
        assert sent == [[str(number)] for number in range(10)]

    async def test_verbs_share_a_batch_in_order(
        self, store: AsyncSeenStore, sent: Batches
    ) -> None:
        """Different verbs share a batch, and take effect in the order of the calls."""
        owned = await store.claim("owned")
        sent.clear()
        answers: list[Any] = await asyncio.gather(
            store.is_seen("k"),
            store.mark_seen("k"),
            store.check_and_mark("k"),
            store.get("k"),
            store.forget("k"),
            store.check_and_mark_many(["k", "l", "k"]),
            store.filter_new(["k", "m"]),
            owned.confirm(),
            store.claim("owned"),
            store.claim("k"),
            store.claim("free"),
            store.claim_many(["free", "other"]),
            store.mark_many(["free"]),
            store.is_seen("free"),
        )
        assert len(sent) == 2
        seen, _, again, record, forgotten, many, fresh, _, *claims, __, marked = answers
        assert (seen, again.verdict, forgotten) == (False, Verdict.DUPLICATE, True)
        assert record is not None
        assert [one.verdict for one in many] == ["new", "new", "duplicate"]
        assert fresh == ["m"]
        assert [claim.verdict for claim in claims[:3]] == [
            "duplicate", "duplicate", "new",
        ]  # fmt: skip
        assert [claim.verdict for claim in claims[3]] == ["in_flight", "new"]
        assert marked is True

    @pytest.mark.parametrize("limit", [1, 2, 10])
    async def test_batch_size_is_limited(
        self, target: Target, limit: int, recording: ExitStack
    ) -> None:
        """No batch exceeds its limit; the other calls wait, in order."""
        config = target.config(max_in_flight=limit, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            sent = recording.enter_context(recorded(store))
            keys = [str(number) for number in range(50)]
            await asyncio.gather(*map(store.mark_seen, keys))
            assert [key for batch in sent for key in batch] == keys
            assert max(map(len, sent)) == limit

    async def test_large_call_is_never_divided(
        self, target: Target, recording: ExitStack
    ) -> None:
        """A call with more keys than the limit is a batch of its own."""
        config = target.config(max_in_flight=3, purge_interval=None)
        async with AsyncSeenStore(config) as store:
            sent = recording.enter_context(recorded(store))
            many = [f"many {number}" for number in range(10)]
            await asyncio.gather(
                store.mark_seen("a"),
                store.mark_many(["b", "c"]),
                store.mark_many(many),
                store.mark_many(["d", "e"]),
                store.mark_many(["f", "g"]),
            )
            assert sent == [["a"], ["b", "c"], many, ["d", "e"], ["f", "g"]]

    async def test_other_work_runs_between_batches(self, store: AsyncSeenStore) -> None:
        """Work outside batches runs between two of them, however busy the callers."""
        is_over = False

        async def ask(task: int) -> None:
            number = 0
            while not is_over:
                number += 1
                await store.mark_seen(f"{task} {number}")

        tasks = [asyncio.create_task(ask(task)) for task in range(100)]
        await asyncio.sleep(0.05)
        before = (await store.stats()).batches
        async with asyncio.timeout(60):
            for _ in range(10):
                await store.purge_expired(namespace="no rows")
        after = (await store.stats()).batches
        is_over = True
        await asyncio.gather(*tasks)
        assert after - before < 30


class TestApart:
    """What one caller suffers is no matter of the others."""

    async def test_each_caller_gets_its_own_result(self, target: Target) -> None:
        """Among many calls, some cancelled, every caller gets its own result."""
        rng = random.Random(20_261_124)
        config = target.config(max_in_flight=37, purge_interval=None)

        async def ask(store: AsyncSeenStore, number: int) -> str:
            namespace = f"feed {number % 7}"
            keys = [f"{number} {place}" for place in range(number % 5)]
            await asyncio.sleep(rng.random() / 100)
            sightings = await store.check_and_mark_many(keys, namespace=namespace)
            assert [(one.key, one.namespace, one.verdict) for one in sightings] == [
                (key, namespace, Verdict.NEW) for key in keys
            ]
            claim = await store.claim(f"{number}", namespace=namespace)
            assert (claim.key, claim.namespace, bool(claim)) == (
                f"{number}", namespace, True,
            )  # fmt: skip
            await asyncio.sleep(rng.random() / 100)
            await claim.confirm()
            record = await store.get(f"{number}", namespace=namespace)
            assert record is not None
            assert (record.key, record.namespace) == (f"{number}", namespace)
            return "done"

        async with AsyncSeenStore(config) as store:
            tasks = [asyncio.create_task(ask(store, number)) for number in range(500)]
            for task in rng.sample(tasks, 150):
                await asyncio.sleep(0.0001)
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [end for end in ends if isinstance(end, Exception)]
        assert not errors
        assert ends.count("done") >= 350

    async def test_invalid_operation_fails_alone(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An operation that cannot be executed fails alone."""

        def picky(row: Any, operation: Operation[Any], now: float) -> Any:
            if operation.key == "bad":
                raise ZeroDivisionError("a bad operation")
            return transition(row, operation, now)

        monkeypatch.setattr(_state_machine, "transition", picky)
        async with AsyncSeenStore(path) as store:
            *answers, many = await asyncio.gather(
                *(store.check_and_mark(key) for key in ("0", "1", "bad", "2")),
                store.check_and_mark_many(["3", "bad"], note=str),
                return_exceptions=True,
            )
            assert [bool(answer) for answer in answers] == [True] * 4
            assert isinstance(answers[2], ZeroDivisionError)
            assert isinstance(many, ZeroDivisionError)
            assert await store.filter_new(["0", "1", "2", "3"]) == ["3"]

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ("SQLITE_FULL", StoreUnavailableError),
            ("SQLITE_IOERR_FSYNC", OutcomeUnknownError),
        ],
    )
    async def test_failed_batch_fails_all_its_calls(
        self,
        path: Path,
        error: str,
        expected: type[Exception],
    ) -> None:
        """A failed batch raises in each of its calls, as an exception of its own."""
        faults = SqliteFaults()
        config = SeenStoreConfig(path, purge_interval=None, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            await store.mark_seen("before")
            faults.refuse("COMMIT", error, [False, False])
            calls = [
                asyncio.create_task(store.mark_seen(key))
                for key in ["first", *map(str, range(20))]
            ]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ends] == [expected] * 21
            assert all(str(path) in str(end) for end in ends)
            assert len({id(end) for end in ends}) == 21
            for end in ends:
                assert isinstance(end, StoreError)
                assert end.__cause__ is not None
            await asyncio.gather(*(store.mark_seen(f"{n}") for n in range(20)))
            assert await store.count() == 21

    async def test_failed_write_spares_the_readers(self, path: Path) -> None:
        """A batch that cannot be written fails for no caller that only reads."""
        faults = SqliteFaults()
        settings = SeenStoreConfig(
            path, recent_staleness=0, on_error="raise", purge_interval=None,
            tuning=faults.tuning,
        )  # fmt: skip
        async with AsyncSeenStore(settings) as store:
            await store.mark_seen("seen")
            faults.refuse("COMMIT", "SQLITE_FULL", [False, False])
            marks = [asyncio.create_task(store.mark_seen("0"))]
            await asyncio.sleep(0)
            marks += [asyncio.create_task(store.mark_seen(key)) for key in "12"]
            record, *seen, fresh = await asyncio.gather(
                store.get("seen"),
                store.is_seen("seen"),
                store.is_seen("1"),
                store.filter_new(["seen", "1"]),
            )
            ends = await asyncio.gather(*marks, return_exceptions=True)
            assert record is not None
            assert (seen, fresh) == ([True, False], ["1"])
            assert [type(end) for end in ends] == [StoreUnavailableError] * 3

    async def test_failed_reads_are_not_repeated(
        self, path: Path, recording: ExitStack
    ) -> None:
        """A batch of readers that fails is not sent again."""
        faults = SqliteFaults()
        config = SeenStoreConfig(path, purge_interval=None, tuning=faults.tuning)
        async with AsyncSeenStore(config) as store:
            sent = recording.enter_context(recorded(store))
            faults.refuse("COMMIT", "SQLITE_FULL", [True] * 10)
            ends = await asyncio.gather(
                *(store.get(key) for key in "abc"), return_exceptions=True
            )
        assert [type(end) for end in ends] == [StoreUnavailableError] * 3
        assert sent == [["a"], ["b", "c"]]

    async def test_call_cancelled_before_send_has_no_effect(self, path: Path) -> None:
        """A call that is cancelled before it is sent has no effect."""
        async with AsyncSeenStore(path, purge_interval=None) as store:
            with write_lock(path):
                first = asyncio.create_task(store.mark_seen("first"))
                await asyncio.sleep(0.05)
                others = [
                    asyncio.create_task(store.mark_seen(f"{number}"))
                    for number in range(10)
                ]
                await asyncio.sleep(0.05)
                for other in others[::2]:
                    other.cancel()
            await first
            ends = await asyncio.gather(*others, return_exceptions=True)
            assert [type(end) for end in ends] == [
                asyncio.CancelledError,
                type(None),
            ] * 5
        keys = read(path, "SELECT key FROM seen WHERE key <> 'first' ORDER BY key")
        assert keys == [("1",), ("3",), ("5",), ("7",), ("9",)]

    @pytest.mark.parametrize("turns", range(5))
    async def test_cancelled_dispatcher_hangs_no_caller(
        self, store: AsyncSeenStore, turns: int
    ) -> None:
        """A cancelled task of the store hangs no caller; the store works on."""
        calls = [asyncio.create_task(store.mark_seen(f"{n}")) for n in range(50)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task.get_name() == "catalyst-seen calls":
                task.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait(calls)
            assert await store.check_and_mark("next")
        assert {call.cancelled() or call.exception() for call in calls} <= {True, None}

    async def test_dispatcher_cancelled_while_isolating(
        self, store: AsyncSeenStore, recording: ExitStack
    ) -> None:
        """A cancelled task that sends calls one by one hangs no caller."""

        async def fail_together(
            operations: Batch, apply: Callable[[], Awaitable[BatchResult]]
        ) -> BatchResult:
            task = asyncio.current_task()
            if len(operations) > 1:
                raise ZeroDivisionError("a bad operation")
            if task is not None and task.get_name() == "catalyst-seen calls":
                task.cancel()
            return await apply()

        recording.enter_context(intercepted(store, fail_together))
        calls = [asyncio.create_task(store.mark_seen(f"{n}")) for n in range(10)]
        async with asyncio.timeout(60):
            await asyncio.wait(calls)
        assert [call.cancelled() for call in calls] == [False] + [True] * 9


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "{}e5",
        '"{}\\',
        "\x01{}\x1f\u2028\ufffe",
        "null {} \U0001f600",
        "[{}]",
        pytest.param("x" * 2_000 + "{}", id="long"),
    ],
)
async def test_batch_keeps_keys_apart(store: AsyncSeenStore, form: str) -> None:
    """A batch keeps keys of any form apart, and unchanged."""
    keys = [form.format(number) for number in range(20)]
    assert all(await store.check_and_mark_many(keys))
    assert not any(await store.check_and_mark_many(keys))
    assert [await store.get(key) is not None for key in keys] == [True] * 20
    assert await store.count() == 20
