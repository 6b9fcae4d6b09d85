"""A process that writes rows by plain sqlite3, and reports each: a control.

A fault that makes this process lose what ``synchronous`` promises is injected wrongly.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path


def write(path: Path, synchronous: str) -> None:
    """Write rows, each in a transaction of its own, for ever."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE written (number INTEGER PRIMARY KEY)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    for number in count():
        db.execute("INSERT INTO written VALUES (?)", (number,))
        os.write(1, f"= {number}\n".encode())


def lost(path: Path, said: list[str]) -> int:
    """Count the rows that were reported, and are not there."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = {number for (number,) in db.execute("SELECT number FROM written")}
    return len({int(line.split()[1]) for line in said} - rows)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
