"""``list``, ``pending``, ``held``, ``namespaces``."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime

import pytest

from ..support.tool import PYTHON, Tool
from .conftest import open_store
from .states import STATES, fill


def test_which(tool: Tool) -> None:
    """Lists are of all namespaces, or of what the options select."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_many(["a/1", "a/2", "b/1", "a[1]"])
        store.mark_seen("old", ts=1_700_000_000, ttl=None)
    every = tool.run("list")
    assert {row["key"]: row["state"] for row in every.rows} == {
        **STATES,
        **dict.fromkeys(["a/1", "a/2", "b/1", "a[1]", "old"], "seen"),
    }
    selections = {
        ("-n", "news"): set(STATES),
        ("--state", "held"): {"held"},
        ("-n", "", "--prefix", "a/"): {"a/1", "a/2"},
        ("--prefix", "a", "*1"): {"a/1"},
        ("a[[]?]",): {"a[1]"},
        ("-n", "", "--since", "1d"): {"a/1", "a/2", "b/1", "a[1]"},
        ("nothing*",): set(),
    }
    for words, keys in selections.items():
        done = tool.run("list", *words)
        assert (done.code, {row["key"] for row in done.rows}) == (0, keys)
    assert "no key matches" in done.err
    assert len(tool.run("list", "--limit", "2").rows) == 2


def test_waiting(tool: Tool) -> None:
    """Pending and held list what waits, the oldest first, with its error and note."""
    with open_store(tool) as store:
        store.mark_seen("a")
    for name in ("pending", "held"):
        done = tool.run(name)
        assert (done.code, done.out) == (0, "")
        assert done.err == f"catalyst-seen: nothing is {name}\n"
    with open_store(tool) as store:
        store.claim("busy", lease=60)
        store.claim("busy too", lease=3_600)
        claimed = store.get("busy too")
    assert claimed
    assert claimed.until
    assert tool.run("pending").err == (
        "catalyst-seen: nothing is pending; 2 keys are claimed until"
        f" {datetime.fromtimestamp(claimed.until, UTC):%Y-%m-%d %H:%M:%S}\n"
    )
    assert tool.run("held").err == "catalyst-seen: nothing is held\n"
    with open_store(tool) as store:
        store.forget_many(["busy", "busy too"])
        fill(store, "news")
        first = store.namespace("first", first="all")
        first.observe(["older"])
    rows = tool.run("pending").rows
    waiting = [key for key, state in STATES.items() if state in {"released", "pending"}]
    assert sorted(row["key"] for row in rows) == sorted([*waiting, "older"])
    ages = [row["age"] for row in rows]
    assert ages == sorted(ages, reverse=True)
    failed = next(row for row in rows if row["key"] == "failed")
    assert failed["error"] == "the receiver is away"
    assert (failed["attempt"], failed["note"]) == (1, "the note of failed")
    assert [row["key"] for row in tool.run("pending", "-n", "first").rows] == ["older"]
    (held,) = tool.run("held").rows
    assert (held["key"], held["attempt"]) == ("held", 1)


def test_namespaces(tool: Tool) -> None:
    """Namespaces are listed with their keys by state, and their source."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("a")
    default, news = tool.run("namespaces").rows
    assert (default["namespace"], default["seen"]) == ("", 1)
    assert (default["has_source"], default["last_poll"]) == (False, None)
    counts = {state: [*STATES.values()].count(state) for state in set(STATES.values())}
    assert {state: news[state] for state in counts} == counts
    assert news["has_source"]
    assert news["last_poll"].endswith("Z")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_word_is_broken(on_file: Tool, width: int) -> None:
    """The headings of a table are whole, whatever the terminal is wide."""
    with open_store(on_file) as store:
        fill(store, "news")
        store.mark_seen("a")
    on_file.environment["NO_COLOR"] = "1"
    with on_file.terminal("namespaces", size=(24, width)) as shown:
        lines = shown.read().splitlines()
    words = {word for line in lines for word in line.split()}
    assert {"namespace", "claimed", "released", "pending", "(default)"} <= words
    headings = [line for line in lines if "namespace " in line and "released" in line]
    assert len(headings) == (width >= 80)
    assert all(("claimed  released" in line) == (width > 80) for line in headings)


def test_terminal(on_file: Tool) -> None:
    """A terminal gets 100 rows at most, and hears of it; a narrow one gets blocks."""
    with open_store(on_file) as store:
        store.mark_many([f"key-{n:04}\x1b[31m" for n in range(150)])
    on_file.environment["NO_COLOR"] = "1"
    for words, rows in ((["list"], 100), (["list", "--all"], 150)):
        with on_file.terminal(*words, size=(24, 200)) as shown:
            text = shown.read()
        assert text.count("\\x1b[31m") == rows
        assert ("there are more than 100: --all lists all" in text) == (rows == 100)
        assert "\x1b" not in text
        assert text.count("last seen") == 1
    with on_file.terminal("list", "--limit", "3", size=(24, 40)) as shown:
        text = shown.read()
    assert text.count("last seen") == 3
    assert "more" not in text


def test_reader_ends(on_file: Tool) -> None:
    """A reader that ends after a line ends the list quietly."""
    with open_store(on_file) as store:
        store.mark_many([f"https://example.org/{n}" for n in range(5_000)])
    done = on_file.shell("catalyst-seen list | head -n 1; echo ${PIPESTATUS[0]}")
    line, code = done.out.splitlines()
    assert line.startswith("{")
    assert (code, done.err) == ("141", "")


_PEAK = """
import pathlib, re, sys
from catalyst_seen.cli import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(re.search(r"VmHWM:\\s+(\\d+)", status)[1], file=sys.stderr)
sys.exit(code)
"""


def test_memory(on_file: Tool) -> None:
    """A list in a pipe is written as it is read: its memory does not grow with it."""
    on_file.environment["SQLITE_CACHE_SIZE"] = "100"  # pages: that is no memory of ours
    peaks = []
    for count in (2_000, 40_000):
        with open_store(on_file) as store:
            store.mark_many([f"https://example.org/item/{n}" for n in range(count)])
        done = subprocess.run(
            [PYTHON[0], "-c", _PEAK, "list"],
            capture_output=True, check=True, cwd=on_file.folder,
            env=on_file.variables(), timeout=120,
        )  # fmt: skip
        assert done.stdout.count(b"\n") == count
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < peaks[0] * 1.1  # 38,000 records are 20 MB and more
