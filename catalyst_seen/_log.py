"""Logging that cannot break what it reports on."""

from __future__ import annotations

from contextlib import suppress

import structlog

_logger = structlog.get_logger("catalyst_seen")


def log(level: str, event: str, **data: object) -> None:
    """Log an event; where nobody can be told, go on.

    structlog prints to standard output unless a program says otherwise, and a daemon's
    may be closed.
    """
    with suppress(Exception):
        getattr(_logger, level)(event, **data)
