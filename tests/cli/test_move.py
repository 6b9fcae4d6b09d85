"""``move``."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, Source, StoreUnavailableError
from catalyst_seen.backends.sqlite.objects import APPLICATION_ID, OBJECTS
from catalyst_seen.cli._stores import configuration
from catalyst_seen.transfer import MARKER, as_target

from ..support.sqlite_files import write
from ..support.targets import HAVE_SERVERS, Places
from ..support.tool import Tool
from .conftest import open_store, placed

_WRITER = """
import itertools, signal, sys
from catalyst_seen import SeenStore
from catalyst_seen.cli._stores import configuration

ending = []
signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
with SeenStore(configuration(sys.argv[1], create=True)) as store:
    feed = store.namespace("written")
    for number in itertools.count():
        store.mark_seen(f"mark {number}", note=f"note {number}")
        store.claim(f"claim {number}", lease=600)
        store.forget(f"mark {number // 2}")
        feed.observe([f"entry {n}" for n in range(number, number + 5)])
        if number == 20:
            print("writing", flush=True)
        if ending:
            break
"""


def fill(store: SeenStore, number: int = 3) -> None:
    """Make keys of every kind."""
    store.check_and_mark_many([f"seen {n}" for n in range(number)])
    store.mark_seen("with a note", note="a note\nof two lines", namespace="other {}%")
    store.mark_seen("for a day", ttl="1d")
    store.mark_seen("for ever", ttl=None)
    store.claim("claimed", lease="1d", note="another")
    store.claim("to be dropped", lease="1d", on_abandoned="drop")
    store.claim("released").release(delay=600, error="it failed")
    store.claim("given back").release()
    store.claim("held").hold("for a look")
    feed = store.namespace("feed")
    feed.observe(["a", "b"], validators="first")
    feed.observe(["b", "c", "d"], validators="second")
    for claim in feed.pending():
        claim.release(delay=600, error="no answer")
        break
    store.namespace("broken").failed("no such host", state="its state")


class About(float):
    """An instant that is equal to those nearby, as databases round them."""

    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 0.5


def contents(address: str) -> dict[str, object]:
    """Return all that a store shows of its keys and sources."""
    with SeenStore(configuration(address, create=False)) as store:
        rows = {
            (one.namespace, one.key): (
                one.state, one.attempt, one.note, one.error,
                *map(_about, (one.first_seen, one.last_seen)),
                *map(_about, (one.expires_at, one.until)),
            )
            for one in store.records(namespace=None)
        }  # fmt: skip
        names = {*store.namespaces(), "broken"} - {""}
        sources = [store.namespace(name).source() for name in sorted(names)]
    return {"rows": rows, "sources": list(map(_rounded, sources))}


def _about(instant: float | None) -> About | None:
    return None if instant is None else About(instant)


def _rounded(source: Source | None) -> list[object] | None:
    if source is None:
        return None
    return [
        About(value) if isinstance(value, float) else value
        for value in dataclasses.astuple(source)
    ]


@contextmanager
def writing(tool: Tool) -> Iterator[None]:
    """Let another process change the store of a tool."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, tool.store], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.fixture
def last(tmp_path: Path) -> str:
    """Where another file may be."""
    return str(tmp_path / "last.db")


def test_round(tool: Tool, tmp_path: Path, last: str) -> None:
    """From a file to each kind of store and to a file again, everything is the same."""
    first = str(tmp_path / "first.db")
    with open_store(Tool(tmp_path, first)) as store:
        fill(store)
    before = contents(first)
    moved = [
        tool.run("move", "--stopped", first, tool.store),
        tool.run("move", "--stopped", tool.store, last),
    ]
    assert [done.code for done in moved] == [0, 0], moved
    counts = {row["what"]: row["count"] for row in moved[0].rows}
    assert counts == {
        "seen": 8, "claimed": 2, "released": 3, "pending": 1, "held": 1,
        "sources": 2, "notes": 2,
    }  # fmt: skip
    assert moved[1].rows == moved[0].rows
    assert contents(tool.store) == contents(last) == before
    assert tool.run("move", "--verify", first, last).code == 0


