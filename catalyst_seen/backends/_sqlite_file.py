"""Which file a connection is on: it must stay the same one, and not come by a fork."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import StoreUnavailableError

if TYPE_CHECKING:
    from ._worker import Connection

MEMORY = ":memory:"

Identity = tuple[int, int]

# SQLite keeps one table of files and locks per process. A forked child inherits the
# table but not the locks: a connection that it makes to one of these files would
# believe that it holds locks, and lose what it writes. So this, too, is state of the
# process.
_open: dict[int, Identity] = {}
_inherited: set[Identity] = set()


def _inherit() -> None:
    _inherited.update(_open.values())
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit)


class File:
    """The file of one store, as it was when the store opened it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: Identity | None = None

    def before_connecting(self) -> None:
        """Refuse a file that came by a fork, or is not the one that it was.

        Raises:
            StoreUnavailableError: It is one of these; it is untouched.
        """
        if _identify(self.path) in _inherited:
            raise StoreUnavailableError(
                self.path,
                "it was open when this process was forked, and SQLite's locks do not"
                " survive that",
                "Close stores before a fork, or start processes by spawn or forkserver",
            )
        if self._identity is not None:
            self.check()

    def connected(self, connection: Connection) -> None:
        """Remember which file it is, until the connection is closed."""
        self._identity = _identify(self.path)
        if self._identity is not None:
            _open[id(connection)] = self._identity
            connection.on_close = partial(_open.pop, id(connection), None)

    def check(self) -> None:
        """Raise unless the path still leads to the file that was opened.

        Raises:
            StoreUnavailableError: It was moved, deleted or replaced.
        """
        if _identify(self.path) != self._identity:
            raise StoreUnavailableError(
                self.path,
                "the file that was opened is not there any more",
                "Put it back, or close this store and open a new one",
            )


def size(path: str) -> int:
    """Measure a file in bytes, without opening it; 0 if it is not there.

    SQLite's locks belong to the process: closing any descriptor of the file drops them.
    """
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _identify(path: str) -> Identity | None:
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - at each call, and a third of the time
    except OSError:
        return None
    return found.st_dev, found.st_ino
