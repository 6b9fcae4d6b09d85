"""``import``: text, JSON, CSV, SQLite and the old store."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..support import sqlite_files
from ..support.tool import Tool
from .conftest import open_store

DAY = 86_400.0
NOW = float(int(time.time()))
AT = NOW - DAY
ISO = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(AT))
MAIL = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(AT))


def keys_of(tool: Tool, **selection: Any) -> dict[str, Any]:
    """Return the records in the store of a tool, by their keys."""
    with open_store(tool) as store:
        return {record.key: record for record in store.records(**selection)}


FORMS = {
    "lines": ("a\nb c\n", ["a", "b c"], []),
    "CRLF, blank lines, no last line end": ("a\r\n\r\n \nb", ["a", "b"], []),
    "a byte order mark": ("\ufeffa\nb\n", ["a", "b"], []),
    "lines like JSON": ("[INFO] a\n[WARN] b\n", ["[INFO] a", "[WARN] b"], []),
    "a list": (
        '["a", 1, 1.0, 1e3, 12345678901234567890, "1"]',
        ["1", "1.0", "12345678901234567890", "1e3", "a"],
        [],
    ),
    "a list over lines": ('[\n "a",\n "b"\n]\n', ["a", "b"], []),
    "an object": ('{"a": 1, "b": null, "a": true}', ["a", "b"], []),
    "objects": ('[{"id": "a"}, {"id": 7}]', ["7", "a"], ["--key", "/id"]),
    "a path": (
        '{"feeds": [{"items": [{"id": "a"}]}, {"items": [{"id": "b"}]}]}',
        ["a", "b"],
        ["--key", "/feeds/items/id"],
    ),
    "names of a path": (
        '{"feeds": [{"seen": {"a": {"id": "x"}, "b": {}}}]}',
        ["a", "b"],
        ["--key", "/feeds/seen"],
    ),
    "pairs": ('[["a", 5], ["b", 6]]', ["a", "b"], ["--key", "/0"]),
    "JSON Lines": (
        '{"u": {"n": "a"}}\n\n{"u": {"n": 2}}',
        ["2", "a"],
        ["--key", "/u/n"],
    ),
    "texts a line": ('"a"\n"b"\n', ["a", "b"], []),
    "CSV": ("id,x\n1,2\n3,4\n", ["1", "3"], ["--key", "id"]),
    "CSV with semicolons": ('x;"the id"\n1;"a;b"\n', ["a;b"], ["--key", "the id"]),
    "CSV with rows of other widths": (
        "id;x\n1;2;3\n4\n",
        ["1", "4"],
        ["--key", "id", "--as", "csv"],
    ),
    "CSV with a line separator": (
        "id,x\n1,a\u2028b\n2,c\n",
        ["1", "2", "id"],
        ["--key", "1"],
    ),
    "CSV without names": ("1\t5\n3\t4\n", ["4", "5"], ["--key", "2"]),
}


@pytest.mark.parametrize(("text", "keys", "options"), FORMS.values(), ids=FORMS)
def test_forms(on_file: Tool, text: str, keys: list[str], options: list[str]) -> None:
    """The form is found by the content, and each key is taken as it is written."""
    done = on_file.run("import", "-", *options, given=text)
    assert (done.code, done.out) == (0, "")
    assert sorted(keys_of(on_file)) == keys


def test_the_default_namespace_is_said(on_file: Tool) -> None:
    """Keys without a namespace are where no feed looks, which is said."""
    told = "; in the default namespace, which no feed reads (-n NAME)\n"
    assert on_file.run("import", "-", given="a\n").err.endswith(f"already: 0{told}")
    dry = on_file.run("import", "-", "--dry-run", given="b\n")
    assert dry.err.endswith(f"would be marked: 1; seen already: 0{told}")
    for namespace in ("news", ""):  # the default one was named
        done = on_file.run("import", "-", "-n", namespace, given="c\n")
        assert done.err.endswith("marked: 1; seen already: 0\n")
    exported = on_file.run("export").out
    done = on_file.run("import", "-", given=exported)
    assert done.err.endswith("marked: 0; seen already: 3\n")


def test_a_rerun_ends_the_same(tool: Tool) -> None:
    """Dates, notes and the namespace arrive; the same import again changes nothing."""
    path = tool.folder / "items.jsonl"
    items = [
        {"id": f"{number}", "at": AT - number, "text": f"note {number}"}
        for number in range(3000)
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    words = ["import", path.name, "--key", "/id", "--date", "/at", "--note", "/text"]
    done = tool.run(*words, "-n", "news", "--ttl", "30d")
    assert (done.code, done.out) == (0, "")
    assert "JSON Lines, 3,000 keys with dates" in done.err
    assert "marked: 3,000; seen already: 0" in done.err
    records = keys_of(tool, namespace="news")
    assert len(records) == 3000
    one = records["2999"]
    assert one.last_seen == pytest.approx(AT - 2999, abs=0.001)
    assert one.expires_at == pytest.approx(AT - 2999 + 30 * DAY, abs=0.001)
    assert one.note == "note 2999"
    again = tool.run(*words, "-n", "news", "--ttl", "30d")
    assert "marked: 0; seen already: 3,000" in again.err
    assert keys_of(tool, namespace="news") == records


def test_what_is_seen_is_not_shortened(tool: Tool) -> None:
    """A key that is seen keeps the later date and expiry; a pending key is seen."""
    with open_store(tool) as store:
        store.mark_seen("never", AT, ttl=None, note="mine")
        store.mark_seen("long", NOW, ttl="90d")
        store.mark_seen("short", AT - DAY, ttl="3d")
        store.mark_seen("waits")
        store.observe(["waits", "new"], key=str, namespace="feed")
    text = json.dumps(dict.fromkeys(["never", "long", "short"], AT - 100))
    assert tool.run("import", "-", given=text).code == 0
    records = keys_of(tool, namespace="")
    assert records["never"].expires_at is None
    assert records["never"].note == "mine"
    assert records["long"].last_seen == pytest.approx(NOW, abs=0.001)
    assert records["long"].expires_at == pytest.approx(NOW + 90 * DAY, abs=0.001)
    assert records["short"].last_seen == pytest.approx(AT - 100, abs=0.001)
    assert records["short"].expires_at == pytest.approx(AT - 100 + 7 * DAY, abs=0.001)
    assert tool.run("import", "-", "-n", "feed", given="new\n").code == 0
    assert keys_of(tool, namespace="feed")["new"].state == "seen"


DATES = {
    "ISO 8601": ISO,
    "RFC 2822": MAIL,
    "seconds": AT,
    "milliseconds": AT * 1000,
    "seconds as text": str(int(AT)),
    "without a zone": ISO[:-1],
    "with a space": ISO.replace("T", " "),
}


@pytest.mark.parametrize("date", DATES.values(), ids=DATES)
def test_dates(on_file: Tool, date: object) -> None:
    """A date may be ISO 8601, RFC 2822, seconds or milliseconds."""
    on_file.run("import", "-", given=json.dumps({"a": date}))
    assert keys_of(on_file)["a"].last_seen == pytest.approx(AT, abs=0.001)


def test_names_of_an_object(on_file: Tool) -> None:
    """What looks like an object for each feed is taken by a path only, or by none."""
    text = '{"town": {"a": null, "b": true}, "rel": {}}'
    done = on_file.run("import", "-", given=text)
    assert done.code == 2
    assert "name where the keys are, such as --key '/town'; --key '' if" in done.err
    for path, names in (("/town", {"a", "b"}), ("", {"town", "rel"})):
        name = path or "names"
        assert (
            on_file.run("import", "-n", name, "--key", path, "-", given=text).code == 0
        )
        assert {*keys_of(on_file, namespace=name)} == names


def test_dates_that_are_none(on_file: Tool) -> None:
    """No date, one before 2000 or in the future: it counts from now, and is said."""
    text = (
        '{"null": null, "true": true, "zero": 0, "word": "yesterday", "NaN": NaN,'
        ' "big": 1e400, "late": "2999-01-01", "10000": "10000-01-01", "map": {}}'
    )
    begun = time.time()
    done = on_file.run("import", "-", given=text)
    assert done.code == 0
    assert "6 have no date that can be used, such as '0' in item 3" in done.err
    records = keys_of(on_file)
    assert len(records) == 9
    for record in records.values():
        assert begun - 1 < record.last_seen < time.time() + 1


def test_what_is_over(on_file: Tool) -> None:
    """Keys whose TTL is over are counted and left out; exit 1 if all are."""
    old, new = NOW - 30 * DAY, NOW - 3600
    done = on_file.run("import", "-", given=json.dumps({"old": old}))
    assert done.code == 1
    assert "1 of 1 are older than the store's TTL of 1w" in done.err
    assert "--ttl 90d or --from-now; if their source still lists them, they" in done.err
    assert not list(on_file.folder.iterdir())
    both = json.dumps({"old": old, "new": new})
    assert on_file.run("import", "-", given=both).code == 0
    assert [*keys_of(on_file)] == ["new"]
    assert on_file.run("import", "-", "--ttl", "90d", given=both).code == 0
    assert keys_of(on_file)["old"].expires_at == pytest.approx(old + 90 * DAY)
    assert on_file.run("import", "-", "--from-now", given=both).code == 0
    assert keys_of(on_file)["new"].expires_at > NOW + 7 * DAY - 5
    done = on_file.run("import", "-", "--ttl", "never", given=both)
    assert [one.expires_at for one in keys_of(on_file).values()] == [None, None]


REFUSED = {
    "bad keys": ('["a", NaN, true, null, {}, "", "b\\u0000", "\\ud800"]', [], 8),
    "no UTF-8": (b"ok\ncaf\xe9\n", [], 2),
    "more than ten": ("x" * 2049 + "\n" + "y\0\n" * 14, [], 11),
    "cut JSON": ('["a",\n"b"', [], 1),
    "deep JSON": ("[" * 200_000, [], 1),
    "objects without a name": ('[{"id": "a"}]', [], 1),
    "an object of lists": ('{"v": 1, "items": [{"id": "a"}]}', [], 1),
    "an object of objects": ('{"town": {"a": "2026-01-01"}, "rel": {}}', [], 1),
    "an object in an object": ('{"version": 1, "sent": {"a": 1}}', [], 1),
    "a missing field": ('[{"id": "a"}, {"x": 1}]', ["--key", "/id"], 2),
    "no pointer": ('[{"id": "a"}]', ["--key", "id"], 1),
    "CSV without a name": ("id,x\n1,2\n", [], 1),
    "another column": ("id,x\n1,2\n", ["--key", "y"], 1),
    "an open quote": ('id,x\n"a,b\nc,d\n', ["--key", "id"], 1),
    "gzip": (b"\x1f\x8b\x08\0\0", [], 1),
    "a newer export": ('{"catalyst-seen": "export", "version": 2}\n', [], 1),
    "a cut export": ('{"catalyst-seen": "export", "version": 1}\n{"key": "a', [], 2),
    "expiries that are none": (
        (
            '{"catalyst-seen": "export", "version": 1}\n{"key": "a", "expires": "no"}\n'
            '{"key": "b", "expires": true}\n{"key": "c", "expires": "1999-01-01"}\n'
        ),
        [],
        4,
    ),
    "no export": ("a\n", ["--as", "export"], 2),
    "no database": ("a\n", ["--as", "sqlite"], 1),
    "a table of a text": ("a\n", ["--table", "t"], 1),
    "a key of a text": ("a\n", ["--as", "text", "--key", "k"], 1),
    "two keys": ("a\n", ["--key", "a", "--column", "b"], 1),
}


@pytest.mark.parametrize(("given", "options", "lines"), REFUSED.values(), ids=REFUSED)
def test_bad_input_writes_nothing(
    on_file: Tool, given: str | bytes, options: list[str], lines: int
) -> None:
    """What cannot be stored is named by its place, ten at most; nothing is written."""
    done = on_file.run("import", "-", *options, given=given)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == lines
    assert all(line.startswith("catalyst-seen: ") for line in done.err.splitlines())
    assert not list(on_file.folder.iterdir())


def test_tables_that_are_none(on_file: Tool) -> None:
    """What is named as a table is not taken for a text, unless that is said."""
    for name, text in (("a.csv", "id,x\n1,2\n3\n"), ("b.TSV", "a\nb\n")):
        (on_file.folder / name).write_text(text)
        done = on_file.run("import", name)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "--as text" in done.err
        assert not Path(on_file.store).exists()
    assert on_file.run("import", "b.TSV", "--as", "text").code == 0
    (on_file.folder / "c.csv").write_text("id,x\n1,a\u2028b\n2,c\n")
    done = on_file.run("import", "c.csv")
    assert (done.code, "name the one that has the keys" in done.err) == (2, True)


def test_expiry_without_a_date(tool: Tool) -> None:
    """A key of an export keeps its expiry, and never, if it says not when it was."""
    with open_store(tool) as store:
        store.mark_many(["seen", "longer"], ttl="1d")
        store.mark_seen("longer", ttl="900d")
    later = NOW + 100 * DAY
    lines = [
        {"catalyst-seen": "export", "version": 1},
        *({"key": key, "expires": later} for key in ("new", "seen", "longer")),
        {"key": "never"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for _ in range(2):
        assert tool.run("import", "-", given=text).code == 0
        records = keys_of(tool)
        for key in ("new", "seen"):
            assert records[key].expires_at == pytest.approx(later, abs=0.01)
        assert records["longer"].expires_at > later
        assert records["never"].expires_at is None


def test_files_that_cannot_be_read(on_file: Tool) -> None:
    """A directory, no file, a closed input, an empty one: a line, and no store."""
    for name in (".", "missing", "bad\x1bname"):
        done = on_file.run("import", name)
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert "\x1b" not in done.err
    done = on_file.shell("catalyst-seen import - <&-")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "standard input is closed: name a file" in done.err
    for given in ("", "\n\n"):
        done = on_file.run("import", "-", given=given)
        assert done.code == 0
        assert "nothing is imported" in done.err
    assert not list(on_file.folder.iterdir())


def test_dry_run(on_file: Tool) -> None:
    """A dry run counts, and neither makes nor changes a store."""
    done = on_file.run("import", "-", "--dry-run", given="a\nb\n")
    assert "would be marked: 2; seen already: 0" in done.err
    assert not list(on_file.folder.iterdir())
    on_file.run("import", "-", given="a\n")
    before = keys_of(on_file)
    done = on_file.run("import", "-", "-d", given="a\nb\n")
    assert "would be marked: 1; seen already: 1" in done.err
    assert keys_of(on_file) == before


def test_a_signal_ends_the_wait_for_a_pipe(on_file: Tool) -> None:
    """SIGTERM ends an import that waits for its input: 143, and nothing was written."""
    with on_file.start("import", "-") as process:
        assert process.stdin is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        while not _waits_for_input(process.pid):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert not list(on_file.folder.iterdir())


def _waits_for_input(pid: int) -> bool:
    """Has the process begun a thread, which reads the input?"""
    return len([*Path(f"/proc/{pid}/task").iterdir()]) > 1


def test_sqlite_tables(tool: Tool) -> None:
    """A column of a table is read; without names the error proposes them."""
    path = tool.folder / "bot.db"
    sqlite_files.write(
        path,
        "CREATE TABLE items (title, guid, at)",
        f"INSERT INTO items VALUES ('t', 'a', '{ISO}'), ('u', 7, {AT})",
        "CREATE TABLE other (x)",
    )
    done = tool.run("import", "bot.db")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "items (title, guid, at)" in done.err
    assert "--table" in done.err
    done = tool.run("import", "bot.db", "--column", "guid", "--date", "at")
    assert done.code == 0
    records = keys_of(tool)
    assert sorted(records) == ["7", "a"]
    for record in records.values():
        assert record.last_seen == pytest.approx(AT, abs=0.001)
    for words in (["--table", "x"], ["--table", "items", "--column", "x"]):
        assert tool.run("import", "bot.db", *words).code == 2


def test_old_store_is_not_changed(on_file: Tool) -> None:
    """A file of the old store is imported with its dates, and stays as it is."""
    path = on_file.folder / "old.sqlite"
    sqlite_files.write(
        path,
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)",
        f"INSERT INTO seen VALUES ('a', {AT}), (x'00', {AT})",
    )
    before = path.read_bytes()
    done = on_file.run("import", "old.sqlite")
    assert done.code == 0
    assert "1 ids are no text" in done.err
    assert keys_of(on_file)["a"].last_seen == AT
    assert path.read_bytes() == before
    assert not list(on_file.folder.glob("old.sqlite-*"))
    done = on_file.run("--store", "old.sqlite", "import", "old.sqlite")
    assert (done.code, path.read_bytes()) == (2, before)
    done = on_file.run("--store", "x.db", "import", on_file.store)
    assert done.code == 2
    assert "catalyst-seen move" in done.err


def test_store_is_no_input(on_file: Tool) -> None:
    """The file of the store is recognised, also where its URL has an escape."""
    on_file.run("--store", "my store.db", "import", "-", given="a\n")
    for store in ("my store.db", "sqlite:///my%20store.db"):
        done = on_file.run("--store", store, "import", "my store.db", "--table", "seen")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "my store.db: is the store itself" in done.err


def test_database_of_others(on_file: Tool) -> None:
    """Rows of a running writer are read as committed; a locked or damaged file, not."""
    folder = on_file.folder
    create = "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)"
    insert = f"INSERT INTO seen VALUES ('a', {AT})"
    sqlite_files.write(folder / "wal.db", "PRAGMA journal_mode = WAL", create)
    sqlite_files.write(folder / "locked.db", create, insert)
    with (
        closing(sqlite3.connect(folder / "wal.db", isolation_level=None)) as writer,
        closing(sqlite3.connect(folder / "locked.db")) as locker,
    ):
        writer.execute(insert)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(f"INSERT INTO seen VALUES ('uncommitted', {AT})")
        locker.execute("BEGIN EXCLUSIVE")
        assert on_file.run("import", "wal.db").code == 0
        assert [*keys_of(on_file)] == ["a"]
        done = on_file.run("import", "locked.db")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "another program" in done.err
    damaged = bytearray((folder / "locked.db").read_bytes())
    damaged[4096:4300] = b"\x99" * 204
    (folder / "damaged.db").write_bytes(damaged)
    done = on_file.run("import", "damaged.db")
    assert (done.code, done.err.count("\n")) == (2, 1)
