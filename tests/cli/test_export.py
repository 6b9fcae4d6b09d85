"""``export``, and that ``import`` takes it."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

from catalyst_seen.cli._moving.sorted_lines import SortedLines

from ..support.tool import Tool
from .conftest import open_store

HEADER = {"catalyst-seen": "export", "version": 1}


def fill(tool: Tool) -> None:
    """Put a key in every state into the store, and some that are odd."""
    now = time.time()
    with open_store(tool) as store:
        store.mark_many(["b", "a", "ü\u2028x", "c d"], now - 3600.123456)
        store.mark_seen("a", now - 60, ttl="1h", note="first\nsecond")
        store.mark_seen("z", ttl=None, namespace="a feed")
        store.mark_seen("z", now - 9.87654, ttl=12345.678, namespace='odd "{}" %')
        store.claim("claimed", lease="1h", note="at work")
        store.claim("released").release()
        feed = store.namespace("a feed")
        feed.observe(["old", "new"], key=str)  # no baseline where a key is seen


def test_states_in_order(tool: Tool) -> None:
    """An export has every key in every state, by namespace and key; --state selects."""
    fill(tool)
    header, *rows = tool.run("export").rows
    assert header == HEADER
    names = [(row.get("namespace", ""), row["key"]) for row in rows]
    assert names == sorted(names)
    assert len(names) == 10
    states = {row["key"]: row.get("state", "seen") for row in rows}
    assert states["claimed"] == "claimed"
    assert states["released"] == "released"
    assert states["new"] == "pending"
    assert {row["key"]: row.get("note") for row in rows}["a"] == "first\nsecond"
    _, *pending = tool.run("export", "--state", "pending", "-n", "a feed").rows
    assert [row["key"] for row in pending] == ["new", "old"]


def test_nothing_differs_if_nothing_has_changed(tool: Tool) -> None:
    """Seen keys exported, imported elsewhere and exported again are the same bytes."""
    fill(tool)
    first = tool.run("export", "--state", "seen").out
    assert tool.run("export", "--state", "seen").out == first
    for store in ("sqlite:///other.db", "sqlite:///third.db"):
        done = tool.run("--store", store, "import", "-", given=first)
        assert (done.code, done.out) == (0, "")
        assert tool.run("--store", store, "export").out == first
    with open_store(tool) as opened:
        opened.clear(namespace=None)
    assert tool.run("import", "-", given=first).code == 0
    assert tool.run("export", "--state", "seen").out == first


def test_what_is_not_seen_is_left_out(tool: Tool) -> None:
    """An import of an export says how many keys it leaves out, by state."""
    fill(tool)
    out = tool.run("export").out
    done = tool.run("--store", "sqlite:///other.db", "import", "-", given=out)
    assert done.code == 0
    for left_out in ("2 are pending", "1 are claimed", "1 are released"):
        assert f"{left_out}, and not seen" in done.err
    _, *rows = tool.run("--store", "sqlite:///other.db", "export").rows
    assert {row.get("state", "seen") for row in rows} == {"seen"}


def test_file_is_replaced_as_a_whole(on_file: Tool) -> None:
    """-o keeps the old file and its permissions until the new one is complete."""
    fill(on_file)
    out = on_file.folder / "out.jsonl"
    out.write_text("old")
    out.chmod(0o640)
    (on_file.folder / "link").symlink_to(out)
    assert on_file.run("export", "-o", "link").code == 0
    assert out.read_text(encoding="utf-8") == on_file.run("export").out
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    done = on_file.run("export", "-o", on_file.store)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    done = on_file.run("export", "-o", "missing/out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    done = on_file.run("export", "-o", "/dev/full")
    assert (done.code, done.err.count("\n")) == (2, 1)
    names = {path.name for path in on_file.folder.iterdir()}
    assert not {name for name in names if name.endswith(".part")}


def test_closed_pipe_is_quiet(on_file: Tool) -> None:
    """A reader that ends early ends the export without a word."""
    with open_store(on_file) as store:
        store.mark_many([f"{number:0>1000}" for number in range(5000)])
    done = on_file.shell("catalyst-seen export | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.out.splitlines() == [json.dumps(HEADER), "141"]
    assert not done.err


def test_memory_is_bounded() -> None:
    """Lines beyond what is held go to files, and come back in order, each key once."""
    keys = [f"{number * 7919 % 1009:04}" for number in range(1009)]
    with SortedLines(lines=10) as lines:
        for key in [*keys, *keys[:50]]:
            lines.add("", key, f"line of {key}")
        held = len([*Path("/proc/self/fd").iterdir()])
        assert list(lines) == [f"line of {key}" for key in sorted(keys)]
    assert len([*Path("/proc/self/fd").iterdir()]) < held
