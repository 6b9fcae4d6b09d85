"""A copy of a whole database, made beside the calls of the store, in small steps."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

from .._errors import ConfigurationError, StoreUnavailableError
from ._sqlite_transaction import patiently, unavailable

_PAGES = 256  # copied in one step; a caller that has left is noticed after each


class Copy:
    """A copy of a database that is made under another name, until it is complete."""

    def __init__(self, path: str, timeout: float) -> None:
        """Name its place; nothing is made.

        Args:
            path: The place.
            timeout: How long to wait for a writer, where there is no write-ahead log.
        """
        self.path: Path = Path(path).absolute()
        self._is_unwanted = False
        self._timeout = timeout

    def leave(self) -> None:
        """End it after the next step: nobody waits any more."""
        self._is_unwanted = True

    def check(self) -> None:
        """Refuse what cannot be its place.

        Raises:
            ConfigurationError: Something is there already, or the directory is missing.
        """
        if os.path.lexists(self.path):
            raise ConfigurationError(
                "path",
                f"{self.path} is there already; name a new file, or remove it before",
            )
        if not self.path.parent.is_dir():
            raise ConfigurationError("path", f"no directory {self.path.parent}")

    def make(self, db: sqlite3.Connection) -> None:
        """Copy what one snapshot of a database holds, step by step, to the disk.

        Raises:
            StoreUnavailableError: It could not be copied; there is no copy.
        """
        descriptor, partial = tempfile.mkstemp(
            ".partial", f"{self.path.name}.", self.path.parent
        )
        os.close(descriptor)
        try:
            self._copy(db, partial)
            self.check()
            Path(partial).rename(self.path)
            _make_durable(self.path.parent)
        except sqlite3.Error as exc:
            raise unavailable(exc, str(self.path)) from exc
        except OSError as exc:
            raise StoreUnavailableError(
                str(self.path),
                f"the copy cannot be made: {exc.strerror}",
                "The store itself is well; name another place",
            ) from exc
        finally:
            Path(partial).unlink(missing_ok=True)

    def _copy(self, db: sqlite3.Connection, partial: str) -> None:
        def begin() -> None:
            db.execute("BEGIN")
            try:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.Error:
                db.execute("ROLLBACK")
                raise

        patiently(begin, time.monotonic() + self._timeout)
        try:
            with closing(sqlite3.connect(partial)) as copy:
                db.backup(copy, pages=_PAGES, progress=self._go_on)
        finally:
            db.execute("ROLLBACK")

    def _go_on(self, _status: int, _remaining: int, _total: int) -> None:
        if self._is_unwanted:
            raise _UnwantedError


class _UnwantedError(Exception):
    """Nobody waits for the copy any more."""


def _make_durable(folder: Path) -> None:
    """Let the new name survive a power failure, where a directory can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