def test_two_commands(tool: Tool, last: str) -> None:
    """Without a terminal, the first command says what to do, and the second ends it."""
    with open_store(tool) as store:
        fill(store)
    first = tool.run("move", tool.store, last)
    assert (first.code, first.out) == (1, "")
    assert "--stopped" in first.err
    with open_store(tool) as store:
        store.mark_seen("late")
        store.forget("seen 1")
        store.namespace("feed").observe(["c", "d", "e"])
    second = tool.run("move", "--stopped", tool.store, last)
    assert second.code == 0, second
    assert "an earlier move goes on" in second.err
    assert contents(last) == contents(tool.store)
    third = tool.run("move", "--stopped", tool.store, last)
    assert (third.code, third.out) == (2, "")
    assert "--verify" in third.err
    assert contents(last) == contents(tool.store)


def test_source_is_only_read(on_file: Tool, last: str) -> None:
    """The file that is moved has the same bytes afterwards, expired rows included."""
    with open_store(on_file, ttl="1ms", purge_interval=None) as store:
        store.mark_seen("expired")
        store.mark_seen("kept", ttl=None)
    path = Path(on_file.store)
    before = path.read_bytes()
    assert on_file.run("move", on_file.store, last).code == 1
    assert on_file.run("move", "--stopped", on_file.store, last).code == 0
    assert on_file.run("move", "--verify", on_file.store, last).code == 0
    assert path.read_bytes() == before
    assert list(contents(last)["rows"]) == [("", "kept")]  # type: ignore[call-overload]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(("origin", "goal"), [("file", "valkey"), ("postgres", "file")])
def test_ended_again_and_again(
    number: signal.Signals, origin: str, goal: str, places: Places, tmp_path: Path
) -> None:
    """Ended at any moment beside a program that writes, a move goes on and is equal."""
    chance = random.Random(number)
    (tmp_path / "to").mkdir()
    with (
        placed(places, origin, tmp_path) as tool,
        placed(places, goal, tmp_path / "to") as other,
    ):
        with open_store(tool) as store:
            fill(store, 20_000)
        with writing(tool):
            for _ in range(5):
                with tool.start("move", tool.store, other.store) as process:
                    assert process.stderr is not None
                    assert process.stderr.readline()  # the source is open
                    try:
                        process.wait(chance.uniform(0, 2))
                    except subprocess.TimeoutExpired:
                        process.send_signal(number)
                    process.communicate()
                    ended = {-number, 128 + number, 1}
                    assert process.returncode in ended
        done = tool.run("move", "--stopped", tool.store, other.store)
        assert done.code == 0, done
        assert contents(other.store) == contents(tool.store)
        assert tool.run("move", "--verify", tool.store, other.store).code == 0


def test_terminal(tool: Tool, last: str) -> None:
    """On a terminal it asks, goes on at Enter, and can be ended at the question."""
    with open_store(tool) as store:
        fill(store)
    for key, code in (("\x04", 1), ("\x03", 130), ("\r", 0)):
        terminal = tool.terminal("move", tool.store, last)
        terminal.expect("then press Enter")
        terminal.send(key)
        terminal.expect(pexpect.EOF)
        terminal.close()
        assert terminal.exitstatus == code, terminal.before
    assert contents(last) == contents(tool.store)


def test_file_that_is_open(on_file: Tool, last: str) -> None:
    """The rest is refused while another process has the file open."""
    with open_store(on_file) as store:
        fill(store)
        done = on_file.run("move", "--stopped", on_file.store, last)
        assert (done.code, done.out) == (1, "")
        assert "open" in done.err
        terminal = on_file.terminal("move", on_file.store, last)
        terminal.expect("then press Enter")
        terminal.send("\r")
        terminal.expect("still has")
        terminal.expect("then press Enter")
    terminal.send("\r")
    terminal.expect("moved, and equal")
    terminal.expect(pexpect.EOF)
    assert contents(last) == contents(on_file.store)


