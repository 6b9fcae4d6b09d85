"""SeenStore, the blocking twin, and the old helper."""

from __future__ import annotations

import gc
import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from catalyst_seen import (
    AsyncSeenStore,
    BlockingClaim,
    Claim,
    ClaimNotOwnedError,
    ConfigurationError,
    InvalidKeyError,
    LeaseLostError,
    SchemaError,
    SeenStore,
    SeenStoreConfig,
    StoreClosedError,
    StoreUnavailableError,
    Verdict,
    should_filter,
)
from catalyst_seen._portal import _Crossing
from catalyst_seen.backends.operations import IsSeen

from ..support.clock import DAY, NOON, Clock
from ..support.locks import write_lock
from ..support.scripts import NO_FORK_WARNING, Run
from ..support.sqlite_files import read, write
from ..support.targets import Target


def public(class_: type) -> dict[str, object]:
    """What a class shows, but for opening and closing."""
    return {
        name: getattr(class_, name)
        for name in dir(class_)
        if not name.startswith("_") and name not in {"open", "aclose", "close"}
    }


def signature(verb: Callable[..., object]) -> str:
    """What a verb takes and gives, as the asynchronous twin would say it."""
    twins = re.compile(r"\b(Blocking|Unawaited)(?=Claim|Pending)")
    text = twins.sub("", str(inspect.signature(verb)))
    text = text.replace("AsyncIterator", "Iterator")
    # The blocking twin calls functions only, so it has no overloads.
    return text.replace("Once[T]", "Once[object]").replace("[], T]", "[], object]")


def blocking(verb: object) -> str:
    """The docstring of an asynchronous verb, as the blocking twin says it.

    Each twin has its own, in the source, because editors show what stands there.
    """
    text = inspect.getdoc(verb) or ""
    return re.sub(r"async (?=with|for)|await ", "", text)


