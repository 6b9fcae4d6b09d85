"""A folder with the files that the documented command lines name."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from catalyst_seen import SeenStore

from .feeds import ROOT, Site
from .targets import Places
from .tool import Tool

_OLD = "CREATE TABLE seen (id TEXT PRIMARY KEY, ts INTEGER)"
_EVENTS = [
    {"id": "e1", "user": {"name": "ada"}},
    {"id": "e2", "user": {"name": "bob"}},
]
_PROGRAMS = {
    "jq": """import json, sys
for line in sys.stdin:
    print(json.loads(line)[sys.argv[2].removeprefix(".")])
""",
    "redis-cli": "print('one', 'two', sep=chr(10))",
}
"""As much of other programs as documented lines need; not every machine has them."""

_SERVERS = re.compile(r"(valkey://localhost|postgresql://localhost/db)(?!\S*#)")


def furnish(folder: Path) -> Tool:
    """Fill a folder, and return the tool in it."""
    ids = ["one", "two", "three"]
    (folder / "urls.txt").write_text("https://example.org/1\nhttps://example.org/2\n")
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, _EVENTS)) + "\n")
    (folder / "ids.json").write_text(json.dumps(ids))
    (folder / "dates.json").write_text(
        json.dumps(dict.fromkeys(ids, "2026-11-27T06:30:00Z"))
    )
    (folder / "ids.csv").write_text("id,date\none,2026-11-27\ntwo,2026-11-26\n")
    (folder / "app.log").write_text("ok\nERROR one\nERROR two\nERROR one\n")
    for script in ("send.sh", "backup.sh", "deploy.sh"):
        (folder / script).write_text("#!/bin/sh\ncat > /dev/null\n")
        (folder / script).chmod(0o755)
    (folder / "bin").mkdir()
    for program, script in _PROGRAMS.items():
        (folder / "bin" / program).write_text(f"#!{sys.executable}\n{script}")
        (folder / "bin" / program).chmod(0o755)
    shutil.copy(ROOT / "examples/feeds/release-notes.xml", folder / "feed.xml")
    shutil.copytree(ROOT / "examples/feeds", folder / "examples/feeds")
    (folder / "feeds.txt").write_text("feed.xml\n")
    with closing(sqlite3.connect(folder / "old.sqlite")) as old, old:
        old.execute(_OLD)
        old.executemany(
            "INSERT INTO seen VALUES (?, 1795760000)", zip(ids, strict=True)
        )
    with SeenStore(folder / "seen.db") as store:
        store.mark_many([*ids, "order-17", "https://example.org/1"])
        news = store.namespace("news", first="all")
        news.observe(["https://example.org/1", "https://example.org/2"], key=str)
        for claim in news.pending():
            claim.hold("the channel is gone")
            break
        store.backup(folder / "copy.db")
    own = {"HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return Tool(folder, str(folder / "seen.db"), own)


def real(line: str, places: Places, site: Site, name: str) -> str:
    """Put real servers in the place of those that a documented line names.

    Args:
        line: The line.
        places: The servers.
        site: A server of web pages.
        name: That of a prefix, or of a schema, that no other line uses.
    """
    if "example.org/feed.xml" in line:
        feed = (ROOT / "examples/feeds/town-news.xml").read_bytes()
        url = site.put("feed.xml", feed)
        line = line.replace("https://example.org/feed.xml", url)

    def address(match: re.Match[str]) -> str:
        is_valkey = match[0].startswith("valkey")
        server = places.valkey if is_valkey else places.postgres
        return f"'{server.url}#{name}'"

    return _SERVERS.sub(address, line)
