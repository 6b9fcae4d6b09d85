"""What happens to a store when its process forks.

A fork copies the memory of a process, but none of its threads and none of its file
locks. So a store that is open during a fork belongs to the parent alone:

- The parent is not affected.
- In the child, every verb raises ``StoreClosedError``; a close and a garbage collection
  do nothing, for the threads and connections belong to the parent. ``Owner`` is marked
  in the child by a hook that Python runs after each fork.
- In the child, a new store on the same SQLite file raises ``StoreUnavailableError``.
  SQLite keeps one table of files and locks per process; the child inherits the table
  without the locks, and a new connection to one of these files would rely on locks that
  it does not have, and lose what it writes. ``OpenFiles`` remembers such files.

Programs close their stores before a fork, or start processes by ``spawn`` or
``forkserver``.
"""

from __future__ import annotations

import os
from typing import ClassVar
from weakref import WeakSet

from ._errors import StoreClosedError

FileId = tuple[int, int]
"""Device and inode of a file."""


class Owner:
    """The process that opened something, and alone may use it.

    Attributes:
        is_current: False in a forked child. An attribute, because every call of a
            store reads it.
    """

    _all: ClassVar[WeakSet[Owner]] = WeakSet()

    def __init__(self) -> None:
        self.is_current: bool = True
        self._all.add(self)

    def check(self, store: object) -> None:
        """Raise ``StoreClosedError`` in a forked child."""
        if not self.is_current:
            raise StoreClosedError(
                f"{store} was opened before a fork: close it before, and open one in"
                " each process"
            )

    @classmethod
    def disown_all(cls) -> None:
        """Mark everything that the parent opened; runs in a forked child."""
        for owner in cls._all:
            owner.is_current = False


class OpenFiles:
    """The SQLite files that this process has open, and those it inherited by a fork.

    State of the process, as SQLite's own table of files and locks is.
    """

    _open: ClassVar[dict[int, tuple[FileId, str]]] = {}
    _inherited: ClassVar[set[FileId]] = set()

    @classmethod
    def add(cls, connection: int, file: FileId, library: str) -> None:
        """Record that a connection, named by its ``id``, has a file open."""
        cls._open[connection] = file, library

    @classmethod
    def discard(cls, connection: int) -> None:
        """Record that a connection is closed."""
        cls._open.pop(connection, None)

    @classmethod
    def count(cls, file: FileId | None) -> int:
        """Count the connections of this process to a file."""
        return sum(one == file for one, _ in list(cls._open.values()))

    @classmethod
    def libraries(cls, file: FileId | None) -> set[str]:
        """Return the SQLite libraries that have a file open in this process."""
        return {library for one, library in list(cls._open.values()) if one == file}

    @classmethod
    def is_inherited(cls, file: FileId | None) -> bool:
        """Was the file open when this process was forked?"""
        return file in cls._inherited

    @classmethod
    def inherit_all(cls) -> None:
        """Move all files to the inherited ones; runs in a forked child."""
        cls._inherited.update(file for file, _ in cls._open.values())
        cls._open.clear()


if hasattr(os, "register_at_fork"):  # a system without it has no forks
    os.register_at_fork(after_in_child=Owner.disown_all)
    os.register_at_fork(after_in_child=OpenFiles.inherit_all)
