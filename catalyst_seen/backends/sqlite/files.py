"""Which file a connection is on: it must stay the same one, and not come by a fork."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import StoreUnavailableError
from ..._fork import FileId, OpenFiles
from ..._logging import log

if TYPE_CHECKING:
    from .worker import Connection

MEMORY = ":memory:"

_making = threading.Lock()


class DatabaseFile:
    """The file of one store, as it was when the store opened it.

    Attributes:
        path: Where the user says that it is.
        real_path: What that leads to: SQLite has its other files beside it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.real_path = path
        self._database: FileId | None = None
        self._log: FileId | None = None
        self._is_gone = False

    def before_connecting(self) -> None:
        """Refuse a file that came by a fork, or is not the one that it was.

        Its log may be another one: the last connection that closes removes it.

        Raises:
            StoreUnavailableError: It is one of these; it is untouched.
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
        if self._database is not None:
            self.check()

    def connected(self, connection: Connection) -> None:
        """Remember which file it is, until the connection is closed."""
        self._database = _identify(self.path)
        self._log = _identify(f"{self.real_path}-wal")
        if self._database is not None:
            OpenFiles.add(id(connection), self._database)
            connection.on_close = partial(OpenFiles.discard, id(connection))

    def check(self) -> None:
        """Raise unless the path still leads to what was opened, file and log.

        Raises:
            StoreUnavailableError: One was moved, deleted, replaced or emptied.
        """
        if self._is_there():
            self._is_gone = False
            return
        if not self._is_gone:
            self._is_gone = True
            log("error", "file_gone", location=self.path)
        raise StoreUnavailableError(
            self.path,
            "the file that was opened, or its log, is not there any more",
            "Put it back, or close this store and open a new one",
        )

    def _is_there(self) -> bool:
        if self._database is None:  # in memory
            return True
        if _identify(self.path, least=1) != self._database:
            return False
        return self._log is None or _identify(f"{self.real_path}-wal") == self._log


def make(path: str, mode: int) -> None:
    """Make an empty file with these rights, unless there is one that may be written.

    SQLite would make it readable for everybody; its other files take their rights from
    this one. Only a new file may be opened here: closing any other drops the locks that
    this process holds on it.

    Raises:
        StoreUnavailableError: It cannot be made, or may only be read.
    """
    with _making:  # nobody in this process opens it before it is closed
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
        Path(path).chmod(mode)  # whatever the umask says


def _check_writable(path: str) -> None:
    for place, what in (
        (path, "the file"),
        (str(Path(path).parent), "the directory, where its log has to be,"),
        (f"{path}-wal", "its log"),
        (f"{path}-shm", "the index of its log"),
    ):
        if _is_read_only(place):
            raise StoreUnavailableError(
                path,
                f"{what} is read-only for this process",
                "Make the file and its directory writable",
            )


def _is_read_only(place: str) -> bool:
    """Is it there, and may not be written?

    Twice is not enough: SQLite, in another thread, makes and removes two of these.
    """
    is_effective = os.access in os.supports_effective_ids
    may_write = partial(os.access, place, os.W_OK, effective_ids=is_effective)
    is_there = partial(os.access, place, os.F_OK, effective_ids=is_effective)
    return all(is_there() and not may_write() for _ in range(5))


def is_shared(path: str) -> bool:
    """Does another process, or another store of this one, have it open?

    Told by this process's own table, and by the locks that Linux lists: SQLite keeps
    one on the ``-shm`` file for as long as a connection is open.
    """
    database = _identify(path)
    if OpenFiles.count(database) > 1:
        return True
    shared = _identify(f"{path}-shm")
    try:
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    owners = {
        owner
        for *_, owner, place, _, _ in (line.split() for line in locks)
        if shared is not None and place.endswith(f":{shared[1]}")
    }
    return len(owners) > 1


def size(path: str) -> int:
    """Measure a file in bytes, without opening it; 0 if it cannot be seen.

    SQLite's locks belong to the process: closing any descriptor of the file drops them.
    """
    try:
        return os.stat(path).st_size  # noqa: PTH116 - as _identify
    except OSError:
        return 0


def _identify(path: str, least: int = 0) -> FileId | None:
    """Tell a file from others; ``None`` if it has fewer bytes, or is not there."""
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - at each call, and a third of the time
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size >= least else None
