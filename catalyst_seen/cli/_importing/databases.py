"""A table of a SQLite file, among them that of the old synchronous store."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from .._codes import Failure
from .entries import Entry, Fields
from .lines import likely

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .inputs import Input

MAGIC = b"SQLite format 3\0"
_OLD_STORE = {"id": "TEXT", "ts": "INTEGER"}
_OURS = int.from_bytes(b"seen")  # the application id of a store
_LOCK_PATIENCE = 5.0
_PAGE = 1_000
_WRITES_WAL = 18  # the byte of the header which says so by a 2


@dataclass(frozen=True)
class SqliteTable:
    """A table with a key in a column."""

    path: Path
    fields: Fields
    kind: str
    unit: str = "row"

    def entries(self) -> Iterator[Entry]:
        """List the rows."""
        names = (self.fields.key or "", self.fields.date, self.fields.note)
        columns = ", ".join(_quoted(n) if n is not None else "NULL" for n in names)
        question = f"SELECT {columns} FROM {_quoted(self.fields.table or '')}"  # noqa: S608 - names are quoted
        with _reading(self.path) as db:
            rows = db.execute(question)
            place = 0
            while page := rows.fetchmany(_PAGE):
                for key, date, note in page:
                    place += 1
                    yield Entry(place, key, date, note)


@dataclass(frozen=True)
class OldStore:
    """A file of the old synchronous store; it is not changed."""

    path: Path
    kind: str = "a file of the old store"
    unit: str = "row"

    def entries(self) -> Iterator[Entry]:
        """List the rows; ids that are no text, the old store never found again."""
        table = SqliteTable(self.path, Fields("id", "ts", None, "seen"), self.kind)
        for entry in table.entries():
            is_text = isinstance(entry.key, str)
            yield entry if is_text else entry._replace(state="unreachable")


def sqlite_source(
    read: Input, fields: Fields, *, is_old: bool
) -> SqliteTable | OldStore:
    """Return the table of a SQLite file that has the keys.

    Raises:
        Failure: It is not said which one has, or there is no such table or column.
    """
    if read.path is None:
        raise Failure("is a SQLite file, which is read by its name: import FILE")
    with _reading(read.path) as db:
        tables = _tables(db)
        (application,) = db.execute("PRAGMA application_id").fetchone()
    is_named = fields.table is not None or fields.key is not None
    looks_old = tables.get("seen") == _OLD_STORE and application != _OURS
    if is_old or (looks_old and not is_named):
        if not looks_old:
            raise Failure("is no file of the old store")
        return OldStore(read.path)
    if application == _OURS and not is_named:
        raise Failure(
            f"is a store of catalyst-seen itself: use"
            f" `catalyst-seen move {read.name} TO`, or export and import"
        )
    table = _table(fields, tables)
    chosen = fields._replace(table=table, key=_key(fields, table, tables[table]))
    for name in (chosen.key, chosen.date, chosen.note):
        if name is not None and name not in tables[table]:
            _refuse(f"the table {table} has no column {name}", tables)
    return SqliteTable(read.path, chosen, f"the table {table} of a SQLite file")


def _table(fields: Fields, tables: dict[str, dict[str, str]]) -> str:
    if fields.table in tables:
        return fields.table
    if fields.table is not None:
        _refuse(f"there is no table {fields.table}", tables)
    if not tables:
        raise Failure("is a SQLite file without a table")
    having = [t for t, columns in tables.items() if fields.key in columns]
    found = having if fields.key is not None else list(tables)
    if len(found) != 1:
        _refuse("is a SQLite file with several tables", tables)
    return found[0]


def _key(fields: Fields, table: str, columns: dict[str, str]) -> str:
    if fields.key is not None:
        return fields.key
    if len(columns) > 1:
        _refuse("is a SQLite file with several columns", {table: columns})
    return next(iter(columns))


def _refuse(problem: str, tables: dict[str, dict[str, str]]) -> NoReturn:
    shown = ", ".join(f"{t} ({', '.join(c)})" for t, c in [*tables.items()][:8])
    table = next((t for t in tables if "seen" in t.lower()), next(iter(tables)))
    column = likely(list(tables[table]))
    raise Failure(
        f"{problem}: it has {shown}; name the one with the keys, such as"
        f" --table {table} --column {column}"
    )


def _tables(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """Return the columns of every table and view, with their types."""
    names = db.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    ).fetchall()
    question = "SELECT name, type FROM pragma_table_info(?)"
    return {name: dict(db.execute(question, (name,))) for (name,) in names}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file, so that nothing in it changes.

    Raises:
        Failure: It is damaged, or another program has it locked.
    """
    uri = f"{path.as_uri()}?mode={_mode(path)}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_PATIENCE)) as db:
            db.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            db.execute("PRAGMA query_only = 1")
            yield db
    except sqlite3.Error as exc:
        hint = (
            ": another program writes to it, try again later" if _is_busy(exc) else ""
        )
        raise Failure(f"SQLite says: {exc}{hint}") from exc


def _mode(path: Path) -> str:
    """Return how SQLite opens a file.

    A reader of a file with a write-ahead log makes one where there is none, and only a
    connection that may write removes it again.
    """
    with path.open("rb") as file:
        header = file.read(_WRITES_WAL + 1)
    is_closed = header[_WRITES_WAL:] == b"\2" and not _beside(path, "-wal")
    return "rw" if is_closed and os.access(path, os.W_OK) else "ro"


def _beside(path: Path, suffix: str) -> bool:
    return path.with_name(path.name + suffix).exists()


def _is_busy(exc: sqlite3.Error) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
