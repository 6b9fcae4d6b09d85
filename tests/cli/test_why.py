"""``why``."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from catalyst_seen import SeenStore
from catalyst_seen.feeds import Entry

from ..support import sqlite_files
from ..support.tool import Tool
from .conftest import open_store
from .states import STATES, fill, records_of


def test_every_cell(tool: Tool) -> None:
    """Why foretells what both verbs answer in every state, and changes nothing."""
    with open_store(tool) as store:
        fill(store, "news")
        fill(store, "copy")
        before = records_of(store)
    told = {key: tool.run("why", "-n", "news", key).rows[0] for key in STATES}
    assert {key: row["state"] for key, row in told.items()} == STATES
    with open_store(tool) as store:
        assert records_of(store) == before
        for key, row in told.items():
            sighting = store.check_and_mark(key, namespace="news")
            claim = store.claim(key, namespace="copy")
            assert row["check_and_mark"]["verdict"] == sighting.verdict
            assert row["claim"]["verdict"] == claim.verdict
            if claim:
                assert row["claim"]["attempt"] == claim.attempt
            assert (row["claim"]["retry_after"] is None) == (claim.retry_after is None)


def test_everything_known(tool: Tool) -> None:
    """A record has all that the store knows, with its error, note and source."""
    with open_store(tool) as store:
        fill(store, "news")
        record = store.get("failed", namespace="news")
        store.mark_seen("failed")
    assert record
    done = tool.run("why", "failed")
    assert done.code == 0
    assert "known in 2 namespaces of 2" in done.err
    default, row = sorted(done.rows, key=lambda row: str(row["namespace"]))
    assert default["namespace"] == ""
    assert default["source"] is None
    assert row["note"] == "the note of failed"
    assert row["error"] == record.error == "the receiver is away"
    assert row["attempt"] == 1
    source = row["source"]
    assert (source["polls"], source["listed"], source["pending"]) == (1, 3, 2)
    assert row["first_seen"].endswith("Z")


def test_unseen(tool: Tool) -> None:
    """For an unseen key the exit code is 1, and another namespace or case is said."""
    with open_store(tool) as store:
        store.mark_seen("Order", namespace="news")
    for words, reason in ((["-n", "", "Order"], "another"), (["order"], "in another")):
        done = tool.run("why", *words)
        assert (done.code, done.out) == (1, "")
        assert "check_and_mark would answer NEW" in done.err
        assert f"near: 'Order' in the namespace 'news' ({reason}" in done.err
    assert "nothing near is there" in tool.run("why", "else").err


def test_near(on_file: Tool) -> None:
    """Other spellings of an unseen key are said, with what the difference is."""
    tool = on_file
    near = {
        "order-17": ("ORDER-17", "in another case"),
        "order-18": (" order-18", "a blank or a line break"),
        "https://example.org/a": ("https://example.org/a/", "a slash"),
        "https://example.org/b?utm_source=x": ("http://example.org/b", "same address"),
        "prefix": ("prefix-of-it", "begins with it"),
    }
    with open_store(tool) as store:
        store.mark_many([key for key, _ in near.values()], namespace="news")
    for key, (found, reason) in near.items():
        done = tool.run("why", key)
        assert (done.code, done.out) == (1, "")
        (line,) = (line for line in done.err.splitlines() if "near:" in line)
        assert repr(found) in line
        assert reason in line


def test_old_key(on_file: Tool) -> None:
    """A key with a line break, which only older versions made, is found and near."""
    with open_store(on_file) as store:
        store.mark_seen("line")
    rename = "UPDATE seen SET key = ? WHERE key = ?"
    sqlite_files.write(Path(on_file.store), rename, rows=[("line\n", "line")])
    assert on_file.run("why", "line\n").rows[0]["state"] == "seen"
    done = on_file.run("why", "line")
    assert done.code == 1
    assert "'line\\n' in the default namespace (a blank or a line break" in done.err


@pytest.mark.parametrize("width", [40, 200])
def test_terminal(on_file: Tool, width: int) -> None:
    """A terminal gets labels and sentences, and no character that drives it."""
    key = "evil\x1b[2J\u202e"
    entry = Entry(key=key, title="A title", link="https://example.org/1")
    with open_store(on_file) as store:
        _observe(store, key, entry.to_json())
    on_file.environment["NO_COLOR"] = "1"
    with on_file.terminal("why", key, size=(60, width)) as shown:
        text = shown.read()
    assert "\x1b" not in text
    assert "\u202e" not in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert all(len(line) <= width for line in lines if "catalyst-seen:" not in line)
    assert [line.split("  ")[0] for line in lines if line[:1].islower()][:3] == [
        next(line for line in lines if "store:" in line),
        "key",
        "namespace",
    ]
    words = " ".join(text.split())
    assert "title A title link https://example.org/1" in words
    assert "what happened it was listed on" in words
    assert "claim would answer NEW, as attempt 1" in words
    assert "check_and_mark" not in words
    assert "\\x1b[2J\\u202e" in words


def _observe(store: SeenStore, key: str, note: str) -> None:
    feed = store.namespace("news", first="all")
    feed.observe([key], key=str, note=lambda _: note)


def test_what_happened(tool: Tool) -> None:
    """Of a key of a source it is said how it became seen, or why it is not."""
    with open_store(tool) as store:
        feed = store.namespace("news")
        feed.observe(["listed", "old"], key=str, aliases=lambda key: [f"of {key}"])
        _let_time_pass(feed)
        feed.mark_seen("marked")
        feed.observe(
            ["listed", "new", "sent", "failed", "lost", "again", "later"],
            key=str,
            aliases=lambda key: ["of old" if key == "new" else f"of {key}"],
        )
        feed.claim("sent").confirm()
        feed.claim("failed").hold("HTTP 400 Bad Request")
        feed.claim("lost").hold()
        feed.claim("again").release(error="HTTP 500")
        feed.claim("later").release(delay=60, error="HTTP 503")
    told = {
        key: str(tool.run("why", "-n", "news", key).rows[0]["what_happened"])
        for key in (
            "listed",
            "new",
            "marked",
            "sent",
            "failed",
            "lost",
            "again",
            "later",
        )
    }
    assert told["listed"].startswith("marked as the baseline on 2")
    assert told["listed"].endswith(", without being handled")
    for key in ("new", "marked"):
        assert " without an attempt: as an entry that was known under" in told[key]
    assert told["sent"].startswith("delivered on 2")
    assert ", after 1 attempt; or marked then by resolve, mark or" in told["sent"]
    assert told["failed"].endswith("failed: HTTP 400 Bad Request; resolve decides")
    assert "ended without an answer" in told["lost"]
    assert told["again"].endswith("; the last error is: HTTP 500")
    assert told["later"].endswith("; the last error is: HTTP 503")


def _let_time_pass(feed: SeenStore) -> None:
    """Return when the baseline is a thing of the past."""
    source = feed.source()
    assert source
    assert source.baseline_at
    while time.time() <= source.baseline_at:
        time.sleep(0.001)


def test_how_long_it_is_kept(on_file: Tool) -> None:
    """A key of a source is kept while that lists it; another one has no history."""
    with open_store(on_file) as store:
        store.namespace("news").observe(["listed"])
        store.mark_seen("mine", ttl=None)
    (row,) = on_file.run("why", "listed").rows
    assert row["check_and_mark"]["because"].endswith(
        "is kept while its source lists it"
    )
    (row,) = on_file.run("why", "mine").rows
    assert row["check_and_mark"]["because"].endswith("and never expires")
    assert row["what_happened"] is None
    for key, there, missing in (
        ("mine", "check_and_mark", "what happened"),
        ("listed", "what happened", "check_and_mark"),
    ):
        with on_file.terminal("why", key) as shown:
            text = shown.read()
        assert there in text
        assert missing not in text


def test_title_as_key(on_file: Tool) -> None:
    """A part of one note means its key; of two notes, the keys are named."""
    with open_store(on_file) as store:
        news = store.namespace("news", first="all")
        news.observe(
            ["a", "b"], key=str, note=lambda key: f'{{"title": "Offer {key}"}}'
        )
    done = on_file.run("why", "offer a")
    (row,) = done.rows
    assert (done.code, row["key"], row["state"]) == (0, "a", "pending")
    assert "'offer a' is in the note of one key" in done.err
    other = on_file.run("why", "-n", "other", "offer a")
    assert (other.code, other.out) == (1, "")
    done = on_file.run("why", "Offer")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("(its note contains that)") == 2


def test_title_of_the_baseline(on_file: Tool) -> None:
    """Where a source is, an unseen title may be that of an entry without a note."""
    with open_store(on_file) as store:
        store.namespace("news").observe(["a"], key=str, note="Offer {}".format)
    done = on_file.run("why", "Offer a")
    assert done.code == 1
    assert "an entry of a baseline or an import has no title here" in done.err
