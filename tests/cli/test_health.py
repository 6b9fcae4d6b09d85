"""``stats`` and ``check``."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from catalyst_seen.backends.sqlite.driver import has_wal_reset_bug

from ..support.servers import free_port
from ..support.tool import Tool
from .conftest import open_store
from .states import STATES, fill


def test_stats(tool: Tool) -> None:
    """The numbers are one object in a pipe, without counters of the process."""
    with open_store(tool) as store:
        fill(store, "news")
        store.mark_seen("a")
        expected = store.stats()
    (data,) = tool.run("stats").rows
    seen = [*STATES.values()].count("seen")
    assert data["keys"] == expected.keys == seen + 1
    assert data["keys_by_namespace"] == {"": 1, "news": seen}
    assert data["abandoned_hold"] == 1
    assert data["engine"].split()[0] == expected.engine.split()[0]
    assert data["namespaces"] == 2
    assert not {"operations", "batches", "purge_runs"} & data.keys()
    (data,) = tool.run("stats", "-n", "").rows
    assert (data["keys"], data["namespaces"]) == (1, 1)
    with open_store(tool) as store:
        store.namespace("pending", first="all").observe(["a"])
        store.namespace("empty").observe([])
    listed = tool.run("namespaces").rows
    assert len(listed) == tool.run("stats").rows[0]["namespaces"] == 4
    (data,) = tool.run("stats", "-n", "pending").rows
    assert (data["keys"], data["namespaces"]) == (0, 1)


def test_stats_on_terminal(on_file: Tool) -> None:
    """A terminal gets a row for each number."""
    with open_store(on_file) as store:
        store.mark_many(map(str, range(2_000)))
    with on_file.terminal("stats") as shown:
        words = shown.read().split()
    assert words[words.index("keys") + 1] == "2,000"


def test_check(tool: Tool) -> None:
    """The report is that of the store: lines on a terminal, else an object.

    The exit code is 1 if it has problems, as a test server has that may lose writes.
    """
    with open_store(tool) as store:
        fill(store, "news")
        problems = [*store.check().problems]
    for words in (["check"], ["check", "--full"]):
        done = tool.run(*words)
        (report,) = done.rows
        assert (done.code, report["problems"]) == (bool(problems), problems)
        assert done.err.count("problem: ") == len(problems)
        if "://" not in tool.store:  # servers decide for themselves what they check
            assert report["is_full"] == ("--full" in words)
        own = report["of_connection"]
        assert ("synchronous" in own) == ("synchronous" in report["settings"])
    with tool.terminal("check") as shown:
        text = shown.read()
    assert ("all is well" in text) == (not problems)
    assert text.count("of this connection") == len(own)


def test_problem_is_whole_in_a_pipe(on_file: Tool) -> None:
    """The advice at the end of a long problem is cut on a terminal only."""
    with open_store(on_file) as store:
        done = on_file.run("check", env={"PYTHONPATH": _without_pysqlite3(on_file)})
        if not has_wal_reset_bug(sqlite3.sqlite_version_info[:3]):
            pytest.skip("Python's SQLite has no WAL-reset bug")
        (problem,) = done.rows[0]["problems"]
        assert store.location
    assert done.code == 1
    assert len(problem) > 300
    assert done.err.endswith(f"problem: {problem}\n")


def test_library_of_the_tool(on_file: Tool) -> None:
    """Beside a program, the tool has no WAL-reset bug where pysqlite3 is installed."""
    pysqlite3 = pytest.importorskip("pysqlite3")
    with open_store(on_file) as store:
        store.mark_seen("a")
        done = on_file.run("check")
        assert (done.code, done.rows[0]["is_shared"]) == (0, True)
    if has_wal_reset_bug(sqlite3.sqlite_version_info[:3]):
        assert done.rows[0]["engine"] == f"SQLite {pysqlite3.sqlite_version}"


def _without_pysqlite3(tool: Tool) -> str:
    """Return a path for Python on which pysqlite3 cannot be loaded."""
    module = tool.folder / "modules" / "pysqlite3.py"
    module.parent.mkdir()
    module.write_text("raise ImportError('another system')")
    return f"{module.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"


def test_damage(on_file: Tool) -> None:
    """Damage is 1, with each problem on a line; a file that is no store is 3."""
    with open_store(on_file) as store:
        store.mark_many([f"https://example.org/{n}" for n in range(5_000)])
    path = Path(on_file.store)
    whole = path.read_bytes()
    path.write_bytes(whole[:200_000] + bytes(8_192) + whole[208_192:])
    done = on_file.run("check")
    assert done.code == 1
    lines = done.err.splitlines()
    assert all("problem: the file is damaged" in line for line in lines)
    assert done.rows[0]["problems"]
    for content in (whole[:9_000], b"a text of another program\n" * 100):
        path.write_bytes(content)
        done = on_file.run("check")
        assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
        assert on_file.store in done.err


def test_unreachable(on_file: Tool) -> None:
    """A server that is not there is 3, in one line with its address."""
    port = free_port()
    for url in (f"valkey://127.0.0.1:{port}", f"postgresql://127.0.0.1:{port}/db"):
        done = on_file.run("check", "--store", url)
        assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
        assert str(port) in done.err


def test_another_schema(tool: Tool) -> None:
    """Where there is no store, it is said how one in another schema is named."""
    done = tool.run("stats")
    if tool.store.startswith("postgres"):
        assert done.code == 3
        assert "(URL#NAME is that in another one; for a move, move" in done.err
    else:
        assert "URL#NAME" not in done.err
