"""The write-ahead log: emptied when it has grown, and what keeps it from that.

SQLite would do it by itself, in whatever commit comes, and say nothing of a failure. So
its own checkpoints are switched off, and each of these is looked at.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from ..._logging import log
from .files import size
from .transactions import cause

if TYPE_CHECKING:
    from .files import DatabaseFile
    from .worker import Connection

LIMIT = 4_000_000
"""Bytes that the log grows by before it is emptied; SQLite's own are 1,000 pages."""

INTERVAL = 1.0
"""Seconds after which what was written is in the file proper, if the disk is fast."""

_SHARE = 20  # a checkpoint's time is at most this part of all
_OVERGROWN = 16 * LIMIT  # beyond it others are made to wait, as there is no other way:
_PATIENCE = 100  # for so many milliseconds, until those that read now have ended
_ALARM = 10.0  # seconds for which a reader may keep a log long


class WriteAheadLog:
    """The log of one file, over all connections that a store makes to it.

    Attributes:
        failures: Checkpoints that failed.
        problem: Why the last one failed; ``None`` if it did not.
        is_due: Has it grown so much that it should be emptied before the time?
    """

    def __init__(self, file: DatabaseFile, *, is_used: bool) -> None:
        """Know nothing of it yet.

        Args:
            file: Whose log it is.
            is_used: Is there one at all?
        """
        self.failures: int = 0
        self.problem: str | None = None
        self.is_due: bool = False
        self._file = file
        self._is_used = is_used
        self._enough = LIMIT
        self._is_written = True  # by another process, perhaps
        self._next = self._next_cut = 0.0
        self._copied = 0
        self._pinned_since: float | None = None
        self._is_alarmed = False

    @property
    def bytes(self) -> int:
        """How large it is."""
        return size(f"{self._file.real_path}-wal") if self._is_used else 0

    @property
    def pinned(self) -> float:
        """Seconds for which a reader has kept it from being emptied; 0 if none does."""
        since = self._pinned_since  # others may be about to change it
        return 0.0 if since is None else time.monotonic() - since

    def written(self) -> None:
        """Learn that a transaction has written something."""
        self._is_written = True
        found = self.bytes
        if found <= LIMIT:
            self._enough = LIMIT
        self.is_due = found > self._enough

    def alarms(self) -> list[str]:
        """Say what somebody should look at."""
        found, problem, pinned = [], self.problem, self._alarming()
        if problem is not None:
            found.append(
                f"the last checkpoint failed: {problem}. What was marked since the last"
                " good one may not survive a power failure; check the disk"
            )
        if pinned:
            found.append(
                f"a reader has pinned the write-ahead log for {pinned:.0f} s, it has"
                f" {self.bytes:,} bytes by now: find the program that keeps a read"
                " transaction open; a backup of the store is one as well"
            )
        return found

    def _alarming(self) -> float:
        """For how long it has been pinned, if it has grown long by that; else 0."""
        pinned = self.pinned
        return pinned if pinned >= _ALARM and self.bytes > LIMIT else 0.0

    def maintain(self, db: Connection) -> None:
        """Empty it if it has grown, or if something has waited there long enough."""
        if not self._is_used:
            return
        started = time.monotonic()
        if self.is_due or (self._is_written and started >= self._next):
            is_long = self.bytes > _OVERGROWN and started >= self._next_cut
            self._checkpoint(db, "TRUNCATE" if is_long else "PASSIVE")
            ended = time.monotonic()
            self._next = ended + max(INTERVAL, _SHARE * (ended - started))
            if is_long and self.bytes > _OVERGROWN:
                self._next_cut = self._next
        self.is_due = False
        self._tell()

    def end(self, db: Connection) -> None:
        """Empty it, and cut its file, before the connection is closed."""
        if self.bytes:
            self._checkpoint(db, "TRUNCATE")

    def _checkpoint(self, db: Connection, how: str) -> None:
        try:
            db.execute(f"PRAGMA busy_timeout = {_PATIENCE}").fetchall()
            try:
                row = db.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
            finally:
                db.execute("PRAGMA busy_timeout = 0").fetchall()
        except sqlite3.Error as exc:
            self._failed(cause(exc))
        else:
            self._ended(*row)

    def _failed(self, problem: str) -> None:
        self.failures += 1
        self._enough = self.bytes + LIMIT
        if self.problem is None:
            log("error", "checkpoint_failed", location=self._file.path, error=problem)
        self.problem = problem

    def _ended(self, _is_busy: int, frames: int, copied: int) -> None:
        """Learn from SQLite's answer.

        Args:
            _is_busy: Did another connection keep it from cutting the file?
            frames: Pages in the log; below 0 if another checkpoint was under way.
            copied: Of these, how many are in the file proper.
        """
        if frames < 0:  # another connection is at it
            self._enough = self.bytes + LIMIT
            return
        self.problem = None
        is_stuck = copied < frames and copied == self._copied
        if not is_stuck or self._pinned_since is None:
            self._pinned_since = time.monotonic() if copied < frames else None
        self._copied = copied
        self._is_written = copied < frames
        grown = self.bytes  # a log that nobody could begin anew stays as it is
        self._enough = grown + LIMIT if grown > LIMIT else LIMIT

    def _tell(self) -> None:
        pinned = self._alarming()
        if pinned and not self._is_alarmed:
            log(
                "warning",
                "wal_pinned",
                location=self._file.path,
                seconds=round(pinned),
                wal_bytes=self.bytes,
            )
        self._is_alarmed = bool(pinned)
