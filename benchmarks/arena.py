"""Where a run takes place: an empty folder, servers, how much to do."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from catalyst_seen import SeenStore

from . import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .servers import Servers

Synchronous = Literal["NORMAL", "FULL"]

KEY = "a key that no contestant has"


def _silent(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Arena:
    """Where one run takes place.

    Attributes:
        folder: Empty, and removed after the run.
        shared: Stays until all is over, for what several runs start from.
        servers: Those that start when they are asked for.
        size: How many operations to do.
        is_quick: Less is done, for a first look.
        tell: Shows what is going on, while nothing is timed.
        synchronous: SQLite's setting, for every contestant that uses SQLite.
        keys: Makes so many new keys.
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
        """The database of this run; nothing is there yet."""
        return self.folder / "seen.db"

    @property
    def layout(self) -> Layout:
        """How a file of ours looks."""
        return Layout(self.shared / "layout.db")

    def kept(self, name: str, make: Callable[[Path], None]) -> Path:
        """A file that several runs start from, made when the first one asks."""
        path = self.shared / name
        if not path.exists():
            self.tell(f"preparing {name}")
            make(path)
        return path

    @contextmanager
    def run(self, size: int) -> Iterator[Arena]:
        """Make room for a run, and remove what it leaves."""
        with tempfile.TemporaryDirectory(dir=self.shared) as folder:
            yield replace(self, folder=Path(folder), size=size)


class Layout:
    """A file that the store made, to take its table and the form of its rows from.

    So what others write into the same table can not drift from what the store writes.
    """

    def __init__(self, path: Path, *, marked_at: float | None = None) -> None:
        """Make the file, or take one that was made before."""
        self._path = path
        if not path.exists():
            with SeenStore(path, purge_interval=None) as store:
                store.mark_seen(KEY, marked_at)
        with closing(sqlite3.connect(path)) as db:
            row = db.execute("SELECT * FROM seen WHERE id = ?", (KEY,))
            names = [column[0] for column in row.description]
            self._row = list(row.fetchone())
        self._place = names.index("id")
        self.insert = f"INSERT INTO seen VALUES ({', '.join('?' * len(names))})"

    def row(self, key: str) -> list[str | float | None]:
        """What the store writes when it marks a key."""
        row = self._row.copy()
        row[self._place] = key
        return row

    def copy(self, to: Path) -> None:
        """Make a file as the store makes it, with that one key in it."""
        shutil.copyfile(self._path, to)
