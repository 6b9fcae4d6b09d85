"""Replaces the file of a store that no program has open."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, SchemaError, StoreUnavailableError
from . import driver
from .errors import (
    CORRUPTION_CODES,
    is_busy,
    primary_code,
    translated,
    unavailable,
)
from .files import is_open_elsewhere, path_errors, size, sync, sync_directory
from .objects import APPLICATION_ID, read_objects
from .queries import pragma

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGS = ("-wal", "-shm", "-journal")
_BUSY_TIMEOUT = 1.0  # seconds: another program may be about to close


class Replacement:
    """A copy of a file beside that of a store, which it may replace.

    Attributes:
        path: The file of the store; behind any links.
        copy: The copy, which is removed at the end unless it has replaced the file.
    """

    def __init__(self, path: str, original: str, library: str) -> None:
        """Plan it; no I/O.

        Args:
            path: The file of the store; it may be missing.
            original: The file to copy.
            library: The SQLite library.
        """
        self.path: Path = Path(os.path.realpath(path))
        self.copy: Path = self.path
        self._original = Path(original)
        self._library = library

    @contextmanager
    def copied(self, *, makes_directory: bool) -> Iterator[None]:
        """Copy the file into the directory of the store, for the time of a block.

        Args:
            makes_directory: Is one made that is missing? Otherwise the copy is in the
                directory in which it would be made.

        Raises:
            ConfigurationError: The file has a log, and so is no backup.
            StoreUnavailableError: The copy cannot be made.
        """
        self._check_original()
        with path_errors(str(self.path)):
            descriptor, name = tempfile.mkstemp(
                ".restoring", f"{self.path.name}.", self._directory(makes_directory)
            )
        os.close(descriptor)
        self.copy = Path(name)
        try:
            try:
                shutil.copyfile(self._original, self.copy)
            except OSError as exc:
                raise StoreUnavailableError(
                    str(self._original),
                    f"it cannot be copied to {self.copy.parent}: {exc.strerror}",
                    "Nothing was replaced",
                ) from exc
            yield
        finally:
            for suffix in ("", *_LOGS):
                Path(f"{self.copy}{suffix}").unlink(missing_ok=True)

    def check_ours(self) -> None:
        """Check that the file, which programs may have open, is one of a store.

        Raises:
            SchemaError: The file is another program's database.
            StoreUnavailableError: The file cannot be read.
        """
        location = str(self.path)
        if not size(location):
            return
        with closing(self._connect()) as db:
            try:
                _check_ours(db, self.path)
            except driver.DatabaseError as exc:
                if is_busy(exc) or primary_code(exc) in CORRUPTION_CODES:
                    return  # a program changes it, or it is damaged: ``replace`` says
                raise unavailable(exc, location) from exc

    def check_unused(self) -> None:
        """Check that no program has the store open, before the copy is made.

        ``replace`` checks it again, under the lock.

        Raises:
            SchemaError: The file is another program's database.
            StoreUnavailableError: A program has it open.
        """
        with self._alone(folds_log=False):
            pass

    def replace(self) -> str | None:
        """Let the copy replace the file; return the new name of the one that was there.

        There is a file at the path at every moment, and after a power failure as well.
        Other connections are locked out meanwhile. A program that was about to open the
        old file finds that it was replaced, and fails.

        Raises:
            SchemaError: The file is another program's database.
            StoreUnavailableError: A program has it open, or the directory refuses.
        """
        with path_errors(str(self.path)), self._alone(folds_log=True):
            kept = self._keep()
            _adopt_owner(self.path, self.copy)
            sync(self.copy)
            self.copy.replace(self.path)
            sync_directory(self.path.parent)
        return kept

    def _directory(self, makes: bool) -> Path:  # noqa: FBT001 - as ``copied`` has it
        """Return the directory of the store, or, if that is missing, an upper one."""
        directory = self.path.parent
        if makes:
            directory.mkdir(parents=True, exist_ok=True)
        while not directory.exists():
            directory = directory.parent
        return directory

    def _check_original(self) -> None:
        if not self._original.is_file():
            what = "is no file" if self._original.exists() else "does not exist"
            raise ConfigurationError("backup", f"{self._original} {what}")
        if self._original.resolve() == self.path:
            raise ConfigurationError(
                "backup", f"{self._original} is the store itself: name a copy of it"
            )
        for suffix in ("-wal", "-journal"):
            if size(f"{self._original.resolve()}{suffix}"):
                raise ConfigurationError(
                    "backup",
                    f"{self._original} has a log, {self._original.name}{suffix}, and so"
                    " is a store in use, or was one: take a backup of it, and restore"
                    " that",
                )

    @contextmanager
    def _alone(self, *, folds_log: bool) -> Iterator[None]:
        """Lock every other connection out for the time of a block.

        A damaged file cannot be locked; on Linux, the list of locks of the system still
        shows whether another process has it open.
        """
        location = str(self.path)
        if not size(location):
            yield
            return
        with closing(self._connect()) as db:
            if self._lock(db, folds_log=folds_log):
                yield
                return
        if is_open_elsewhere(location):
            raise self._in_use()
        yield

    def _connect(self) -> driver.Connection:
        uri = f"{self.path.as_uri()}?mode=rw"
        with translated(str(self.path)):
            return driver.connect(
                uri, is_uri=True, library=self._library, timeout=_BUSY_TIMEOUT
            )

    def _lock(self, db: driver.Connection, *, folds_log: bool) -> bool:
        """Lock a file; false if it is damaged.

        A database without a write-ahead log is one file. SQLite gives the log up for
        the last connection only, which it thereby proves to be.
        """
        location = str(self.path)
        try:
            _check_ours(db, self.path)
            if is_open_elsewhere(location):
                raise self._in_use()
            if folds_log:
                db.execute("PRAGMA journal_mode = DELETE").fetchall()
            db.execute("BEGIN EXCLUSIVE")
        except driver.DatabaseError as exc:
            if is_busy(exc):
                raise self._in_use() from exc
            if primary_code(exc) in CORRUPTION_CODES:
                return False
            raise unavailable(exc, location) from exc
        return True

    def _keep(self) -> str | None:
        """Give the file that is there, or a log without one, a second name."""
        now = time.strftime("%Y-%m-%d-%H%M%S")
        kept = _unused(f"{self.path}.before-restore-{now}")
        has_file = self.path.exists()
        if has_file:
            try:
                os.link(self.path, kept)
            except OSError:  # a file system without links
                shutil.copyfile(self.path, kept)
                sync(kept)
        has_log = False
        for suffix in _LOGS:  # of a damaged file, or of one that was deleted
            if size(f"{self.path}{suffix}"):
                Path(f"{self.path}{suffix}").rename(f"{kept}{suffix}")
                has_log = True
        return kept if has_file or has_log else None

    def _in_use(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            str(self.path),
            "another program has the store open",
            "End it (fuser names it), and repeat this; nothing was replaced",
        )


def _check_ours(db: driver.Connection, path: Path) -> None:
    """Refuse the database of another program; one without a table is accepted."""
    objects = read_objects(db)
    if pragma(db, "application_id") == APPLICATION_ID or not objects:
        return
    if ("table", "seen") not in objects:  # the old store's file has one as well
        raise SchemaError(
            str(path), "another program's database", "It is untouched; name another"
        )


def _unused(name: str) -> str:
    number, found = 1, name
    while os.path.lexists(found):
        number += 1
        found = f"{name}-{number}"
    return found


def _adopt_owner(old: Path, new: Path) -> None:
    if not old.exists():
        return
    status = old.stat()
    new.chmod(status.st_mode & 0o777)
    with suppress(OSError, AttributeError):  # only root may
        os.chown(new, status.st_uid, status.st_gid)
