"""A Hypothesis state machine drives two stores at one place, and a plain dict.

The stores are two processes as far as the backend is concerned; one of them is closed,
or dropped without being closed, now and then, and its claims with it.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
    LeaseLostError,
    Record,
    SeenStore,
    Verdict,
)
from catalyst_seen._types import ON_ABANDONED, RecordState

from ..support.clock import NOON, Clock
from ..support.targets import Places

KEYS = st.sampled_from(["a", "a", "b"])
NAMESPACES = st.sampled_from(["", "", "", "n"])
TTLS = st.sampled_from([None, 1.0, 5.0, 60.0])
LEASES = st.sampled_from([1.0, 5.0])
AGES = st.sampled_from([0.0, 1.0, 5.0, 30.0])
POLICIES = st.sampled_from(["retry", "hold", "drop"])
NOTES = st.sampled_from([None, None, "", "one", "zwei"])
STORES = st.sampled_from([0, 1])
MORTAL = 1  # the store that is closed, or crashes

Id = tuple[str, str]

AFTER_LEASE = {
    "released": Verdict.RETRY,
    "retry": Verdict.RETRY,
    "hold": Verdict.HELD,
    "drop": Verdict.DUPLICATE,
}


STATES: dict[Verdict, RecordState] = {
    Verdict.RETRY: "released",
    Verdict.IN_FLIGHT: "claimed",
    Verdict.DUPLICATE: "seen",
    Verdict.HELD: "held",
}


@dataclass
class Row:
    """What the model keeps of a key; a claim if it has a lease."""

    first_seen: float
    last_seen: float
    expires_at: float | None
    token: str | None = None
    attempt: int = 0
    lease_until: float | None = None
    then: str = ""
    note: str | None = None


def id_of(record: Record) -> Id:
    """Namespace and key of a record."""
    return record.namespace, record.key


@dataclass
class Owner:
    """A claim that was owned once, and how it was made."""

    claim: BlockingClaim
    store: int
    lease: float
    ttl: float | None
    policy: str

    @property
    def id_(self) -> Id:
        return self.claim.namespace, self.claim.key


class StoreMachine(RuleBasedStateMachine):
    """Every verb, time, purge, restarts and crashes, in any order."""

    name = "two stores"
    staleness = 0.0  # one store may not learn at once what the other did

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
            self.place = stack.pop_all()
        self.rows: dict[Id, Row] = {}
        self.owners: list[Owner] = []
        self.stores = self.open_all()

    def open_all(self) -> list[SeenStore]:
        return [self.open(), self.open()]

    def open(self) -> SeenStore:
        config = self.target.config(
            recent_keys=6,  # of eight
            recent_staleness=self.staleness,
            purge_interval=None,
        )
        return SeenStore(config, ttl=60)

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            self.place.close()
            self.places.server_time = None

    @property
    def now(self) -> float:
        return self.clock.now

    def row(self, id_: Id) -> Row | None:
        row = self.rows.get(id_)
        if row and (row.expires_at is None or row.expires_at > self.now):
            return row
        return None

    def verdict(self, id_: Id) -> Verdict:
        row = self.row(id_)
        if row is None:
            return Verdict.NEW
        if row.lease_until is None:
            return Verdict.DUPLICATE
        if row.lease_until > self.now:
            return Verdict.IN_FLIGHT
        return AFTER_LEASE[row.then]

    def record(self, id_: Id) -> Record | None:
        row = self.row(id_)
        if row is None:
            return None
        verdict = self.verdict(id_)
        is_released = verdict is Verdict.IN_FLIGHT and row.then == "released"
        state = "released" if is_released else STATES[verdict]
        return Record(
            id_[1], id_[0], state, row.first_seen, row.last_seen, row.expires_at,
            until=row.lease_until if state in {"claimed", "released"} else None,
            attempt=row.attempt,
            note=row.note,
        )  # fmt: skip

    def is_seen(self, id_: Id) -> bool:
        return self.verdict(id_) is Verdict.DUPLICATE

    def note(self, id_: Id, note: str | None) -> str | None:
        """The note that a change leaves."""
        row = self.row(id_)
        if note is not None:
            return note or None
        return row.note if row else None

    def mark(
        self, id_: Id, ts: float, ttl: float | None, note: str | None = None
    ) -> None:
        note = self.note(id_, note)
        row, first, last, token, attempt = self.row(id_), ts, ts, None, 0
        if row:
            attempt = row.attempt
            if self.is_seen(id_):
                first, last = row.first_seen, max(row.last_seen, ts)
                token = row.token if row.lease_until is None else None
            else:
                first = min(row.first_seen, ts)
        expires_at = None if ttl is None else last + ttl
        self.rows[id_] = Row(first, last, expires_at, token, attempt, note=note)

    def lease(self, owner: Owner, row: Row, length: float) -> None:
        """Lease a key, for so long from now."""
        until = self.now + length
        is_kept = owner.policy == "hold" or owner.ttl is None
        self.rows[owner.id_] = replace(
            row,
            expires_at=None if is_kept else until + (owner.ttl or 0),
            lease_until=until,
            then=owner.policy,
        )

    def check_claim(self, owner: Owner, length: float, note: str | None = None) -> None:
        """Compare an answer to a claim with the model's, and take it over."""
        claim, id_, row = owner.claim, owner.id_, self.row(owner.id_)
        assert claim.verdict is self.verdict(id_)
        attempt = row.attempt if row else 0
        assert claim.attempt == attempt + bool(claim)
        if claim.verdict is Verdict.IN_FLIGHT:
            assert row is not None
            assert row.lease_until is not None
            assert claim.retry_after == row.lease_until - self.now
        if claim:
            assert claim.lease_until == self.now + length
            first = row.first_seen if row else self.now
            claimed = Row(first, self.now, None, claim.token, claim.attempt)
            claimed.note = self.note(id_, note)
            assert claim.note == claimed.note
            self.lease(owner, claimed, length)
            self.owners.append(owner)

    def owned(self, owner: Owner) -> Row | None:
        """The row of a claim, if it is still the claim's."""
        row = self.row(owner.id_)
        return row if row and row.token == owner.claim.token else None

    def confirmed(
        self, owner: Owner, ttl: float | None, note: str | None = None
    ) -> bool:
        """Confirm in the model; say whether it is confirmed."""
        row = self.owned(owner)
        if row and row.then == "released":
            return False
        if row:
            row.note = self.note(owner.id_, note)
        if row and row.lease_until is not None:
            expires_at = None if ttl is None else self.now + ttl
            self.rows[owner.id_] = Row(
                row.first_seen, self.now, expires_at, row.token, row.attempt,
                note=row.note,
            )  # fmt: skip
        return row is not None

    def released(self, owner: Owner, delay: float) -> bool:
        """Release in the model; say whether it was owned."""
        row = self.owned(owner)
        if row is None or row.lease_until is None:
            return False
        until = self.now + delay
        expires_at = None if owner.ttl is None else until + owner.ttl
        self.rows[owner.id_] = replace(
            row, expires_at=expires_at, lease_until=until, then="released"
        )
        return True

    @rule(
        which=STORES, namespace=NAMESPACES, key=KEYS, ttl=TTLS, age=AGES, note=NOTES
    )  # fmt: skip
    def mark_seen(
        self, *, which: int, namespace: str, key: str, ttl: float | None, age: float,
        note: str | None,
    ) -> None:  # fmt: skip
        ts = self.now - age
        self.stores[which].mark_seen(
            key, ts if age else None, ttl=ttl, note=note, namespace=namespace
        )
        self.mark((namespace, key), ts, ttl, note)

    @rule(
        which=STORES, namespace=NAMESPACES, keys=st.lists(KEYS, max_size=5), ttl=TTLS,
        note=NOTES,
    )  # fmt: skip
    def check_and_mark(
        self, *, which: int, namespace: str, keys: list[str], ttl: float | None,
        note: str | None,
    ) -> None:  # fmt: skip
        answers = self.stores[which].check_and_mark_many(
            keys, ttl=ttl, note=note, namespace=namespace
        )
        for key, answer in zip(keys, answers, strict=True):
            id_ = (namespace, key)
            row = self.row(id_)
            assert answer.verdict is self.verdict(id_)
            assert answer.attempt == (row.attempt if row else 0)
            if answer:
                self.mark(id_, self.now, ttl, note)

    @rule(
        which=STORES, namespace=NAMESPACES, key=KEYS,
        lease=LEASES, ttl=TTLS, policy=POLICIES, note=NOTES,
    )  # fmt: skip
    def claim(
        self, *, which: int, namespace: str, key: str,
        lease: float, ttl: float | None, policy: str, note: str | None,
    ) -> None:  # fmt: skip
        claim = self.stores[which].claim(
            key, lease=lease, ttl=ttl, note=note, namespace=namespace,
            on_abandoned=policy,  # type: ignore[arg-type]
        )  # fmt: skip
        self.check_claim(Owner(claim, which, lease, ttl, policy), lease, note)

    @rule(which=STORES, namespace=NAMESPACES, keys=st.lists(KEYS, max_size=5))
    def claim_many(self, which: int, namespace: str, keys: list[str]) -> None:
        claims = self.stores[which].claim_many(keys, lease=5, namespace=namespace)
        for claim in claims:
            self.check_claim(Owner(claim, which, 5, 60, "retry"), 5)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), ttl=TTLS, note=NOTES)
    def confirm(self, data: st.DataObject, ttl: float | None, note: str | None) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        try:
            owner.claim.confirm(ttl, note=note)
            is_confirmed = True
        except LeaseLostError:
            is_confirmed = False
        assert is_confirmed is self.confirmed(owner, ttl, note)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), delay=st.sampled_from([0, 1, 5]))
    def release(self, data: st.DataObject, delay: float) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        assert owner.claim.release(delay) is self.released(owner, delay)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), lease=LEASES)
    def renew(self, data: st.DataObject, lease: float) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        row = self.owned(owner)
        if row is None or row.lease_until is None or row.then == "released":
            try:
                owner.claim.renew(lease)
            except LeaseLostError:
                return
            raise AssertionError("renewed what was lost")
        owner.claim.renew(lease)
        self.lease(owner, row, lease)

    @rule(which=STORES, data=st.data(), verb=st.sampled_from(["confirm", "release"]))
    def settle_many(self, which: int, data: st.DataObject, verb: str) -> None:
        mine = [owner for owner in self.owners if owner.store == which]
        some = data.draw(st.lists(st.sampled_from(mine), max_size=4)) if mine else []
        store, claims = self.stores[which], [owner.claim for owner in some]
        if verb == "confirm":
            answers = store.confirm_many(claims, ttl=5)
            expected = [self.confirmed(owner, 5) for owner in some]
        else:
            answers = store.release_many(claims, delay=1)
            expected = [self.released(owner, 1) for owner in some]
        assert answers == expected

    @rule(which=STORES, namespace=NAMESPACES, key=KEYS)
    def forget(self, which: int, namespace: str, key: str) -> None:
        is_there = self.row((namespace, key)) is not None
        assert self.stores[which].forget(key, namespace=namespace) is is_there
        if is_there:
            del self.rows[(namespace, key)]

    @rule(which=STORES, namespace=NAMESPACES)
    def forget_many(self, which: int, namespace: str) -> None:
        ids = [(namespace, key) for key in "ab"]
        there = [id_ for id_ in ids if self.row(id_)]
        forgotten = self.stores[which].forget_many(["a", "b"], namespace=namespace)
        assert forgotten == len(there)
        for id_ in there:
            del self.rows[id_]

    @rule(which=STORES, namespace=st.none() | NAMESPACES)
    def clear(self, which: int, namespace: str | None) -> None:
        gone = [id_ for id_ in self.rows if namespace in {None, id_[0]}]
        removed = self.stores[which].clear(namespace=namespace)
        assert removed == sum(self.row(id_) is not None for id_ in gone)
        for id_ in gone:
            del self.rows[id_]

    @rule(which=STORES, names=st.permutations(["", "n"]))
    def rename(self, which: int, names: list[str]) -> None:
        old, new = names
        is_occupied = any(self.row((new, key)) for key in "ab")
        try:
            self.stores[which].rename(new, namespace=old)
        except ValueError:
            assert is_occupied
            return
        assert not is_occupied
        for key in "ab":
            self.rows.pop((new, key), None)
            if row := self.rows.pop((old, key), None):
                self.rows[new, key] = row

    @rule(namespace=NAMESPACES, key=KEYS, handled=st.booleans())
    def resolve(self, namespace: str, key: str, *, handled: bool) -> None:
        id_ = (namespace, key)
        is_held = self.verdict(id_) is Verdict.HELD
        answer = self.stores[0].resolve(key, handled=handled, namespace=namespace)
        assert answer is is_held
        if is_held and handled:
            self.mark(id_, self.now, 60)
        elif is_held:
            self.rows[id_] = replace(
                self.rows[id_],
                expires_at=self.now + 60, lease_until=self.now, then="released",
            )  # fmt: skip

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 60.0]))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=STORES, namespace=st.none() | NAMESPACES)
    def purge(self, which: int, namespace: str | None) -> None:
        gone = [
            id_
            for id_ in self.rows
            if self.row(id_) is None and namespace in {None, id_[0]}
        ]
        removed = self.stores[which].purge_expired(namespace=namespace)
        assert removed == self.target.removed(len(gone))
        for id_ in gone:
            del self.rows[id_]

    @rule(which=STORES, age=st.sampled_from([0.0, 2.0, 60.0]))
    def cleanup(self, which: int, age: float) -> None:
        gone = [
            id_
            for id_, row in self.rows.items()
            if (self.row(id_) or not self.target.expires_by_itself)
            and row.last_seen < self.now - age
            and not (row.lease_until is not None and row.lease_until > self.now)
            and row.then != "hold"
        ]
        assert self.stores[which].cleanup_old_entries(age / 86_400) == len(gone)
        for id_ in gone:
            del self.rows[id_]

    @precondition(lambda self: self.now > NOON and not self.staleness)
    @rule()
    def reopen(self) -> None:
        self.stores[MORTAL].close()
        self.restart()

    @precondition(lambda self: self.now > NOON and not self.staleness)
    @rule()
    def crash(self) -> None:
        self.stores[MORTAL]._store._lifecycle.abandon()
        self.stores[MORTAL].close()
        self.restart()

    def restart(self) -> None:
        """Begin anew; whoever held claims of the old store is dead."""
        self.owners = [owner for owner in self.owners if owner.store != MORTAL]
        self.stores[MORTAL] = self.open()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "stores"):
            return
        ids = [(namespace, key) for namespace in ("", "n") for key in "ab"]
        store = self.stores[0]
        expected = [self.record(id_) for id_ in ids]
        for (namespace, key), record in zip(ids, expected, strict=True):
            is_seen = record is not None and record.state == "seen"
            assert store.get(key, namespace=namespace) == record
            assert store.is_seen(key, namespace=namespace) == is_seen
            new = [] if is_seen else [key]
            assert store.filter_new([key], namespace=namespace) == new
        records = [record for record in expected if record]
        assert sorted(store.records(), key=id_of) == records
        assert store.namespaces() == sorted({one.namespace for one in records})
        assert store.has_any() is any(one.state == "seen" for one in records)
        verdicts = [self.verdict(id_) for id_ in ids]
        held = [id_ for id_ in ids if self.verdict(id_) is Verdict.HELD]
        listed = self.stores[0].held()
        assert [(one.namespace, one.key) for one in listed] == held
        stats = self.stores[MORTAL].stats()
        assert stats.keys == verdicts.count(Verdict.DUPLICATE)
        assert stats.claimed == verdicts.count(Verdict.IN_FLIGHT)
        over = [
            row.then
            for row in map(self.row, ids)
            if row and row.lease_until is not None and row.lease_until <= self.now
        ]
        assert stats.released == over.count("released")
        assert stats.abandoned == {then: over.count(then) for then in ON_ABANDONED}


class RememberingMachine(StoreMachine):
    """The same with one store, which remembers for ever what it knows to be seen."""

    name = "a store with a memory"
    staleness = 1e9

    def open_all(self) -> list[SeenStore]:
        return [self.open()] * 2


class SingleStoreMachine(StoreMachine):
    """The same with one store, which is neither closed nor dropped."""

    name = "one store"

    def open_all(self) -> list[SeenStore]:
        return [self.open()] * 2

    def reopen(self) -> None:
        """Remove the rule: a new store would have no rows."""

    def crash(self) -> None:
        """Remove the rule: a new store would have no rows."""
