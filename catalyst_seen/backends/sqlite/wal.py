"""The write-ahead log: its checkpoints, and the alarms when it grows.

SQLite would run a checkpoint inside some commit, and report no failure. So automatic
checkpoints are off, and this module runs them and examines each result.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..._logging import log
from . import driver
from .errors import describe
from .files import size

if TYPE_CHECKING:
    from .files import DatabaseFile

_PAGES = 1_000
"""Pages of the log after which a checkpoint is due, as by SQLite's default.

They are counted, and not their bytes, because a checkpoint writes each page by itself:
of small pages, the same bytes would take several times as long.
"""

_FRAME_HEADER = 24  # bytes in the log before each page

INTERVAL = 1.0
"""Longest age in seconds of what is only in the log, if the disk is fast."""

_TIME_SHARE = 20  # checkpoints may use at most this fraction of the time
_OVERGROWN = 16  # times the limit; then a checkpoint makes other connections wait:
_BUSY_TIMEOUT_MS = 100  # for so long, until the current readers have ended
_PINNED_ALARM = 10.0  # seconds for which a reader may pin a large log


def limit(db: driver.Connection) -> int:
    """Return the bytes of a log that is due for a checkpoint."""
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    return _PAGES * (int(page_size) + _FRAME_HEADER)


class WriteAheadLog:
    """The log of one file, over all connections of a store to that file.

    Attributes:
        checkpoints: Number of checkpoints that succeeded.
        failures: Number of failed checkpoints.
        last_bytes: Size of the log when it was looked at last.
        problem: Why the last checkpoint failed; ``None`` if it did not.
        is_due: Has the log grown so much that a checkpoint should not be deferred?
        limit: Bytes of a log that is due for a checkpoint; 0 before the first connect.
    """

    def __init__(self, file: DatabaseFile, *, is_used: bool) -> None:
        """Create the state of a log that was not examined yet.

        Args:
            file: The file that the log belongs to.
            is_used: Is the database in WAL mode?
        """
        self.checkpoints: int = 0
        self.failures: int = 0
        self.last_bytes: int = 0
        self.problem: str | None = None
        self.is_due: bool = False
        self.limit: int = 0
        self._file = file
        self._is_used = is_used
        self._threshold = 0
        self._has_frames = True  # of another process, perhaps
        self._next_checkpoint = self._next_truncation = 0.0
        self._copied = 0
        self._pinned_since: float | None = None
        self._is_alarm_logged = False

    @property
    def bytes(self) -> int:
        """Size of the log."""
        return size(f"{self._file.real_path}-wal") if self._is_used else 0

    @property
    def is_overgrown(self) -> bool:
        """Is the log so large that a checkpoint should make others wait?"""
        return self.bytes > _OVERGROWN * self.limit

    @property
    def pinned(self) -> float:
        """Seconds for which a reader has blocked checkpoints; 0 if none does."""
        since = self._pinned_since  # another thread may be about to change it
        return 0.0 if since is None else time.monotonic() - since

    def record_write(self) -> None:
        """Record that a transaction has written to the log."""
        self._has_frames = True
        grown = self.last_bytes = self.bytes
        if grown <= self.limit:
            self._threshold = self.limit
        self.is_due = grown > self._threshold

    def alarms(self) -> list[str]:
        """Return the conditions that need an operator."""
        found, problem, pinned = [], self.problem, self._pinned_too_long()
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

    def maintain(self, db: driver.Connection) -> None:
        """Run a checkpoint if the log has grown, or if its frames are old enough."""
        if not self._is_used:
            return
        started = time.monotonic()
        if self.is_due or (self._has_frames and started >= self._next_checkpoint):
            truncates = self.is_overgrown and started >= self._next_truncation
            self._checkpoint(db, "TRUNCATE" if truncates else "PASSIVE")
            ended = time.monotonic()
            pause = max(INTERVAL, _TIME_SHARE * (ended - started))
            self._next_checkpoint = ended + pause
            if truncates and self.is_overgrown:
                self._next_truncation = self._next_checkpoint
        self.is_due = False
        self._log_alarm()

    def truncate(self, db: driver.Connection) -> None:
        """Run a checkpoint and truncate the log, before the connection is closed."""
        if self.bytes:
            self._checkpoint(db, "TRUNCATE")

    def _checkpoint(self, db: driver.Connection, mode: str) -> None:
        try:
            db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}").fetchall()
            try:
                row = db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            finally:
                db.execute("PRAGMA busy_timeout = 0").fetchall()
        except driver.Error as exc:
            self._record_failure(describe(exc))
        else:
            self._record_checkpoint(*row)

    def _record_failure(self, problem: str) -> None:
        self.failures += 1
        self._threshold = self.bytes + self.limit
        if self.problem is None:
            log("error", "checkpoint_failed", location=self._file.path, error=problem)
        self.problem = problem

    def _record_checkpoint(self, _is_busy: int, frames: int, copied: int) -> None:
        """Evaluate the result of a checkpoint.

        Args:
            _is_busy: Did another connection prevent the truncation?
            frames: Pages in the log; negative if another checkpoint was running.
            copied: Number of these that are in the database file.
        """
        if frames < 0:
            self._threshold = self.bytes + self.limit
            return
        self.problem = None
        self.checkpoints += 1
        is_stuck = copied < frames and copied == self._copied
        if not is_stuck or self._pinned_since is None:
            self._pinned_since = time.monotonic() if copied < frames else None
        self._copied = copied
        self._has_frames = copied < frames
        grown = self.last_bytes = self.bytes  # one that was not reset keeps its size
        self._threshold = self.limit + (grown if grown > self.limit else 0)

    def _pinned_too_long(self) -> float:
        """Return for how long a reader has pinned the log, if that is an alarm."""
        pinned = self.pinned
        return pinned if pinned >= _PINNED_ALARM and self.bytes > self.limit else 0.0

    def _log_alarm(self) -> None:
        pinned = self._pinned_too_long()
        if pinned and not self._is_alarm_logged:
            log(
                "warning",
                "wal_pinned",
                location=self._file.path,
                seconds=round(pinned),
                wal_bytes=self.bytes,
            )
        self._is_alarm_logged = bool(pinned)
