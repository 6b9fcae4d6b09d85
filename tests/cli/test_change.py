"""``mark``, ``forget``, ``resolve``, ``clear``, ``rename``, ``purge``, ``cleanup``."""

from __future__ import annotations

import signal
import time

import pexpect
import pytest

from ..support.tool import Tool
from .conftest import open_store
from .states import STATES, UNSEEN, fill, records_of, state_of, without_times

CHANGES = {
    "mark": (["mark", "-n", "news", "pending", "seen", "fresh"], 3),
    "forget": (["forget", "-n", "news", "*"], len(STATES)),
    "resolve": (["resolve", "--all-namespaces", "*", "--again"], 1),
    "clear": (["clear", "-n", "news", "--yes"], len(STATES)),
    "rename": (["rename", "news", "other"], len(STATES)),
    "purge": (["purge"], 0),
    "cleanup": (["cleanup", "--days", "365"], 1),
}


def test_dry_runs(tool: Tool) -> None:
    """A dry run shows what the change would be about, and changes nothing at all."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("old", ts=1_600_000_000, ttl=None)
        before = records_of(store)
        sources = store.source(namespace="news")
    for words, count in CHANGES.values():
        done = tool.run(*words, "--dry-run")
        assert (done.code, len(done.rows)) == (0, count)
        assert "would" in done.err
        assert all(row.keys() == {"namespace", "key", "state"} for row in done.rows)
    with open_store(tool) as store:
        assert records_of(store) == before
        assert store.source(namespace="news") == sources


@pytest.mark.parametrize("words", [words for words, _ in CHANGES.values()])
def test_no_store(on_file: Tool, words: list[str]) -> None:
    """A change never makes a store."""
    done = on_file.run(*words)
    assert (done.code, done.out) == (3, "")
    assert "there is no store: name the store with --store" in done.err
    assert not list(on_file.folder.iterdir())


def test_mark(tool: Tool) -> None:
    """Words and lines become seen, with the TTL, the note and the time given."""
    with open_store(tool) as store:
        fill(store, "news")
    given = "line\r\n\n  \nseen\nclaimed"
    words = ["--ttl", "never", "--note", "by hand", "--ts", "2026-01-02T03:04:05Z"]
    done = tool.run("mark", "-n", "news", *words, "word", "-", given=given)
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "catalyst-seen: 4 marked, 1 was seen already,"
        " 1 was claimed, and that claim is lost\n"
    )
    with open_store(tool) as store:
        record = store.get("line", namespace="news")
        assert record
        assert (record.note, record.expires_at) == ("by hand", None)
        assert record.last_seen == 1_767_323_045
        assert state_of(store.namespace("news"), "claimed") == "seen"


def test_what_a_feed_lists_has_no_ttl(on_file: Tool) -> None:
    """It is not said of such a key for how long it is kept; of others it is."""
    with open_store(on_file) as store:
        feed = store.namespace("feed", first="all")
        feed.observe(["listed"], key=str)
        feed.claim("listed").hold()
    done = on_file.run("resolve", "-n", "feed", "listed", "--again")
    assert done.err.endswith("1 key resolved: claimable again\n")
    assert "kept for" not in on_file.run("mark", "-n", "feed", "listed").err
    assert "kept for 7 days: --ttl" in on_file.run("mark", "-n", "feed", "else").err
    assert "kept for" not in on_file.run("mark", "else", "--ttl", "never").err
    done = on_file.run("mark", "else", env={"SEEN_TTL_DAYS": "30"})
    assert "kept for 30 days" in done.err


def test_mark_in_the_wrong_namespace(tool: Tool) -> None:
    """A new key of the default namespace that another one has is said, and marked."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("seen")
    near = (
        "catalyst-seen: near: 'failed' in the namespace 'news' (another namespace) is"
        " released, and is not changed: -n names it\n"
    )
    rehearsal = tool.run("mark", "failed", "--dry-run")
    assert rehearsal.err.endswith(near)
    done = tool.run("mark", "failed", "seen", "else")
    assert done.err.startswith("catalyst-seen: 3 marked, 1 was seen already\n")
    assert done.err.endswith(near)
    for words in (["failed"], ["-n", "", "held"], ["-n", "news", "held"]):
        assert "near" not in tool.run("mark", *words).err
    assert tool.run("mark", *STATES).err.count("near: ") == 5


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"a\0b", "NUL"),
        (b"\xff", "not UTF-8"),
        (b"x" * 3_000, "2,048"),
        (b"x" * 100_000, "2,048"),
    ],
)
def test_bad_line(on_file: Tool, line: bytes, problem: str) -> None:
    """A line that is no key is named by its number, and no key is marked."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    done = on_file.run("mark", "first", "-", given=b"good\n" + line + b"\nmore\n")
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "line 2: " in done.err
    assert problem in done.err
    with open_store(on_file) as store:
        assert [record.key for record in records_of(store)] == ["a"]


def test_mark_in_the_past(on_file: Tool) -> None:
    """A mark that would have expired already is refused, with what to pass."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    done = on_file.run("mark", "b", "--ts", "2020-01-01", "--ttl", "7d")
    assert done.code == 2
    assert "--ttl never" in done.err


