"""The environment of a run: an empty folder, servers, the number of operations."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalyst_seen import SeenStore

from . import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .servers import Servers

Synchronous = Literal["NORMAL", "FULL"]

KEY = "a key that no contestant has"
_CLAIMED = "another key that no contestant has"


def _silent(_text: str) -> None:
    """Discard a status text."""


@dataclass(frozen=True)
class Arena:
    """The environment of one run.

    Attributes:
        folder: Empty, and removed after the run.
        shared: Kept until the last run, for files that several runs start from.
        servers: Servers, each of which starts at its first use.
        size: Number of operations.
        is_quick: Smaller works, for a first impression.
        tell: Shows a status text, while nothing is timed.
        synchronous: SQLite's setting, for every contestant that uses SQLite.
        keys: Returns a number of new keys.
    """

    folder: Path
    shared: Path
    servers: Servers
    size: int = 0
    is_quick: bool = False
    tell: Callable[[str], None] = _silent
    synchronous: Synchronous = "NORMAL"
    keys: Callable[[int], list[str]] = keys.digests

    @property
    def file(self) -> Path:
        """The path of the database of this run, which does not exist yet."""
        return self.folder / "seen.db"

    @property
    def layout(self) -> Layout:
        """The layout of a file of the store."""
        return Layout(self.shared / "layout.db")

    def kept(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a file that several runs start from; the first use creates it."""
        path = self.shared / name
        if not path.exists():
            self.tell(f"preparing {name}")
            make(path)
        return path

    @contextmanager
    def run(self, size: int) -> Iterator[Arena]:
        """Create the folder of a run, and remove it afterwards."""
        with tempfile.TemporaryDirectory(dir=self.shared) as folder:
            yield replace(self, folder=Path(folder), size=size)


class Layout:
    """A file that the store created, as the source of its table and its row format.

    Contestants that write into the same table therefore write the store's format.
    """

    def __init__(self, path: Path, *, marked_at: float | None = None) -> None:
        """Create the file, or use an existing one."""
        self._path = path
        if not path.exists():
            with SeenStore(path, purge_interval=None) as store:
                store.mark_seen(KEY, marked_at)
        with closing(sqlite3.connect(path)) as db:
            row = db.execute("SELECT * FROM seen WHERE key = ?", (KEY,))
            self._names = [column[0] for column in row.description]
            self._row = list(row.fetchone())
        self._place = self._names.index("key")
        self.insert = f"INSERT INTO seen VALUES ({', '.join('?' * len(self._names))})"

    def row(self, key: str) -> list[str | float | None]:
        """Return the row that the store writes when it marks a key."""
        row = self._row.copy()
        row[self._place] = key
        return row

    @cached_property
    def _claim(self) -> tuple[list[str | float | None], list[str | float | None]]:
        """The rows of a key that is claimed, and of the same key when confirmed."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "claims.db"
            self.copy(path)
            with (
                SeenStore(path, purge_interval=None) as store,
                closing(sqlite3.connect(path)) as db,
            ):
                select = "SELECT * FROM seen WHERE key = ?"
                claim = store.claim(_CLAIMED)
                claimed = list(db.execute(select, (_CLAIMED,)).fetchone())
                claim.confirm()
                confirmed = list(db.execute(select, (_CLAIMED,)).fetchone())
        return claimed, confirmed

    def claimed_row(self, key: str, token: str) -> list[str | float | None]:
        """Return the row that the store writes when it claims a key."""
        row = self._claim[0].copy()
        row[self._place] = key
        row[self._names.index("token")] = token
        return row

    @cached_property
    def confirm(self) -> str:
        """The statement that confirms a claim, given its key and its token."""
        claimed, confirmed = self._claim
        changes = ", ".join(
            f"{name} = {'NULL' if new is None else repr(new)}"
            for name, old, new in zip(self._names, claimed, confirmed, strict=True)
            if old != new
        )
        namespace = claimed[self._names.index("namespace")]
        return (
            f"UPDATE seen SET {changes}"
            f" WHERE namespace = {namespace!r} AND key = ? AND token = ?"
        )

    def copy(self, to: Path) -> None:
        """Create a file of the store, with one key in it."""
        shutil.copyfile(self._path, to)
