"""Entries as notes that are kept with their keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalyst_seen import SeenStore
from catalyst_seen.feeds import Enclosure, Entry, parse

from ..support.feed_documents import rss_of

ENTRY = Entry(
    key="k",
    recipe="guid",
    title="Café",
    link="https://e.example/1",
    published=datetime(2026, 6, 1, 10, tzinfo=timezone(timedelta(hours=2))),
    summary="Text",
    authors=("Ann", "Bo"),
    enclosures=(Enclosure(url="https://e.example/1.mp3", type="audio/mpeg", length=9),),
    feed="News",
)


def test_note_shows_the_entry() -> None:
    """A note has all that shows an entry, and nothing of what finds it again."""
    listed = replace(ENTRY, spellings=("s",), alias=("l", "w"))
    assert Entry.from_json(listed.to_json()) == ENTRY
    assert "Café" in ENTRY.to_json()
    bare = Entry(key="k")
    assert bare.to_json() == '{"key":"k"}'
    assert Entry.from_json(bare.to_json()) == bare


def test_note_of_a_document() -> None:
    """The note of each entry of a document can be stored, and read again."""
    with SeenStore(":memory:", purge_interval=None) as store:
        for entry in parse(rss_of(range(3)), "https://news.example/feed").entries:
            store.mark_seen(entry.key, note=entry.to_json())
            record = store.get(entry.key)
            assert record
            assert record.note
            read = Entry.from_json(record.note)
            assert (read.title, read.link) == (entry.title, entry.link)
            assert read.published == entry.published
            assert read.digest == entry.digest


@settings(deadline=None)
@given(
    st.text(max_size=50),
    st.text(max_size=50),
    st.integers(0, 100),
    st.integers(200, 3_000),
)
def test_note_has_a_limit(title: str, summary: str, times: int, limit: int) -> None:
    """Whatever an entry holds, its note fits; the title and the link stay longest."""
    entry = replace(
        ENTRY,
        title=title,
        summary=summary * times,
        authors=(summary,) * times,
        enclosures=ENTRY.enclosures * times,
    )
    note = entry.to_json(max_bytes=limit)
    assert len(note.encode()) <= limit
    read = Entry.from_json(note)
    assert read.key == "k"
    if limit > 1_500:
        assert (read.title, read.link) == (title, ENTRY.link)


def test_default_limit() -> None:
    """A note has at most 65,536 bytes, as a store accepts."""
    entry = replace(ENTRY, summary="é" * 100_000)
    assert 30_000 < len(entry.to_json().encode()) <= 65_536
    long = replace(ENTRY, link="https://e.example/" + "x" * 100_000)
    assert Entry.from_json(long.to_json()) == replace(
        ENTRY, link="", summary="", authors=(), enclosures=(), feed="", title=""
    )


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"key":"k","x":1}', "7", "{"])
def test_other_notes(note: str) -> None:
    """Another text is refused."""
    with pytest.raises(ValueError, match=r"not one of Entry\.to_json"):
        Entry.from_json(note)


def test_digest() -> None:
    """The digest differs if what is shown was edited, and not if it was dated anew."""
    dated = replace(ENTRY, published=datetime(2026, 7, 1, tzinfo=UTC), feed="Other")
    assert dated.digest == ENTRY.digest
    for edited in (
        replace(ENTRY, title="Other"),
        replace(ENTRY, link="Other"),
        replace(ENTRY, summary="Other"),
        replace(ENTRY, enclosures=()),
    ):
        assert edited.digest != ENTRY.digest