def test_signal_while_reading(on_file: Tool) -> None:
    """A signal ends a command that waits for lines."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    on_file.environment["PYTHONUNBUFFERED"] = "1"
    with on_file.terminal("mark", "-") as shown:
        shown.expect("Ctrl-D ends it")
        shown.sendline("b")
        shown.sendintr()
        shown.expect(pexpect.EOF)
    assert shown.exitstatus == 128 + signal.SIGINT


def test_forget(tool: Tool) -> None:
    """Globs forget what they match in a namespace; a claim on it is lost."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_many(["a/1", "a/2", "a[1]", "a1", "seen"])
    done = tool.run("forget", "a[1]", "a/*")
    assert (done.code, done.out) == (0, "")
    assert "'a[1]' is a key itself: only that one is meant" in done.err
    assert done.err.endswith("forgot 3 keys (3 seen)\n")
    assert tool.run("forget", "-n", "news", "--exact", "*").code == 1
    done = tool.run("forget", "--all-namespaces", "seen", "claimed")
    assert "forgot 3 keys (2 seen, 1 claimed); the claims on them are lost" in done.err
    with open_store(tool) as store:
        left = {record.key for record in records_of(store)}
    assert left == {"a1", *STATES} - {"seen", "claimed"}


def test_forget_what_is_not_listed(tool: Tool) -> None:
    """Where a key is of a source, it is said that only what it lists comes again."""
    told = "an entry that its source does not list any more does not come again\n"
    with open_store(tool) as store:
        for name in ("news", "mail"):
            store.namespace(name).observe(["a", "b"])
        store.mark_seen("a")
    rehearsal = tool.run("forget", "--all-namespaces", "a", "--dry-run")
    assert rehearsal.err.count(told) == 1
    done = tool.run("forget", "a")
    assert done.err == "catalyst-seen: forgot 1 key (1 seen)\n"
    done = tool.run("forget", "--all-namespaces", "*")
    assert done.err == f"catalyst-seen: forgot 4 keys (4 seen)\ncatalyst-seen: {told}"


def test_nothing_to_forget(tool: Tool) -> None:
    """If nothing matches, what nearly did is said, and the exit code is 1."""
    with open_store(tool) as store:
        store.mark_many(["The Title: part 2", "other"], namespace="news")
    for words in (["The Title: part 2"], ["-n", "news", "the title"], ["part 2"]):
        done = tool.run("forget", *words)
        assert (done.code, done.out) == (1, "")
        assert "near: 'The Title: part 2' in the namespace 'news'" in done.err
    done = tool.run("forget", "-n", "news", "the*")
    assert "near: 'The Title: part 2' in the namespace 'news' (in another case)" in (
        done.err
    )
    with open_store(tool) as store:
        assert len(records_of(store)) == 2


def test_many(on_file: Tool) -> None:
    """Over 100 keys are forgotten if a person says so: --yes, or on a terminal."""
    with open_store(on_file) as store:
        store.mark_many([f"key-{n}" for n in range(150)])
    done = on_file.run("forget", "key-*")
    assert (done.code, done.out) == (2, "")
    assert "forget 150 keys (150 seen): pass --yes" in done.err
    for answer, code, left in (("n", 1, 150), ("", 1, 150), ("y", 0, 0)):
        with on_file.terminal("forget", "key-*") as shown:
            shown.expect(r"forget 150 keys \(150 seen\)\? \[y/N\] ")
            shown.sendline(answer)
            shown.expect(pexpect.EOF)
        assert shown.exitstatus == code
        with open_store(on_file) as store:
            assert store.count() == left
            if left == 0:
                store.mark_many([f"key-{n}" for n in range(150)])
    with on_file.terminal("forget", "key-*") as shown:
        shown.expect(r"\[y/N\] ")
        shown.sendintr()
        shown.expect(pexpect.EOF)
    assert shown.exitstatus == 128 + signal.SIGINT
    assert on_file.run("forget", "key-*", "--yes").code == 0
    with open_store(on_file) as store:
        assert not store.count()


