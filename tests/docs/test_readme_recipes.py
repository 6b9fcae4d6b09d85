"""The recipes in docs/coming-from.md, on files as other programs write them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import diskcache
import pytest

from catalyst_seen import SeenStore
from catalyst_seen.cli._stores import configuration

from ..support.targets import Places
from ..support.tool import Tool

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
RECIPES = {
    title: "".join(BLOCK.findall(text))
    for title, text in SECTION.findall(PAGE.read_text(encoding="utf-8"))
    if BLOCK.search(text)
}
AT = float(int(time.time()) - 3600)
OLD = AT - 30 * 86_400
HERE = datetime.fromtimestamp(AT, UTC).replace(tzinfo=None)


def text(folder: Path) -> None:
    """Two lines."""
    (folder / "ids.txt").write_text("a\nb\n")


def json_files(folder: Path) -> None:
    """A list, an object of dates, and objects."""
    (folder / "ids.json").write_text('["a"]')
    (folder / "dates.json").write_text(json.dumps({"b": AT - 30 * 86_400}))
    items = [{"id": "c", "date": HERE.isoformat(), "title": "C"}]
    (folder / "items.json").write_text(json.dumps({"items": items}))


def feed_bot(folder: Path) -> None:
    """Ids of several feeds in one object, one of them older than the TTL."""
    ids = {"a": OLD, "b": AT}
    (folder / "ids.json").write_text(json.dumps(ids))


def csv_file(folder: Path) -> None:
    """A table with dates."""
    (folder / "ids.csv").write_text(f"id,date\na,{HERE}\n")


def redis_set(folder: Path) -> None:
    """A stand-in for redis-cli, which is no package of Python."""
    bin_ = folder / "bin"
    bin_.mkdir()
    (bin_ / "redis-cli").write_text(
        '#!/bin/sh\n[ "$1 $2 $#" = "--raw SMEMBERS 3" ] && printf "a\\nb\\n"\n'
    )
    (bin_ / "redis-cli").chmod(0o755)


def disk_cache(folder: Path) -> None:
    """Keys that are texts or numbers, and values of any kind."""
    with diskcache.Cache(str(folder / "cache")) as cache:
        cache.set("a", 1)
        cache.set("b", {"any": "value"}, expire=60)
        cache.set(5, "seen")


def scrapy(folder: Path) -> None:
    """Fingerprints, as its dupefilter writes them."""
    (folder / "job").mkdir()
    (folder / "job" / "requests.seen").write_text("a" * 40 + "\n" + "b" * 40 + "\n")


def flexget(folder: Path) -> None:
    """An entry with two fields, by the schema of its version 4."""
    with closing(sqlite3.connect(folder / "db-config.sqlite")) as db:
        db.executescript("""
            CREATE TABLE seen_entry (id INTEGER NOT NULL PRIMARY KEY, title VARCHAR,
                reason VARCHAR, feed VARCHAR, added DATETIME, local BOOLEAN);
            CREATE TABLE seen_field (id INTEGER NOT NULL PRIMARY KEY,
                seen_entry_id INTEGER NOT NULL REFERENCES seen_entry (id),
                field VARCHAR, value VARCHAR, added DATETIME);
        """)
        added = HERE.isoformat(" ", "microseconds")
        db.execute(
            "INSERT INTO seen_entry VALUES (1, 'A title', NULL, 'task', ?, 0)", (added,)
        )
        for field, value in (("title", "A title"), ("url", "https://example.org/a")):
            db.execute(
                "INSERT INTO seen_field (seen_entry_id, field, value, added)"
                " VALUES (1, ?, ?, ?)",
                (field, value, added),
            )
        db.commit()


def rss2email(folder: Path) -> None:
    """The data file of version 2."""
    seen = {"guid-1": {"id": "<1@dom>", "hash": "x"}, "guid-2": {"id": "<2@dom>"}}
    feed = {"name": "one", "seen": seen, "etag": None, "modified": None}
    data = {"version": 2, "feeds": [feed, {"name": "two", "seen": {"guid-3": {}}}]}
    (folder / "rss2email.json").write_text(json.dumps(data, indent=2))


def old_store(folder: Path) -> None:
    """Its table, with a row."""
    with closing(sqlite3.connect(folder / "old.sqlite")) as db:
        db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER NOT NULL)")
        db.execute("INSERT INTO seen VALUES ('a', ?)", (int(AT),))
        db.commit()


def own_store(folder: Path) -> None:
    """A store with a key in a namespace."""
    with SeenStore(folder / "seen.db") as store:
        store.mark_seen("a", AT, namespace="news")


Files = Callable[[Path], None]
Expected = dict[str, "float | None"]
SOURCES: dict[str, tuple[Files, str | set[str], Expected]] = {
    "A text file": (text, "", {"a": None, "b": None}),
    "A JSON file": (json_files, "", {"a": None, "b": AT - 30 * 86_400, "c": AT}),
    "The ids of a feed bot": (feed_bot, {"town", "weather"}, {"a": OLD, "b": AT}),
    "A CSV file": (csv_file, "", {"a": AT}),
    "A set in Redis": (redis_set, "", {"a": None, "b": None}),
    "diskcache": (disk_cache, "", {"a": None, "b": None, "5": None}),
    "Scrapy": (scrapy, "spider", {"a" * 40: None, "b" * 40: None}),
    "scrapy-redis": (redis_set, "spider", {"a": None, "b": None}),
    "FlexGet": (flexget, "flexget", {"A title": AT, "https://example.org/a": AT}),
    "rss2email": (rss2email, "mail", dict.fromkeys(["guid-1", "guid-2", "guid-3"])),
    "The old synchronous store": (old_store, "", {"a": AT}),
    "Another store of catalyst-seen": (own_store, "news", {"a": AT}),
}
"""The files of a recipe, its namespaces, and their keys with their dates; ``None`` is
about now. The tool runs in UTC."""


@pytest.fixture
def tool(places: Places, tmp_path: Path) -> Iterator[Tool]:
    """The tool in a folder, with a stand-in for what is not installed."""
    with places.target("file", tmp_path / "seen.db"):
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield Tool(tmp_path, str(tmp_path / "seen.db"), {"PATH": path})


def test_each_recipe_is_here() -> None:
    """Every section of the page that has command lines is tested."""
    assert [*RECIPES] == [*SOURCES]


@pytest.mark.parametrize("title", SOURCES)
def test_recipe(tool: Tool, title: str) -> None:
    """The lines of a recipe bring every key over, with its date."""
    make, namespace, expected = SOURCES[title]
    make(tool.folder)
    done = tool.shell(f"set -eo pipefail\n{RECIPES[title]}")
    assert (done.code, done.out) == (0, ""), done.err
    names = ("copy.db", "alerts.db")
    path = next((name for name in names if name in RECIPES[title]), "seen.db")
    with SeenStore(configuration(str(tool.folder / path), create=False)) as store:
        rows = list(store.records(namespace=None))
    records = {record.key: record for record in rows}
    found = {(record.namespace, record.key) for record in rows}
    spaces = {namespace} if isinstance(namespace, str) else namespace
    assert found == {(space, key) for space in spaces for key in expected}
    for key, at in expected.items():
        wanted = time.time() if at is None else at
        margin = 300 if at is None else 0.01
        assert records[key].last_seen == pytest.approx(wanted, abs=margin), key
