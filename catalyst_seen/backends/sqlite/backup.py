"""A backup of the whole database, copied beside other calls in small steps."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, StoreClosedError, StoreUnavailableError
from . import driver
from .errors import unavailable
from .files import sync_directory
from .transactions import retry_while_busy, rollback

if TYPE_CHECKING:
    from .transactions import Deadline

_PAGES = 256  # copied in one step; an abort is noticed after each


class Backup:
    """A copy of a database, written under a temporary name until it is complete."""

    def __init__(self, path: str, library: str) -> None:
        """Plan a backup; no I/O.

        Args:
            path: Path of the copy.
            library: The SQLite library of the original.
        """
        self._library = library
        self.path: Path = Path(path).absolute()

    def check_path(self) -> None:
        """Check that the copy can be created at its path.

        Raises:
            ConfigurationError: The path is occupied, or its directory is missing.
        """
        for suffix in ("", "-wal", "-shm", "-journal"):  # SQLite would read them, too
            if os.path.lexists(f"{self.path}{suffix}"):
                raise self._occupied(suffix)
        if not self.path.parent.is_dir():
            raise ConfigurationError("path", f"no directory {self.path.parent}")

    def create(self, db: driver.Connection, deadline: Deadline) -> None:
        """Copy one snapshot of a database, and sync it to the disk.

        Args:
            db: A connection to the database.
            deadline: End of the wait for a writer, where there is no write-ahead log.

        Raises:
            ConfigurationError: The path is occupied, or its directory is missing.
            StoreUnavailableError: The copy failed, and was removed.
            StoreClosedError: The copy was aborted, and removed.
        """
        try:
            self.check_path()
            self._create(db, deadline)
        except driver.Error as exc:
            raise unavailable(exc, str(self.path)) from exc
        except OSError as exc:
            raise StoreUnavailableError(
                str(self.path),
                f"the copy cannot be made: {exc.strerror}",
                "The store itself is well; name another place",
            ) from exc

    def _create(self, db: driver.Connection, deadline: Deadline) -> None:
        descriptor, temporary = tempfile.mkstemp(
            ".partial", f"{self.path.name}.", self.path.parent
        )
        os.close(descriptor)
        try:
            _copy(db, temporary, self._library, deadline)
            self.check_path()
            self._publish(temporary)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _publish(self, temporary: str) -> None:
        """Rename the complete copy, durably: the name survives a power failure."""
        try:
            os.link(temporary, self.path)  # unlike a rename, a link replaces nothing
        except FileExistsError:
            raise self._occupied("") from None
        except OSError:  # a file system without links
            Path(temporary).rename(self.path)
        sync_directory(self.path.parent)

    def _occupied(self, suffix: str) -> ConfigurationError:
        return ConfigurationError(
            "path",
            f"{self.path}{suffix} is there already; name a new file, or remove it"
            " before",
        )


def _copy(db: driver.Connection, target: str, library: str, deadline: Deadline) -> None:
    def check_abort(_status: int, _remaining: int, _total: int) -> None:
        if deadline.abort.is_set():
            raise StoreClosedError("the store was closed during the backup")

    retry_while_busy(deadline, _begin_snapshot, db)
    try:
        with closing(driver.connect(target, is_uri=False, library=library)) as copy:
            db.backup(copy, pages=_PAGES, progress=check_abort)
    finally:
        rollback(db)


def _begin_snapshot(db: driver.Connection) -> None:
    db.execute("BEGIN")
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except driver.Error:
        rollback(db)
        raise