def test_resolve(tool: Tool) -> None:
    """Held keys are seen, or claimable again; keys in other states stay as they are."""
    with open_store(tool) as store:
        fill(store, "news")
        fill(store, "copy")
    assert tool.run("resolve", "-n", "news", "*").code == 2
    done = tool.run("resolve", "-n", "news", "*", "--handled")
    assert (done.code, done.err.splitlines()[0]) == (
        0, "catalyst-seen: 1 key resolved: seen",
    )  # fmt: skip
    assert "kept for 7 days: --ttl says otherwise" in done.err
    done = tool.run("resolve", "-n", "copy", "held", "--again", "--ttl", "30d")
    assert (done.code, "kept for" in done.err) == (0, False)
    with open_store(tool) as store:
        news, copy = store.namespace("news"), store.namespace("copy")
        assert (state_of(news, "held"), state_of(copy, "held")) == ("seen", "released")
        assert {key: state_of(news, key) for key in STATES} == {
            **STATES,
            "held": "seen",
        }
    done = tool.run("resolve", "-n", "news", "pending", "--again")
    assert done.code == 1
    assert "'pending' in the namespace 'news' is pending, not held" in done.err


def test_clear(tool: Tool) -> None:
    """Clear removes a namespace with its source, if it is named and wanted."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("a")
    assert tool.run("clear", "--yes").code == 2
    done = tool.run("clear", "-n", "news")
    assert done.code == 2
    assert f"clear {len(STATES)} keys" in done.err
    assert "baseline: pass --yes" in done.err
    done = tool.run("clear", "-n", "nws", "--yes")
    assert done.code == 1
    assert "near: 'news'" in done.err
    assert tool.run("clear", "-n", "news", "--yes").code == 0
    with open_store(tool) as store:
        assert [record.key for record in records_of(store)] == ["a"]
        assert store.source(namespace="news") is None
    assert tool.run("clear", "--all", "--yes").code == 0
    with open_store(tool) as store:
        assert not records_of(store)


def test_rename(tool: Tool) -> None:
    """Rename moves keys and source as they are, and never onto others."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("a")
        before = [
            without_times(record) for record in records_of(store) if record.namespace
        ]
    for words, problem in (
        (["news", ""], "'' is in use"),
        (["nws", "x"], "near: 'news'"),
    ):
        done = tool.run("rename", *words)
        assert done.code == 1
        assert problem in done.err
    assert tool.run("rename", "news", "news").code == 2
    assert tool.run("rename", "", "orders").code == 0
    done = tool.run("rename", "news", "")
    assert done.code == 2
    assert "cannot have a source" in done.err
    done = tool.run("rename", "news", "bbc")
    assert done.code == 0
    assert f"renamed {len(STATES)} keys" in done.err
    with open_store(tool) as store:
        after = [
            without_times(record)
            for record in records_of(store)
            if record.namespace == "bbc"
        ]
        assert [one.key for one in after] == [one.key for one in before]
        assert [one.state for one in after] == [one.state for one in before]
        assert store.source(namespace="bbc")
        assert store.is_seen("a", namespace="orders")


def test_cleanup(tool: Tool) -> None:
    """Cleanup removes what is old, as its dry run foretells, and purge what expired."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_many(["old", "older"], ts=1_600_000_000, ttl=None)
        store.mark_seen("old", ts=1_600_000_000, ttl=None, namespace="news")
    dry = tool.run("cleanup", "--days", "365", "--dry-run")
    assert {row["key"] for row in dry.rows} == {"old", "older"}
    assert "of 1 key more, those that no source has listed" in dry.err
    done = tool.run("cleanup", "--days", "365")
    assert (done.code, done.out) == (0, "")
    assert "3 rows removed" in done.err
    with open_store(tool) as store:
        assert {record.key for record in records_of(store)} == set(STATES)
        store.mark_seen("brief", ttl=0.001)
        while state_of(store, "brief") != UNSEEN:
            time.sleep(0.001)
    done = tool.run("purge")
    assert done.code == 0
    assert "expired row" in done.err
    for days in ("0", "nan", "-1", "x"):
        assert tool.run("cleanup", f"--days={days}").code == 2


def test_near_keys_are_held(on_file: Tool) -> None:
    """``resolve`` names only keys that are held, wherever they are."""
    with open_store(on_file) as store:
        store.mark_seen("seen", namespace="a")
        store.claim("held", namespace="b").hold("why")
    done = on_file.run("resolve", "*", "--again")
    assert done.code == 1
    assert "near: 'held' in the namespace 'b' (another namespace)" in done.err
    assert done.err.count("near:") == 1