def test_not_empty(tool: Tool, tmp_path: Path) -> None:
    """A target with other rows is refused, and nothing in it is changed."""
    source = str(tmp_path / "source.db")
    with open_store(Tool(tmp_path, source)) as store:
        fill(store)
    with open_store(tool) as store:
        store.mark_seen("mine")
    before = contents(tool.store)
    for words in ([], ["--stopped"], ["--dry-run"]):
        done = tool.run("move", *words, source, tool.store)
        assert (done.code, done.out) == (2, ""), done
        assert "empty" in done.err
    assert contents(tool.store) == before


def test_another_source(tool: Tool, tmp_path: Path, last: str) -> None:
    """An incomplete target is neither that of another source, nor a source."""
    sources = [str(tmp_path / f"{name}.db") for name in "ab"]
    for source in sources:
        with open_store(Tool(tmp_path, source)) as store:
            fill(store)
    assert tool.run("move", sources[0], tool.store).code == 1
    for words in ([sources[1], tool.store], [tool.store, last]):
        done = tool.run("move", "--stopped", *words)
        assert (done.code, done.out) == (2, "")
        assert sources[0] in done.err
    assert tool.run("move", "--stopped", sources[0], tool.store).code == 0
    with open_store(tool) as store:
        assert MARKER not in store.namespaces()


def test_early_program(tool: Tool, tmp_path: Path) -> None:
    """Nothing uses a target before the move to it has ended; the advice ends it."""
    source = str(tmp_path / "source.db")
    with open_store(Tool(tmp_path, source)) as store:
        fill(store)
    assert tool.run("move", source, tool.store).code == 1
    done = tool.run("check")  # looks whether the role of the programs has its rights
    assert done.code == 1
    unfinished = f"a move from {source} to it has not ended: no program can open it"
    assert done.rows[0]["problems"][-1] == unfinished
    for words in (["seen", "seen 1"], ["stats"], ["each", "--", "true"]):
        done = tool.run(*words, given="early\n")
        assert (done.code, done.out) == (3, ""), done
        assert f"a move from {source} to it has not ended" in done.err
    with pytest.raises(StoreUnavailableError, match="Go on with `catalyst-seen move"):
        open_store(tool)
    assert tool.run("move", "--verify", source, tool.store).code == 0
    assert tool.run("move", "--dry-run", source, tool.store).code == 0
    assert tool.run("move", "--stopped", source, tool.store).code == 0
    assert "has not ended" not in tool.run("check").err
    assert contents(tool.store) == contents(source)


def test_unfinished_is_dropped(tool: Tool, tmp_path: Path) -> None:
    """A target is given up by clearing it, and is an empty store then."""
    source = str(tmp_path / "source.db")
    with open_store(Tool(tmp_path, source)) as store:
        fill(store)
    assert tool.run("move", source, tool.store).code == 1
    assert tool.run("clear", "-n", "feed", "--yes").code == 3
    assert tool.run("clear", "--all", "--yes").code == 0
    with open_store(tool) as store:
        assert store.namespaces() == []
    assert tool.run("move", "--stopped", source, tool.store).code == 0


def test_removed_rows_are_counted(on_file: Tool, last: str) -> None:
    """Rows that only the target had are counted when they are removed."""
    with open_store(on_file) as store:
        fill(store)
    first = on_file.run("move", on_file.store, last)

    async def mark_early() -> None:
        async with as_target(AsyncSeenStore(last)) as target:
            await target.mark_many(["early 1", "early 2"])

    asyncio.run(mark_early())
    done = on_file.run("move", "--stopped", on_file.store, last)
    assert "only the target had" not in first.err
    assert "comparison: removed 2 keys that only the target had" in done.err


def test_the_way_back(on_file: Tool, tmp_path: Path, last: str) -> None:
    """The old file is refused with what to do instead, and a new one is taken."""
    with open_store(on_file) as store:
        fill(store)
    assert on_file.run("move", "--stopped", on_file.store, last).code == 0
    done = on_file.run("move", "--stopped", last, on_file.store)
    assert done.code == 2
    assert "name a new file or another schema (URL#name), and change the" in done.err
    assert on_file.run("move", "--stopped", last, str(tmp_path / "new.db")).code == 0


