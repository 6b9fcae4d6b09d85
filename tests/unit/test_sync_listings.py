"""SeenStore: listings, and what is pending."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalyst_seen import SeenStore


@pytest.fixture
def feed(path: Path) -> Iterator[SeenStore]:
    """A view in which b, c and d are pending."""
    with SeenStore(path) as store:
        view = store.namespace("feed")
        assert view.observe(["a"]).baseline == 1
        view.observe(list("abcd"), key=str, note=str.upper)
        yield view


def handled(feed: SeenStore) -> list[str | None]:
    """Handle what is pending, and return its notes in order."""
    notes = []
    for claim in feed.pending():
        with claim:
            notes.append(claim.note)
    return notes


def test_observe_and_handle(feed: SeenStore) -> None:
    """The verbs of listings are those of the asynchronous store."""
    assert handled(feed) == ["B", "C", "D"]
    assert feed.observe(["d", "e"], validators="v").new == ["e"]
    assert feed.observed_unchanged("v")
    feed.failed("HTTP 500")
    source = feed.source()
    assert source is not None
    assert (source.polls, source.pending, source.error) == (4, 1, "HTTP 500")
    assert feed.sources() == [source]


def test_rules_of_a_view(path: Path) -> None:
    """A view has rules of its own."""
    with SeenStore(path) as store:
        feed = store.namespace("feed", first="all", max_attempts=1)
        assert feed.observe(["a", "b"]).new == ["a", "b"]
        for claim in feed.pending():
            assert claim.release(error="no")
        assert [(one.key, one.error) for one in feed.held()] == [
            ("a", "no"),
            ("b", "no"),
        ]


def test_functions_run_in_the_callers_thread(feed: SeenStore) -> None:
    """The functions of an item are called by the thread that observes."""
    threads = set()

    def note(item: str) -> str:
        threads.add(threading.get_ident())
        return item

    feed.observe(["x"], key=str, note=note, digest=note, aliases=note)
    assert threads == {threading.get_ident()}


def test_leaving_strands_nothing(feed: SeenStore) -> None:
    """A loop that is left gives its claim back, without an attempt."""
    claim = next(feed.pending())
    gc.collect()
    record = feed.get(claim.key)
    assert record is not None
    assert (record.state, record.attempt) == ("pending", 0)
    assert handled(feed) == ["B", "C", "D"]


def test_body_without_a_block_raises(feed: SeenStore) -> None:
    """A body that ends no claim is told so at the next step, and loses nothing."""
    iteration = feed.pending()
    assert next(iteration).key == "b"
    with pytest.raises(RuntimeError, match="neither confirmed nor released"):
        next(iteration)
    assert handled(feed) == ["B", "C", "D"]


def test_hold(feed: SeenStore) -> None:
    """A blocking claim can be held, or released with an error."""
    first, second, _ = (claim for claim in feed.pending() if settle(claim.key, claim))
    assert (first.key, second.key) == ("b", "c")
    (record,) = feed.held()
    assert (record.key, record.error) == ("b", "gone")


def settle(key: str, claim: object) -> bool:
    """Hold b, release the others."""
    if key == "b":
        return claim.hold("gone")  # type: ignore[attr-defined, no-any-return]
    return claim.release(error="later")  # type: ignore[attr-defined, no-any-return]
