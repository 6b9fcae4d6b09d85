"""A key in each state that a store knows, for the commands that tell them apart."""

from __future__ import annotations

import time
from dataclasses import replace

from catalyst_seen import Record, SeenStore

STATES = {
    "seen": "seen",
    "forever": "seen",
    "dropped": "seen",
    "claimed": "claimed",
    "released": "released",
    "later": "released",
    "abandoned": "released",
    "held": "held",
    "pending": "pending",
    "failed": "released",
    "handled": "seen",
}
"""The keys of ``fill``, and their states."""

UNSEEN = "unseen"


def fill(store: SeenStore, namespace: str) -> None:
    """Put a key in each state, in a namespace that is a source."""
    feed = store.namespace(namespace, first="all", ttl="1d")
    feed.observe(
        ["handled", "failed", "pending"], key=str, note=lambda key: f"the note of {key}"
    )
    for key in ("handled", "failed"):
        claim = feed.claim(key)
        if key == "handled":
            claim.confirm()
        else:
            claim.release(error="the receiver is away")
    feed.mark_seen("seen", note="a note")
    feed.mark_seen("forever", ttl=None)
    feed.claim("claimed", lease=3_600)
    feed.claim("released").release()
    feed.claim("later").release(delay=3_600)
    feed.claim("abandoned", lease=0.001, on_abandoned="retry")
    feed.claim("held", lease=0.001, on_abandoned="hold")
    feed.claim("dropped", lease=0.001, on_abandoned="drop")
    for key in ("abandoned", "held", "dropped"):
        while state_of(feed, key) != STATES[key]:
            time.sleep(0.001)


def state_of(store: SeenStore, key: str) -> str:
    """Return the state of a key."""
    record = store.get(key)
    return record.state if record else UNSEEN


def records_of(store: SeenStore) -> list[Record]:
    """Return every record of a store, sorted."""
    return sorted(store.records(namespace=None), key=lambda r: (r.namespace, r.key))


def without_times(record: Record) -> Record:
    """Return a record without what depends on when it was made."""
    return replace(record, first_seen=0, last_seen=0, expires_at=None, until=None)
