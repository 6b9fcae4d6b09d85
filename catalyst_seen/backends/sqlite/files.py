"""The file of a store: its identity while it is open, its permissions, its size."""

from __future__ import annotations

import errno
import os
import threading
import urllib.parse  # noqa: F401 - else Path.as_uri, on Python 3.13, in the event loop
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from ..._errors import ConfigurationError, StoreUnavailableError
from ..._fork import FileId, OpenFiles
from ..._logging import log

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOM = 65_536  # bytes that a store on a file should be able to grow
MEMORY = ":memory:"

_SAMPLES = 5
_creating = threading.Lock()


class DatabaseFile:
    """The file of one store, as it was when the store opened it.

    Attributes:
        path: The path that the user named.
        real_path: The file behind any links: SQLite keeps its other files beside it.
    """

    def __init__(self, path: str, library: str) -> None:
        self.path = path
        self._library = library
        self.real_path: str = path
        self._database: FileId | None = None
        self._log: FileId | None = None
        self._is_missing = False

    def check_before_connecting(self) -> None:
        """Refuse a file that was inherited by a fork, or replaced since it was opened.

        Its log may be a new one: the last connection that closes removes the log.

        Raises:
            StoreUnavailableError: The file is refused, and untouched.
            ConfigurationError: Another SQLite library has it open in this process.
        """
        self._log = None
        if self.path != MEMORY:
            self.real_path = os.path.realpath(self.path)
        if OpenFiles.is_inherited(_identify(self.path)):
            raise StoreUnavailableError(
                self.path,
                "it was open when this process was forked, and SQLite's locks do not"
                " survive that",
                "Close stores before a fork, or start processes by spawn or forkserver",
            )
        others = OpenFiles.libraries(_identify(self.path)) - {self._library}
        if others:
            raise ConfigurationError(
                "sqlite",
                f"{self._library!r} cannot open {self.path}, which {others.pop()!r} has"
                " open in this process: each would drop the locks of the other. Choose"
                " the same library for all stores of the file",
            )
        if self._database is not None:
            self.check()

    def register(self, connection: int) -> None:
        """Record the identity of the file, and that a connection has it open.

        Args:
            connection: ``id`` of the connection.
        """
        self._database = _identify(self.path)
        self._log = _identify(f"{self.real_path}-wal")
        if self._database is not None:
            OpenFiles.add(connection, self._database, self._library)

    def unregister(self, connection: int) -> None:
        """Record that a connection is closed."""
        OpenFiles.discard(connection)

    def check(self) -> None:
        """Check that the path still leads to the file and the log that were opened.

        Raises:
            StoreUnavailableError: One was moved, deleted, replaced or emptied.
        """
        if self._is_unchanged():
            self._is_missing = False
            return
        if not self._is_missing:
            self._is_missing = True
            log("error", "file_gone", location=self.path)
        raise StoreUnavailableError(
            self.path,
            "the file that was opened, or its log, is not there any more",
            "Put it back, or close this store and open a new one",
        )

    def _is_unchanged(self) -> bool:
        if self._database is None:  # in memory
            return True
        if _identify(self.path, least=1) != self._database:
            return False
        return self._log is None or _identify(f"{self.real_path}-wal") == self._log


@contextmanager
def path_errors(path: str) -> Iterator[None]:
    """Translate what the system says of a path: too long, not to be entered.

    Raises:
        StoreUnavailableError: The system raised an ``OSError``.
    """
    try:
        yield
    except OSError as exc:
        raise StoreUnavailableError(
            path,
            f"it cannot be opened: {exc.strerror or exc}",
            "Name a file in a directory that you may write to",
        ) from exc


def create_file(path: str, mode: int) -> None:
    """Create an empty file with these permissions, unless a writable one exists.

    SQLite would make it readable for everybody; its other files inherit their
    permissions from this one. Only a new file may be opened here: closing any other
    drops the locks that this process holds on it.

    Raises:
        StoreUnavailableError: The file cannot be created, or is read-only.
    """
    with _creating:  # no other thread may open the file before it is closed here
        if os.path.exists(path):  # noqa: PTH110 - as _identify
            _check_writable(path)
            return
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:  # another process was faster
            return
        except OSError as exc:
            raise StoreUnavailableError(
                path,
                f"it cannot be made: {exc.strerror}",
                "Name a file in a directory that you may write to",
            ) from exc
        os.close(descriptor)
        Path(path).chmod(mode)  # regardless of the umask


def _check_writable(path: str) -> None:
    for one, description in (
        (path, "the file"),
        (str(Path(path).parent), "the directory, where its log has to be,"),
        (f"{path}-wal", "its log"),
        (f"{path}-shm", "the index of its log"),
    ):
        if _is_read_only(one):
            raise StoreUnavailableError(
                path,
                f"{description} is read-only for this process",
                "Make the file and its directory writable",
            )


def _is_read_only(path: str) -> bool:
    """Does the path exist, and is it read-only?

    Another thread's SQLite may create or remove ``-wal`` and ``-shm`` between the two
    checks, so several samples have to agree.
    """
    is_effective = os.access in os.supports_effective_ids
    is_writable = partial(os.access, path, os.W_OK, effective_ids=is_effective)
    exists = partial(os.access, path, os.F_OK, effective_ids=is_effective)
    return all(exists() and not is_writable() for _ in range(_SAMPLES))


def is_shared(path: str) -> bool:
    """Does another process, or another store of this one, have the file open?

    The sources are this process's own table, and the locks that Linux lists: SQLite
    holds one on the ``-shm`` file for as long as a connection is open.
    """
    return OpenFiles.count(_identify(path)) > 1 or len(_lock_owners(path)) > 1


def is_open_elsewhere(path: str) -> bool:
    """Does another process have the file open, whether this one has or not?"""
    return bool(_lock_owners(path) - {str(os.getpid())})


def _lock_owners(path: str) -> set[str]:
    """Return the processes that have a lock on the ``-shm`` of a file."""
    shared = _identify(f"{path}-shm")
    try:
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {
        owner
        for *_, owner, file, _, _ in (line.split() for line in locks)
        if shared is not None and file.endswith(f":{shared[1]}")
    }


def sync(path: str | os.PathLike[str]) -> None:
    """Write a file that no store has open, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Write the names in a directory to the disk, where the system can do that."""
    with suppress(OSError):
        sync(path)


def check_room(path: str) -> None:
    """Write to an unnamed file beside a database, and remove it.

    A row finds room in a log and in pages that are there already, also on a disk where
    nothing can grow any more.

    Raises:
        StoreUnavailableError: There is no room.
    """
    try:
        with TemporaryFile(dir=Path(path).parent) as file:
            file.write(bytes(_ROOM))
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
            return  # SQLite needs no new file there
        cause = f"no room for {_ROOM:,} bytes more: {os.strerror(exc.errno)}"
        advice = "Free some space; the store then works again by itself"
        raise StoreUnavailableError(path, cause, advice) from exc


def size(path: str) -> int:
    """Return the size of a file in bytes without opening it; 0 if it has none.

    SQLite's locks belong to the process: closing any descriptor of the file drops them.
    """
    try:
        return os.stat(path).st_size  # noqa: PTH116 - as _identify
    except OSError:
        return 0


def _identify(path: str, least: int = 0) -> FileId | None:
    """Return the identity of a file; ``None`` if it is missing or has fewer bytes."""
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - at each call, and a third of the time
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size >= least else None