def test_killed_and_begun_at_once(on_file: Tool, last: str) -> None:
    """The wait for the lease of a killed one is told; Ctrl-C says what is next."""
    with open_store(on_file) as store:
        fill(store)
    terminal = on_file.terminal("move", on_file.store, last)
    terminal.expect("then press Enter")
    terminal.kill(signal.SIGKILL)
    terminal.expect(pexpect.EOF)
    terminal = on_file.terminal("move", on_file.store, last)
    terminal.expect("was killed at it: waiting for up to 11 seconds")
    terminal.send("\x03")
    terminal.expect("ended: repeat the command to go on")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130


def test_itself(tool: Tool, tmp_path: Path) -> None:
    """A store is not moved to itself, under whatever name."""
    with open_store(tool) as store:
        fill(store)
    names = [tool.store]
    if "://" not in tool.store:
        (tmp_path / "link.db").symlink_to(tool.store)
        names.append("link.db")
    else:
        names.append(tool.store.replace("127.0.0.1", "localhost"))
    for name in names:
        done = tool.run("move", "--stopped", tool.store, name)
        assert (done.code, done.out) == (2, ""), done
        assert "the source" in done.err


def test_no_source(on_file: Tool, tmp_path: Path, last: str) -> None:
    """A source that is not there, or is empty, is an error, and no file is made."""
    missing = on_file.run("move", on_file.store, last)
    assert (missing.code, len(missing.err.splitlines())) == (3, 1)
    assert not list(tmp_path.iterdir())
    open_store(on_file).close()
    empty = on_file.run("move", on_file.store, last)
    assert (empty.code, len(empty.err.splitlines())) == (1, 1)
    assert not Path(last).exists()


def test_names_that_are_missing(on_file: Tool, last: str) -> None:
    """A store that is not there is one of the two names, and no option."""
    with open_store(on_file) as store:
        fill(store)
    for words in ((last, "x.db"), ("--verify", on_file.store, last)):
        done = on_file.run("move", *words)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert "there is no store: name one that is there" in done.err


def test_only_a_source(tool: Tool, last: str) -> None:
    """A store that has no key yet, but a source, is moved; a cleared one is empty."""
    with open_store(tool) as store:
        store.namespace("feed").failed("no such host", state="its state")
    assert tool.run("move", "--stopped", tool.store, last).code == 0
    with SeenStore(last) as store:
        assert [one.state for one in store.sources()] == ["its state"]
    with open_store(tool) as store:
        store.clear(namespace="feed")
    done = tool.run("move", "--stopped", tool.store, "another.db")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "nothing to move" in done.err


def test_last_step(on_file: Tool, last: str) -> None:
    """The last step counts what it has copied, before it found both equal."""
    with open_store(on_file) as store:
        store.mark_many([*"abc"])
    done = on_file.run("move", "--stopped", on_file.store, last)
    assert ": 3 keys, 3 changes in " in done.err


def test_prefix(places: Places, tmp_path: Path) -> None:
    """Messages name a store on Redis with its prefix, so that programs find it."""
    source = str(tmp_path / "source.db")
    with placed(places, "valkey", tmp_path) as tool:
        address = tool.store
        refused = tool.run("move", address, source)
        with open_store(Tool(tmp_path, source)) as store:
            fill(store)
        moved = tool.run("move", "--stopped", source, address)
        again = tool.run("move", source, address)
        used = tool.terminal("--store", address, "seen", "seen 1")
        used.expect(pexpect.EOF)
    name = "#" + address.partition("#")[2]
    assert f"{name} has nothing to move" in refused.err
    assert f"{name} now" in moved.err
    assert f"{name} is not empty" in again.err
    assert name in str(used.before)


