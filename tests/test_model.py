"""A Hypothesis state machine drives a store and a plain dict, and compares them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from catalyst_seen import Record, SeenStore

from .conftest import NOON, Clock

KEYS = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["", "n"])
TTLS = st.sampled_from([None, 1.0, 5.0, 60.0])
AGES = st.sampled_from([0.0, 1.0, 5.0, 30.0])

Id = tuple[str, str]


@dataclass
class Row:
    """What the model keeps of a key."""

    first_seen: float
    last_seen: float
    expires_at: float | None


class StoreMachine(RuleBasedStateMachine):
    """Every verb, time, purge and restarts, in any order."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.rows: dict[Id, Row] = {}
        self.open()

    def open(self) -> None:
        self.store = SeenStore(
            self.folder / "seen.db", clock=self.clock, ttl=60, purge_interval=None
        )

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def live(self, id_: Id) -> Row | None:
        row = self.rows.get(id_)
        if row and (row.expires_at is None or row.expires_at > self.clock.now):
            return row
        return None

    def mark(self, id_: Id, ts: float, ttl: float | None) -> None:
        row = self.live(id_)
        last = max(row.last_seen, ts) if row else ts
        first = row.first_seen if row else ts
        self.rows[id_] = Row(first, last, None if ttl is None else last + ttl)

    @rule(namespace=NAMESPACES, key=KEYS, ttl=TTLS, age=AGES)
    def mark_seen(
        self, namespace: str, key: str, ttl: float | None, age: float
    ) -> None:
        ts = self.clock.now - age
        self.store.mark_seen(key, ts if age else None, ttl=ttl, namespace=namespace)
        self.mark((namespace, key), ts, ttl)

    @rule(namespace=NAMESPACES, keys=st.lists(KEYS, max_size=5), ttl=TTLS)
    def check_and_mark_many(
        self, namespace: str, keys: list[str], ttl: float | None
    ) -> None:
        answers = self.store.check_and_mark_many(keys, ttl=ttl, namespace=namespace)
        for key, answer in zip(keys, answers, strict=True):
            is_new = self.live((namespace, key)) is None
            assert bool(answer) is is_new
            if is_new:
                self.mark((namespace, key), self.clock.now, ttl)

    @rule(namespace=NAMESPACES, key=KEYS)
    def check_and_mark(self, namespace: str, key: str) -> None:
        is_new = self.live((namespace, key)) is None
        assert bool(self.store.check_and_mark(key, namespace=namespace)) is is_new
        if is_new:
            self.mark((namespace, key), self.clock.now, 60)

    @rule(namespace=NAMESPACES, key=KEYS)
    def forget(self, namespace: str, key: str) -> None:
        was_seen = self.live((namespace, key)) is not None
        assert self.store.forget(key, namespace=namespace) is was_seen
        if was_seen:
            del self.rows[(namespace, key)]

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 60.0]))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(namespace=st.none() | NAMESPACES)
    def purge(self, namespace: str | None) -> None:
        gone = [
            id_
            for id_ in self.rows
            if self.live(id_) is None and namespace in {None, id_[0]}
        ]
        assert self.store.purge_expired(namespace=namespace) == len(gone)
        for id_ in gone:
            del self.rows[id_]

    @rule(age=st.sampled_from([0.0, 2.0, 60.0]))
    def cleanup(self, age: float) -> None:
        limit = self.clock.now - age
        gone = [id_ for id_, row in self.rows.items() if row.last_seen < limit]
        assert self.store.cleanup_old_entries(age / 86_400) == len(gone)
        for id_ in gone:
            del self.rows[id_]

    @precondition(lambda self: self.clock.now > NOON)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        for namespace in ("", "n"):
            for key in "abc":
                row = self.live((namespace, key))
                expected = row and Record(
                    key, namespace, row.first_seen, row.last_seen, row.expires_at
                )
                assert self.store.get(key, namespace=namespace) == expected
        live = sum(self.live(id_) is not None for id_ in self.rows)
        assert self.store.count() == live


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