@pytest.mark.usefixtures("nothing_left")
class TestTwin:
    """The same verbs, blocking."""

    def test_twins_have_the_same_members(self) -> None:
        """Both twins have the same public members; only open and close differ."""
        assert set(public(SeenStore)) == set(public(AsyncSeenStore))

    @pytest.mark.parametrize("name", [*sorted(public(AsyncSeenStore)), "__init__"])
    def test_twins_have_the_same_signatures(self, name: str) -> None:
        """Each verb has the signature and the docstring of its twin."""
        ours, theirs = getattr(SeenStore, name), getattr(AsyncSeenStore, name)
        if isinstance(ours, property):
            return
        assert signature(ours) == signature(theirs)
        if name not in {"__init__", "claim", "claim_many", "once", "pending"}:
            assert inspect.getdoc(ours) == blocking(theirs)

    @pytest.mark.parametrize(
        "name", ["confirm", "release", "hold", "renew", "remaining"]
    )
    def test_claims_of_twins_have_the_same_verbs(self, name: str) -> None:
        """The verbs of a claim have the signatures and docstrings of their twins."""
        ours, theirs = getattr(BlockingClaim, name), getattr(Claim, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert inspect.getdoc(ours) == blocking(theirs)

    def test_each_verb_does_what_its_twin_does(
        self, target: Target, clock: Clock
    ) -> None:
        """Each verb does what its twin does."""
        config = target.config(purge_interval=None)
        with SeenStore(config, ttl=DAY) as store:
            assert not store.is_seen("a")
            store.mark_seen("a", NOON - 10)
            store.mark_many(["b", "c"], ttl=60, namespace="n")
            assert store.check_and_mark("d").verdict is Verdict.NEW
            assert [
                bool(sighting) for sighting in store.check_and_mark_many(["d", "e"])
            ] == [False, True]
            assert store.filter_new(["a", "f"]) == ["f"]
            assert store.filter_new([("a", 1), ("f", 2)], key=lambda p: p[0]) == [
                ("f", 2)
            ]
            assert store.forget("e")
            record = store.get("a")
            assert record is not None
            assert record.first_seen == NOON - 10
            assert (store.count(), store.count(namespace="n")) == (4, 2)
            store.mark_many(["a", "d"], NOON, ttl=None)
            clock.advance(60)
            assert store.purge_expired() == target.removed(2)
            clock.advance(DAY)
            assert store.cleanup_old_entries(0.5) == 2
            assert store.stats().keys == 0
            assert target.location in store.location

    def test_constructing_opens(self, path: Path) -> None:
        """Constructing opens, or raises an error and leaves nothing open."""
        store = SeenStore(path)
        assert path.exists()
        store.close()
        path.write_bytes(b"junk")
        path.with_name("seen.db-wal").unlink(missing_ok=True)
        for _ in range(5):
            with pytest.raises(SchemaError, match="not a SQLite database"):
                SeenStore(path)

    def test_second_close_does_nothing(self, path: Path) -> None:
        """A second close does nothing; a verb afterwards is refused."""
        store = SeenStore(path)
        store.close()
        store.close()
        with pytest.raises(StoreClosedError, match="closed: make a new store"):
            store.is_seen("k")

    def test_error_in_blocking_store_block_propagates(self, path: Path) -> None:
        """An exception in the block propagates from a closed store."""
        with pytest.raises(ZeroDivisionError), SeenStore(path) as store:
            raise ZeroDivisionError
        with pytest.raises(StoreClosedError):
            store.is_seen("k")

    def test_store_errors_reach_the_caller(self, path: Path) -> None:
        """A store error reaches the caller unchanged."""
        config = SeenStoreConfig(path, timeout=0.5)
        with (
            SeenStore(config) as store,
            write_lock(path),
            pytest.raises(StoreUnavailableError, match="locked"),
        ):
            store.mark_seen("k")

    def test_generators_run_in_the_callers_thread(self) -> None:
        """Code that a caller passes in runs in the thread of the caller."""
        here = threading.get_ident()
        ran = set()

        def note(item: str) -> str:
            ran.add(threading.get_ident())
            return item

        with SeenStore(":memory:") as store:
            store.mark_many(note(key) for key in "ab")
            store.check_and_mark_many(note(key) for key in "bc")
            store.filter_new((note(key) for key in "cd"), key=note)
        assert ran == {here}


@pytest.mark.usefixtures("nothing_left")
class TestClaims:
    """Claims in blocking code."""

    @pytest.mark.usefixtures("clock")
    def test_blocking_claim_block_settles(self, target: Target) -> None:
        """A normal block end confirms; an exception releases and propagates."""
        config = target.config(purge_interval=None)
        with SeenStore(config, ttl=DAY) as store:
            with store.claim("k", lease=5, ttl=60, namespace="n") as claim:
                assert claim
                assert (claim.key, claim.namespace) == ("k", "n")
                assert (claim.verdict, claim.attempt) == (Verdict.NEW, 1)
                assert (claim.lease_until, claim.remaining()) == (NOON + 5, 5)
                with store.claim("k", namespace="n") as other:
                    assert not other
                    assert (other.verdict, other.retry_after) == (Verdict.IN_FLIGHT, 5)
                assert other.token != claim.token
                assert repr(claim).startswith(
                    "<BlockingClaim 'k' namespace='n' new attempt=1 remaining"
                )
            record = store.get("k", namespace="n")
            assert record is not None
            assert record.expires_at == NOON + 60
            for error in (ValueError, KeyboardInterrupt):
                with pytest.raises(error), store.claim("back"):
                    raise error
            assert store.claim("back").attempt == 3

    def test_blocking_claim_by_hand(self, clock: Clock) -> None:
        """A claim is taken at once, and has confirm, release and renew."""
        with SeenStore(":memory:", clock=clock) as store:
            claim = store.claim("k", lease=5, on_abandoned="hold")
            clock.advance(5)
            assert store.claim("k").verdict is Verdict.HELD
            claim.renew(10)
            assert claim.remaining() == 10
            assert claim.release(delay=3) is True
            assert store.claim("k").retry_after == 3
            clock.advance(3)
            claim = store.claim("k")
            claim.confirm(ttl=None)
            store.forget("k")
            with pytest.raises(LeaseLostError):
                claim.confirm()
            with pytest.raises(LeaseLostError), store.claim("k"):
                store.forget("k")
            store.claim("held", lease=1, on_abandoned="hold")
            clock.advance(1)
            assert [record.key for record in store.held()] == ["held"]
            assert store.resolve("held", handled=True)

    def test_lost_lease_is_raised_at_the_end_of_the_block(self, path: Path) -> None:
        """A thread learns at the normal end of its block that its lease is lost."""
        config = SeenStoreConfig(path, timeout=0.2, purge_interval=None)
        with SeenStore(config) as store:
            claim = store.claim("k", lease=0.3, keep_alive=True)
            renewer = claim._claim._renewer
            lock, lost = write_lock(path), pytest.raises(LeaseLostError)
            with lost, claim, lock:
                while renewer and not renewer._lost:
                    time.sleep(0.01)

    def test_blocking_claim_batches(self) -> None:
        """Claims of many keys come from generators in the thread of the caller."""
        with SeenStore(":memory:") as store:
            claims = store.claim_many(key for key in "aab")
            assert list(map(bool, claims)) == [True, False, True]
            confirmed = store.confirm_many((c for c in claims if c.key == "a"), ttl=9)
            assert confirmed == [True, False]
            assert store.release_many(claims, delay=5) == [False, False, True]
            wrong: Any = ["a"]
            with pytest.raises(TypeError, match="must be a Claim, not str"):
                store.confirm_many(wrong)

    def test_blocking_block_renews_its_lease(self, path: Path, clock: Clock) -> None:
        """The lease is renewed while the block runs; a loss is raised at its end."""
        with SeenStore(path, clock=clock) as store:
            with store.claim("k", lease=0.3, keep_alive=True) as claim:
                for _ in range(5):
                    clock.advance(0.2)
                    deadline = time.monotonic() + 60
                    while claim.remaining() < 0.2:
                        assert time.monotonic() < deadline
                        time.sleep(0.001)
                    assert store.claim("k").verdict is Verdict.IN_FLIGHT
            assert store.is_seen("k")
            with (
                pytest.raises(LeaseLostError),
                store.claim("lost", lease=0.1, keep_alive=True),
            ):
                store.forget("lost")
                time.sleep(0.2)

    def test_thread_waits_for_anothers_claim(self, path: Path) -> None:
        """A thread may wait for the claim of another thread."""
        with SeenStore(path) as store, ThreadPoolExecutor(1) as pool:
            owner = store.claim("k")
            waiting = pool.submit(store.claim, "k", wait=30)
            time.sleep(0.05)
            owner.release()
            assert waiting.result(60).attempt == 2

    def test_block_error_wins_over_a_closed_store(self, path: Path) -> None:
        """An exception of the block propagates also if the store was closed in it."""
        store = SeenStore(path)
        with pytest.raises(ValueError, match="mine"), store.claim("k"):
            store.close()
            raise ValueError("mine")
        store = SeenStore(path)
        with pytest.raises(StoreClosedError), store.claim("other"):
            store.close()

    @pytest.mark.slow
    def test_interrupted_wait_leases_nothing(self, path: Path, run_script: Run) -> None:
        """Ctrl-C during a wait for a claim ends the wait, and leases nothing."""
        script = """
            import signal, sys, threading, time
            from catalyst_seen import SeenStore
            signal.signal(signal.SIGUSR1, signal.default_int_handler)
            with SeenStore(sys.argv[1]) as store:
                owner = store.claim("k")
                interrupt = lambda: signal.pthread_kill(
                    threading.main_thread().ident, signal.SIGUSR1
                )
                waiters = store._store._dispatcher.waiters
                def interrupt_the_wait():
                    while not waiters.waiting:
                        time.sleep(0.001)
                    interrupt()
                started = time.monotonic()
                try:
                    threading.Thread(target=interrupt_the_wait).start()
                    store.claim("k", wait=90)
                except KeyboardInterrupt:
                    print(time.monotonic() - started < 60)
                deadline = time.monotonic() + 60
                while waiters.waiting and time.monotonic() < deadline:
                    time.sleep(0.001)
                print(not waiters.waiting)
                owner.release()
                time.sleep(0.3)
                print(store.claim("k").verdict)
        """
        done = run_script(script, str(path))
        assert done.stdout.split() == ["True", "True", "retry"], done.stderr

    @pytest.mark.parametrize("many", [False, True])
    @pytest.mark.parametrize("has_answer", [False, True])
    def test_interrupt_around_the_result_leases_nothing(
        self,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        many: bool,
        has_answer: bool,
    ) -> None:
        """Ctrl-C just before or after the result leases nothing."""
        with SeenStore(path) as store:
            wait = _Crossing.wait

            def wait_and_interrupt(crossing: _Crossing[Any]) -> None:
                if has_answer:
                    wait(crossing)
                while crossing._task is None:
                    time.sleep(0.001)
                raise KeyboardInterrupt

            with monkeypatch.context() as interrupted:
                interrupted.setattr(_Crossing, "wait", wait_and_interrupt)
                interrupted.setattr(_Crossing, "cancel", lambda _: None)  # too late
                with pytest.raises(KeyboardInterrupt):
                    _ = store.claim_many(["a", "b"]) if many else store.claim("a")
            for key in ["a", "b"] if many else ["a"]:
                assert store.claim(key, wait=30).verdict is Verdict.RETRY

    @pytest.mark.parametrize("has_begun", [False, True])
    @pytest.mark.slow
    def test_interrupt_during_a_claim_leases_nothing(
        self, path: Path, run_script: Run, *, has_begun: bool
    ) -> None:
        """Ctrl-C while a claim is submitted or executed leases nothing."""
        script = """
            import signal, sys, threading, time
            from catalyst_seen import SeenStore
            from catalyst_seen.backends.sqlite.database import Database
            signal.signal(signal.SIGUSR1, signal.default_int_handler)
            has_begun = sys.argv[2] == "True"
            with SeenStore(sys.argv[1], purge_interval=None) as store:
                apply = Database.apply
                def slow(*args, **options):
                    Database.apply = apply
                    if not has_begun:
                        interrupt()
                        time.sleep(0.3)
                    answer = apply(*args, **options)
                    if has_begun:
                        interrupt()
                        time.sleep(0.3)
                    return answer
                interrupt = lambda: signal.pthread_kill(
                    threading.main_thread().ident, signal.SIGUSR1
                )
                try:
                    Database.apply = slow
                    store.claim("k")
                except KeyboardInterrupt:
                    print(bool(store.claim("k", wait=30)))
        """
        done = run_script(script, str(path), str(has_begun))
        assert done.stdout == "True\n", done.stderr

    def test_interrupt_on_block_entry_releases(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claim whose block Ctrl-C kept from beginning is released."""
        with SeenStore(path) as store:
            claim = store.claim("k", lease=0.3, keep_alive=True)
            call = store._thread.call

            def interrupted(work: Any, **rest: Any) -> object:
                answer = call(work, **rest)
                if getattr(work, "func", work).__name__ == "__aenter__":
                    raise KeyboardInterrupt
                return answer

            monkeypatch.setattr(store._thread, "call", interrupted)
            with pytest.raises(KeyboardInterrupt), claim:
                pytest.fail("there is no block")
            assert store.claim("k", lease=0.1).verdict is Verdict.RETRY
            time.sleep(0.3)  # nobody renews it
            assert store.claim("k").attempt == 3

    @pytest.mark.parametrize("has_begun", [False, True])
    def test_interrupt_before_a_call_leaves_nothing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, *, has_begun: bool
    ) -> None:
        """Ctrl-C while a call is passed to the loop leaves nothing running."""
        with SeenStore(path) as store:
            claim = store.claim("block", keep_alive=True)
            start = store._thread._submit

            def interrupted(crossing: _Crossing[Any]) -> None:
                if has_begun:
                    start(crossing)
                monkeypatch.undo()
                raise KeyboardInterrupt

            def interrupt_the_next() -> None:
                monkeypatch.setattr(store._thread, "_submit", interrupted)

            interrupt_the_next()
            with pytest.raises(KeyboardInterrupt):
                store.claim("k")
            assert store.claim("k", wait=30)
            interrupt_the_next()
            with pytest.raises(KeyboardInterrupt), claim:
                pytest.fail("there is no block")
            assert store.claim("block", wait=30).attempt == 2

    def test_blocking_close_ends_all_waits(self, path: Path) -> None:
        """A thread that waits for a key does not keep the store from closing."""
        store = SeenStore(path)
        store.claim("k")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.claim, "k", wait=200)
            time.sleep(0.1)
            started = time.monotonic()
            store.close()
            assert waiting.result().verdict is Verdict.IN_FLIGHT
            assert time.monotonic() - started < 60  # of 200


@pytest.mark.usefixtures("nothing_left")
class TestThreads:
    """From any thread."""

    @pytest.mark.slow
    def test_one_thread_wins_each_key(self, path: Path) -> None:
        """Of 200 threads that race for the same keys, one wins each."""
        keys = [f"key {number}" for number in range(20)]
        start = threading.Barrier(200)

        def work(store: SeenStore) -> list[str]:
            start.wait()
            return [key for key in keys if store.check_and_mark(key)]

        with SeenStore(path) as store, ThreadPoolExecutor(200) as pool:
            won = [pool.submit(work, store) for _ in range(200)]
            assert sorted(key for one in won for key in one.result()) == sorted(keys)

    @pytest.mark.slow
    def test_close_completes_or_refuses_each_call(self, path: Path) -> None:
        """A close lets calls complete; each completes or is refused, none hangs."""
        for _ in range(5):
            self.close_under_load(path)
            write(path, "DELETE FROM seen")

    def test_close_waits_for_a_call_under_way(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that has begun completes, even if it reaches the loop late."""
        store = SeenStore(path)
        call, has_begun = store._thread.call, threading.Event()

        def late(work: Any) -> object:
            has_begun.set()
            time.sleep(0.2)
            return call(work)

        monkeypatch.setattr(store._thread, "call", late)
        with ThreadPoolExecutor(1) as pool:
            marked = pool.submit(store.mark_seen, "k")
            has_begun.wait()
            store.close()
            assert marked.result(60) is None
        assert read(path, "SELECT key FROM seen") == [("k",)]

    def close_under_load(self, path: Path) -> None:
        """Ten threads close a store that twenty are using."""
        store = SeenStore(path, purge_interval=None)
        done, refused = [], []

        def work(name: int) -> None:
            for number in range(1_000):
                key = f"{name} {number}"
                try:
                    store.mark_seen(key)
                except StoreClosedError:
                    refused.append(name)
                    return
                done.append(key)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        closers = [threading.Thread(target=store.close) for _ in range(10)]
        for thread in closers:
            thread.start()
        for thread in closers + threads:
            thread.join(60)
            assert not thread.is_alive()
        assert sorted(refused) == list(range(20))
        assert {key for (key,) in read(path, "SELECT key FROM seen")} >= set(done)

    @pytest.mark.slow
    def test_forked_blocking_store_is_refused(
        self, path: Path, run_script: Run
    ) -> None:
        """A child is refused at once, may close and exit; the parent continues."""
        script = """
            import os, sys
            from catalyst_seen import SeenStore, StoreClosedError
            with SeenStore(sys.argv[1]) as store:
                for number in range(20):
                    store.mark_seen(str(number))
                    child = os.fork()
                    if child == 0:
                        try:
                            store.is_seen("k")
                        except StoreClosedError as exc:
                            assert "before a fork" in str(exc)
                            store.close()
                            sys.exit(7)
                        sys.exit(1)
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
                print(store.count())
        """
        done = run_script(script, str(path), options=NO_FORK_WARNING)
        assert (done.stdout, done.stderr) == ("20\n", "")


class TestCached:
    """What the cache knows is answered in the thread of the caller."""

    @pytest.fixture
    def stuck(self, path: Path) -> Iterator[SeenStore]:
        """A store with cached keys, whose event loop does not run any more."""
        config = SeenStoreConfig(path, purge_interval=None, recent_staleness=3_600)
        held, entered, passed = (threading.Event() for _ in range(3))

        def hold() -> None:
            entered.set()
            held.wait(60)
            passed.set()

        with SeenStore(config) as store:
            store.mark_many(["a", "b"])
            store.check_and_mark_many(["a", "b"])
            assert store.is_seen("a")
            feed = store.namespace("feed")
            feed.mark_seen("c")
            assert feed.is_seen("c")
            store._thread.post(hold)
            assert entered.wait(60)
            yield store
            assert not passed.is_set(), "a call has waited for the loop"
            held.set()

    def test_answers_without_the_loop(self, stuck: SeenStore) -> None:
        """Keys and listings that are cached are answered while the loop is stuck."""
        assert stuck.is_seen("a")
        assert stuck.check_and_mark("a").verdict is Verdict.DUPLICATE
        assert not stuck.claim("a")
        assert not stuck.claim("a", required=False, note="text", lease=5)
        assert stuck.filter_new(["a", "b"]) == []
        assert stuck.filter_new([1, 2], key=lambda n: "ab"[n - 1]) == []
        assert not any(stuck.check_and_mark_many(["a", "b"]))
        feed = stuck.namespace("feed")
        assert feed.is_seen("c")
        assert not feed.check_and_mark("c")

    def test_errors_without_the_loop(self, stuck: SeenStore) -> None:
        """Arguments are checked as always, and a required claim raises."""
        with pytest.raises(InvalidKeyError):
            stuck.is_seen("")
        with pytest.raises(ClaimNotOwnedError):
            stuck.claim("a", required=True)
        with pytest.raises(TypeError):
            stuck.check_and_mark("a", ttl=object())  # type: ignore[arg-type]

    def test_closed_store(self, path: Path) -> None:
        """A closed store answers nothing, and its error has no strange context."""
        store = SeenStore(path)
        store.mark_seen("a")
        assert store.is_seen("a")
        store.close()
        for call in (store.is_seen, store.check_and_mark, store.claim):
            with pytest.raises(StoreClosedError) as caught:
                call("a")
            assert caught.value.__context__ is None

    def test_forget_by_another_thread(self, path: Path) -> None:
        """What one thread has forgotten no other thread finds in the cache."""
        with SeenStore(path) as store:
            for _ in range(50):
                store.mark_many(["a", "b"])
                store.filter_new(["a", "b"])
                assert store.is_seen("a")
                forgetting = threading.Thread(target=store.forget, args=("a",))
                forgetting.start()
                forgetting.join()
                assert not store.is_seen("a")
                assert store.filter_new(["a", "b"]) == ["a"]

    def test_notes_are_made_once(self, path: Path) -> None:
        """A function of the note is called once for each key."""
        called: list[str] = []

        def note(key: str) -> str:
            called.append(key)
            return key

        with SeenStore(path) as store:
            assert all(store.check_and_mark_many(["a", "b"], note=note))
            assert called == ["a", "b"]

    def test_claim_of_a_cached_key_belongs_to_the_store(self, path: Path) -> None:
        """It is accepted where claims of the store are."""
        with SeenStore(path) as store:
            store.mark_seen("a")
            assert store.is_seen("a")
            claims = [store.claim("a"), store.claim("b")]
            assert store.confirm_many(claims) == [False, True]

    def test_row_is_read_after_the_check(self, path: Path) -> None:
        """A row that was replaced while the cache is found valid is not returned."""
        with SeenStore(path) as store:
            store.mark_seen("a")
            cache = store._store._dispatcher.cache

            def forget_first() -> bool:
                cache._drop([("", "a")])
                return True

            with patch.object(cache, "_is_valid", forget_first):
                assert cache.find(IsSeen("", "a")) is None

    @pytest.mark.slow
    def test_signal_handler(self, path: Path, run_script: Run) -> None:
        """A signal handler may call the store, whatever it interrupts there."""
        script = """
            import signal, sys
            from catalyst_seen import SeenStore, SeenStoreConfig
            config = SeenStoreConfig(sys.argv[1], recent_staleness=3_600)
            with SeenStore(config) as store:
                store.mark_seen("k")
                assert store.is_seen("k")
                answers = []
                signal.signal(
                    signal.SIGALRM, lambda *_: answers.append(store.is_seen("k"))
                )
                signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
                while len(answers) < 5_000:
                    assert store.is_seen("k")
                signal.setitimer(signal.ITIMER_REAL, 0)
                print(all(answers))
        """
        done = run_script(script, str(path))
        assert done.stdout == "True\n", done.stderr[-2_000:]

    @pytest.mark.slow
    def test_random_interrupts(self, path: Path, run_script: Run) -> None:
        """After a thousand interrupts anywhere every thread can use the store."""
        script = """
            import random, signal, sys, threading, time
            from catalyst_seen import SeenStore
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            sys.unraisablehook = lambda _: None
            interrupts, number = 0, 0
            with SeenStore(sys.argv[1], purge_interval=None) as store:
                store.mark_seen("cached")
                while interrupts < 1_000:
                    number += 1
                    try:
                        delay = random.uniform(0.00002, 0.0009)
                        signal.setitimer(signal.ITIMER_REAL, delay)
                        store.is_seen("cached")
                        store.claim(str(number)).release()
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    except KeyboardInterrupt:
                        interrupts += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                answers = []
                other = threading.Thread(
                    target=lambda: answers.append(store.get("cached")), daemon=True
                )
                other.start()
                other.join(30)
                print(len(answers), store.check_and_mark("new").verdict)
        """
        done = run_script(script, str(path))
        assert done.stdout.split()[-2:] == ["1", "new"], done.stderr[-2_000:]


class TestLeak:
    """A blocking store that nobody closed."""

    @pytest.mark.usefixtures("nothing_left")
    def test_dropped_blocking_store_warns(self, path: Path) -> None:
        """A dropped store warns, and is closed: no thread and no file is left."""
        store = SeenStore(path)
        store.mark_seen("k")
        with pytest.warns(ResourceWarning, match=r"seen.db'> was never closed"):
            del store
        gc.collect()

    @pytest.mark.slow
    def test_blocking_store_is_closed_at_exit(
        self, path: Path, run_script: Run
    ) -> None:
        """At the exit of the program the store is closed: no log file is left."""
        script = """
            import sys
            from catalyst_seen import SeenStore
            store = SeenStore(sys.argv[1])
            store.mark_seen("k")
        """
        done = run_script(script, str(path), options=("-W", "error"))
        assert (done.returncode, done.stderr) == (0, "")
        assert [entry.name for entry in path.parent.iterdir()] == ["seen.db"]

    @pytest.mark.slow
    def test_use_after_exit_began_is_refused(self, path: Path, run_script: Run) -> None:
        """A verb after the close at exit is refused with the error of this library."""
        script = """
            import atexit, sys
            from catalyst_seen import SeenStore, StoreClosedError
            def late():
                try:
                    store.is_seen("k")
                except StoreClosedError as exc:
                    print(exc)
            atexit.register(late)
            store = SeenStore(sys.argv[1])
        """
        done = run_script(script, str(path))
        assert (done.stdout, done.stderr) == ("the store is closed\n", "")


class TestShouldFilter:
    """The old helper."""

    def test_should_filter_passes_an_item_once(self) -> None:
        """With a store an item passes once."""
        with SeenStore(":memory:") as store:
            assert [should_filter("k", store) for _ in range(3)] == [False, True, True]

    def test_should_filter_reads_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        """Without a store the environment names one, and nothing is left open."""
        monkeypatch.setenv("SEEN_DB_PATH", str(path))
        threads = threading.active_count()
        assert [should_filter("k") for _ in range(3)] == [False, True, True]
        assert threading.active_count() == threads
        assert read(path, "SELECT key FROM seen") == [("k",)]

    @pytest.mark.parametrize("off", ["0", "false", "NO", "off"])
    def test_should_filter_can_be_disabled(
        self, monkeypatch: pytest.MonkeyPatch, path: Path, off: str
    ) -> None:
        """With FEATURE_PERSIST_SEEN off nothing is dropped, opened or marked."""
        monkeypatch.setenv("FEATURE_PERSIST_SEEN", off)
        monkeypatch.setenv("SEEN_DB_PATH", str(path))
        assert not should_filter("k")
        assert not path.exists()
        with SeenStore(":memory:") as store:
            assert [should_filter("k", store) for _ in range(2)] == [False, False]
            assert store.count() == 0

    def test_invalid_switch_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A switch that is neither on nor off is refused by name."""
        monkeypatch.setenv("FEATURE_PERSIST_SEEN", "perhaps")
        with pytest.raises(ConfigurationError, match="FEATURE_PERSIST_SEEN: 'perhaps'"):
            should_filter("k")