@pytest.mark.parametrize("is_old", [True, False])
def test_earlier_release(on_file: Tool, last: str, is_old: bool) -> None:
    """A file that would be upgraded is touched by --stopped only, and never by -d."""
    path = Path(on_file.store)
    now = time.time()
    if is_old:
        write(
            path,
            "PRAGMA journal_mode = WAL",
            "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
            f"INSERT INTO seen VALUES ('a', {now:.0f})",
        )
    else:
        write(
            path,
            "PRAGMA journal_mode = WAL",
            *OBJECTS[3].values(),
            f"PRAGMA application_id = {APPLICATION_ID}",
            "PRAGMA user_version = 3",
            "INSERT INTO seen (namespace, id, first_seen, last_seen, expires_at)"
            f" VALUES ('', 'a', {now}, {now}, NULL)",
        )
    before = path.read_bytes()
    for words, code in (
        (["--dry-run"], 2), (["--dry-run", "--stopped"], 2), ([], 1), (["--verify"], 1),
    ):  # fmt: skip
        done = on_file.run("move", *words, on_file.store, last)
        assert (done.code, done.err.count("\n")) == (code, 1), done
        assert "earlier release" in done.err
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    done = on_file.run("move", "--stopped", on_file.store, last)
    assert done.code == 0, done
    assert "it is upgraded in its place" in done.err
    assert list(contents(last)["rows"]) == [("", "a")]  # type: ignore[call-overload]


def test_usage(on_file: Tool, last: str) -> None:
    """What makes no sense is refused in one line."""
    with open_store(on_file) as store:
        fill(store)
    for words in (
        ["move"],
        ["move", on_file.store],
        ["move", on_file.store, ":memory:"],
        ["move", "--store", "x.db", on_file.store, last],
        ["--store", "x.db", "move", on_file.store, last],
        ["move", "--pass-until", "-1", on_file.store, last],
        ["move", on_file.store, "localhost:6379"],
    ):
        done = on_file.run(*words)
        assert (done.code, done.out) == (2, ""), words
        assert len(done.err.splitlines()) == 1


def test_dry_run(tool: Tool, last: str) -> None:
    """A rehearsal counts what would be moved, and makes nothing."""
    with open_store(tool) as store:
        fill(store)
    done = tool.run("move", "--dry-run", tool.store, last)
    assert done.code == 0
    assert not Path(last).exists()
    assert done.rows == tool.run("move", "--stopped", tool.store, last).rows


@pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
def test_dry_run_without_the_right(places: Places, tmp_path: Path) -> None:
    """A rehearsal says which right is missing, before programs are stopped."""
    source = str(tmp_path / "source.db")
    with open_store(Tool(tmp_path, source)) as store:
        fill(store)
    server = places.postgres
    server.execute("DROP ROLE IF EXISTS mover", "CREATE ROLE mover LOGIN")
    with placed(places, "postgres", tmp_path) as tool:
        address = tool.store.replace("//postgres@", "//mover@")
        words = ("move", "--dry-run", source, address)
        done = tool.run(*words)
        assert (done.code, done.out) == (3, ""), done
        assert "GRANT CREATE ON DATABASE postgres TO mover" in done.err
        server.execute("GRANT CREATE ON DATABASE postgres TO mover")
        done = tool.run(*words)
        assert (done.code, "would be made" in done.err) == (0, True), done
        assert tool.run("stats", "--store", address).code == 3
    server.execute("DROP OWNED BY mover", "DROP ROLE mover")


def test_verify(tool: Tool, last: str) -> None:
    """Each difference is a row: what is missing, what is too much, what is other."""
    with open_store(tool) as store:
        fill(store)
    assert tool.run("move", "--stopped", tool.store, last).code == 0
    with SeenStore(last) as store:
        store.mark_seen("more")
        store.forget("seen 1")
        store.mark_seen("for ever", ttl=None, note="new")
        store.namespace("feed").failed("an error")
    done = tool.run("move", "--verify", tool.store, last)
    found = {(row["namespace"], row["key"]): row["what"] for row in done.rows}
    assert done.code == 1
    assert found["", "more"] == "extra"
    assert found["", "seen 1"] == "missing"
    assert "note" in found["", "for ever"]
    assert "error" in found["feed", None]
    assert len(found) == len(done.rows) == 4
    assert "4 differences (missing 1, extra 1, changed 2)" in done.err
    assert "differences" in done.err.splitlines()[-1]
