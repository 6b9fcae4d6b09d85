"""A Hypothesis state machine drives listings at one place and on the reference backend.

Two stores at the place take turns, as two processes would; each call is made on the
reference backend as well, and has to have the same result, and to leave the same
records. A ledger of what a user sees says that nothing is lost or doubled, whatever
both backends think of it.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from catalyst_seen import (
    BlockingClaim,
    FeedRules,
    LeaseLostError,
    Observation,
    Record,
    SeenStore,
    SeenStoreConfig,
    Source,
)
from catalyst_seen.backends.memory import MemoryBackend

from .clock import DAY, Clock
from .targets import Places

KEYS = st.sampled_from("abcd")
LISTINGS = st.lists(
    st.tuples(KEYS, st.sampled_from(["", "", "1", "2"]), st.sampled_from("xyz")),
    max_size=5,
)
"""Items: a key, its digest, its alias."""
STORES = st.sampled_from([0, 1])
RULES = FeedRules(
    first=1,
    changes=1,
    max_attempts=2,
    absent_polls=2,
    absent_for="2d",
    kept_keys=2,
    kept_listings=1,
)

Given = tuple[str, str, str]


@dataclass
class Owners:
    """The claims on a key by one worker: one at the place, one on the reference."""

    claims: tuple[BlockingClaim, BlockingClaim]
    store: int


class ListingMachine(RuleBasedStateMachine):
    """Every verb of listings, and the verbs on keys between them, in any order."""

    is_shared = True

    def __init__(self, places: Places, backend: str) -> None:
        super().__init__()
        self.places, self.backend = places, backend

    @initialize()
    def start(self) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.clock = self.places.server_time = Clock()
            self.target = stack.enter_context(
                self.places.target(self.backend, folder / "seen.db")
            )
            self.stores = [self.open(), self.open()] if self.is_shared else []
            if not self.is_shared:
                self.stores = [self.open()] * 2
            settings = SeenStoreConfig(clock=self.clock, purge_interval=None)
            backend = MemoryBackend(settings)
            self.model = stack.enter_context(SeenStore(backend, ttl=60))
            self.place = stack.pop_all()
        self.owners: list[Owners] = []
        self.waiting: set[str] = set()  # keys that somebody has to handle
        self.listed_before = False

    def open(self) -> SeenStore:
        config = self.target.config(recent_staleness=0, purge_interval=None)
        return SeenStore(config, ttl=60)

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            self.place.close()
            self.places.server_time = None

    def feed(self, which: int) -> SeenStore:
        return self.stores[which].namespace("n", feeds=RULES)

    @property
    def twin(self) -> SeenStore:
        return self.model.namespace("n", feeds=RULES)

    def records(self, store: SeenStore) -> dict[str, Record]:
        return {record.key: record for record in store.records(namespace="n")}

    @rule(which=STORES, given=LISTINGS, text=st.sampled_from([None, "v", "w"]))
    def observe(self, which: int, given: list[Given], text: str | None) -> None:
        before = self.records(self.model)
        answers: list[Observation[Given]] = [
            store.observe(
                given,
                key=lambda item: item[0],
                digest=lambda item: item[1] or None,
                aliases=lambda item: item[2],
                note=lambda item: f"{item[0]} {item[1]}",
                spellings=lambda item: [item[0].upper()],
                validators=text,
            )
            for store in (self.feed(which), self.twin)
        ]
        assert answers[0] == answers[1]
        answer = answers[0]
        fresh = {item[0] for item in given} - {key.lower() for key in before}
        excused = {item[0] for item in answer.replaced}
        if not self.listed_before and not before:
            excused |= fresh - {item[0] for item in answer.new}
            assert answer.baseline == len(excused)
        self.listed_before |= bool(given)
        self.waiting |= (fresh - excused) | {item[0] for item in answer.changed}
        after = self.records(self.model)
        self.waiting |= {
            item[0]
            for item in given
            if item[0] in after and after[item[0]].state != "seen"
        }
        assert {item[0] for item in answer.changed} <= {item[0] for item in answer.new}

    @rule(which=STORES, text=st.sampled_from(["v", "w"]))
    def observed_unchanged(self, which: int, text: str) -> None:
        answer = self.feed(which).observed_unchanged(text, state=text)
        assert answer is self.twin.observed_unchanged(text, state=text)

    @rule(which=STORES)
    def failed(self, which: int) -> None:
        self.feed(which).failed("HTTP 500")
        self.twin.failed("HTTP 500")

    @rule(which=STORES, lease=st.sampled_from([1.0, 60.0]))
    def claim_next(self, which: int, lease: float) -> None:
        iterations = (
            self.feed(which).pending(lease=lease),
            self.twin.pending(lease=lease),
        )
        claims = [next(iteration, None) for iteration in iterations]
        found = [claim and (claim.key, claim.attempt, claim.note) for claim in claims]
        assert found[0] == found[1]
        ours, theirs = claims
        if ours is not None and theirs is not None:
            assert ours.key.lower() in {key.lower() for key in self.waiting}
            self.owners.append(Owners((ours, theirs), which))
        for iteration in iterations:  # its end would release the claim
            iteration._claims._last = None

    @rule(which=STORES, key=KEYS)
    def claim(self, which: int, key: str) -> None:
        ours, theirs = (
            store.claim(key, lease=5) for store in (self.feed(which), self.twin)
        )
        assert (ours.verdict, ours.attempt) == (theirs.verdict, theirs.attempt)
        if ours:
            self.owners.append(Owners((ours, theirs), which))

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        owners = data.draw(st.sampled_from(self.owners))
        answers = []
        for claim in owners.claims:
            try:
                claim.confirm()
                answers.append(True)
            except LeaseLostError:
                answers.append(False)
        assert answers[0] is answers[1]
        if answers[0]:
            self.waiting.discard(owners.claims[0].key)

    @precondition(lambda self: self.owners)
    @rule(
        data=st.data(),
        delay=st.sampled_from([0, 1, 90]),
        error=st.sampled_from([None, "e"]),
    )
    def release(self, data: st.DataObject, delay: float, error: str | None) -> None:
        owners = data.draw(st.sampled_from(self.owners))
        ours, theirs = (claim.release(delay, error=error) for claim in owners.claims)
        assert ours is theirs

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        owners = data.draw(st.sampled_from(self.owners))
        ours, theirs = (claim.hold("held") for claim in owners.claims)
        assert ours is theirs

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        owners = data.draw(st.sampled_from(self.owners))
        answers = []
        for claim in owners.claims:
            try:
                claim.renew(30)
                answers.append(True)
            except LeaseLostError:
                answers.append(False)
        assert answers[0] is answers[1]

    @rule(which=STORES, key=KEYS, handled=st.booleans())
    def resolve(self, which: int, key: str, *, handled: bool) -> None:
        ours, theirs = (
            store.resolve(key, handled=handled)
            for store in (self.feed(which), self.twin)
        )
        assert ours is theirs
        if ours and handled:
            self.waiting.discard(key)

    @rule(which=STORES, key=KEYS, verb=st.sampled_from(["mark_seen", "mark_many"]))
    def mark(self, which: int, key: str, verb: str) -> None:
        for store in (self.feed(which), self.twin):
            getattr(store, verb)([key] if verb == "mark_many" else key)
        self.waiting.discard(key)

    @rule(which=STORES, keys=st.lists(KEYS, max_size=4, unique=True))
    def check_and_mark(self, which: int, keys: list[str]) -> None:
        ours, theirs = (
            [(one.verdict, one.attempt) for one in store.check_and_mark_many(keys)]
            for store in (self.feed(which), self.twin)
        )
        assert ours == theirs
        self.waiting -= {
            key for key, (verdict, _) in zip(keys, ours, strict=True) if verdict
        }

    @rule(which=STORES, key=KEYS, is_upper=st.booleans())
    def forget(self, which: int, key: str, *, is_upper: bool) -> None:
        key = key.upper() if is_upper else key
        ours, theirs = (store.forget(key) for store in (self.feed(which), self.twin))
        assert ours is theirs
        self.waiting.discard(key)

    @rule(which=STORES, key=KEYS)
    def mark_spelling(self, which: int, key: str) -> None:
        """An older program's mark, under another form of the key."""
        for store in (self.feed(which), self.twin):
            store.mark_seen(key.upper(), ttl=300)

    @rule(which=STORES)
    def clear(self, which: int) -> None:
        ours, theirs = (store.clear() for store in (self.feed(which), self.twin))
        assert ours == theirs
        self.waiting.clear()
        self.listed_before = False

    @rule(seconds=st.sampled_from([0.5, 1.0, 60.0, 3_600.0, DAY, 3 * DAY]))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=STORES)
    def remove(self, which: int) -> None:
        self.feed(which).purge_expired()
        self.twin.purge_expired()
        ours, theirs = (
            store.cleanup_old_entries(1) for store in (self.feed(which), self.twin)
        )
        if not self.target.expires_by_itself:
            assert ours == theirs

    @precondition(lambda self: self.is_shared)
    @rule()
    def crash(self) -> None:
        """One process dies, and with it what it was about to do."""
        self.stores[1]._store._lifecycle.abandon()
        self.stores[1].close()
        self.owners = [owners for owners in self.owners if owners.store != 1]
        self.stores[1] = self.open()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "stores"):
            return
        ours = self.records(self.stores[0])
        assert ours == self.records(self.model)
        answers: list[Source | None] = [self.feed(0).source(), self.twin.source()]
        assert answers[0] == answers[1]
        states = {key: record.state for key, record in ours.items()}
        lost = {key for key in self.waiting if states.get(key, "seen") == "seen"}
        assert not lost


class LoneListingMachine(ListingMachine):
    """The same with one store, which does not crash: a new one would have no rows."""

    is_shared = False
