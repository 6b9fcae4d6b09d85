"""A copy of a whole database, made beside the calls of the store, in small steps."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, StoreUnavailableError
from .transactions import retry_while_busy, unavailable

if TYPE_CHECKING:
    from .worker import Connection

_PAGES = 256  # copied in one step; a caller that has left is noticed after each


class Backup:
    """A copy of a database that is made under another name, until it is complete."""

    def __init__(self, path: str, timeout: float) -> None:
        """Name its place; nothing is made.

        Args:
            path: The place.
            timeout: How long to wait for a writer, where there is no write-ahead log.
        """
        self.path: Path = Path(path).absolute()
        self._timeout = timeout

    def check(self) -> None:
        """Refuse what cannot be its place.

        Raises:
            ConfigurationError: Something is there already, or the directory is missing.
        """
        for suffix in ("", "-wal", "-shm", "-journal"):  # SQLite would read them, too
            if os.path.lexists(f"{self.path}{suffix}"):
                raise self._taken(suffix)
        if not self.path.parent.is_dir():
            raise ConfigurationError("path", f"no directory {self.path.parent}")

    def make(self, db: Connection) -> None:
        """Copy what one snapshot of a database holds, step by step, to the disk.

        Raises:
            ConfigurationError: Something has appeared at its place meanwhile.
            StoreUnavailableError: It could not be copied; there is no copy.
        """
        descriptor, unfinished = tempfile.mkstemp(
            ".partial", f"{self.path.name}.", self.path.parent
        )
        os.close(descriptor)
        try:
            self._copy(db, unfinished)
            self.check()
            self._name(unfinished)
        except sqlite3.Error as exc:
            raise unavailable(exc, str(self.path)) from exc
        except OSError as exc:
            raise StoreUnavailableError(
                str(self.path),
                f"the copy cannot be made: {exc.strerror}",
                "The store itself is well; name another place",
            ) from exc
        finally:
            Path(unfinished).unlink(missing_ok=True)

    def _copy(self, db: Connection, unfinished: str) -> None:
        def begin() -> None:
            db.execute("BEGIN")
            try:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.Error:
                _end(db)
                raise

        def go_on(_status: int, _remaining: int, _total: int) -> None:
            if db.is_unwanted:
                raise _UnwantedError

        retry_while_busy(begin, time.monotonic() + self._timeout, db=db)
        try:
            with closing(sqlite3.connect(unfinished)) as copy:
                db.backup(copy, pages=_PAGES, progress=go_on)
        finally:
            _end(db)

    def _name(self, unfinished: str) -> None:
        """Give it its name, which then is there after a power failure as well."""
        try:
            os.link(unfinished, self.path)  # unlike a rename it replaces nothing
        except FileExistsError:
            raise self._taken("") from None
        except OSError:  # a file system without links
            Path(unfinished).rename(self.path)
        with suppress(OSError):  # not every system can sync a directory
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _taken(self, suffix: str) -> ConfigurationError:
        return ConfigurationError(
            "path",
            f"{self.path}{suffix} is there already; name a new file, or remove it"
            " before",
        )


def _end(db: sqlite3.Connection) -> None:
    if db.in_transaction:  # some errors end it by themselves
        db.execute("ROLLBACK")


class _UnwantedError(Exception):
    """Nobody waits for the copy any more."""
