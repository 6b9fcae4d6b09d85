"""A process that observes a listing, handles what is pending, and says which keys."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from catalyst_seen import FeedRules, SeenStore, SeenStoreConfig

say = runpy.run_path(str(Path(__file__).with_name("child.py")))["say"]

RULES = FeedRules(kept_keys=0, kept_listings=1, absent_polls=1, absent_for="1d")


def observe(feed: SeenStore, first: int, last: int) -> None:
    """Observe items of some numbers; every tenth has a new key of an old link."""
    feed.observe(
        range(first, last),
        key=lambda n: f"{n}{'*' if first and n % 10 == 0 else ''}",
        aliases=lambda n: f"link {n}",
        digest=lambda n: f"text {n} of {last}",
        note=lambda n: f"note {n} " * 20,
        validators=str(last),
    )


def main(settings: str, first: str, last: str) -> None:
    """Observe one listing, and handle what is pending."""
    config = SeenStoreConfig(**json.loads(settings), purge_interval=None)
    with SeenStore(config) as store:
        feed = store.namespace("feed", feeds=RULES)
        observe(feed, int(first), int(last))
        say("observed")
        for claim in feed.pending():
            say("+", claim.key)
            claim.confirm()
            say("=", claim.key)


if __name__ == "__main__":
    main(*sys.argv[1:])
