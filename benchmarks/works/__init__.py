"""The works: each module declares some, and this package lists all in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocking import BLOCKING
from .busy_loop import BUSY_LOOP
from .counting import COUNTING
from .feeds import FEED_WORKS
from .imports import IMPORT, START
from .large import LARGE
from .memory import MEMORY
from .processes import PROCESSES
from .purge import PURGE
from .servers import SERVER_WORKS
from .throughput import THROUGHPUT_WORKS

if TYPE_CHECKING:
    from benchmarks.measure import Work

WORKS: tuple[Work, ...] = (
    *FEED_WORKS,
    MEMORY,
    *THROUGHPUT_WORKS,
    BLOCKING,
    COUNTING,
    BUSY_LOOP,
    PROCESSES,
    PURGE,
    LARGE,
    IMPORT,
    START,
    *SERVER_WORKS,
)
"""All works, in the order in which they run."""
