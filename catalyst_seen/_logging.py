"""Structured logging that cannot break what it reports on.

structlog is imported by the first event, for its import pulls in rich and takes longer
than all the rest of the package. That event may block its event loop once, for about
0.1 s: an event reports a failure or a condition that needs an operator, and a program
that configures structlog has imported it before.
"""

from __future__ import annotations

from contextlib import suppress


def log(level: str, event: str, **data: object) -> None:
    """Log an event; a logger that fails is ignored.

    structlog prints to standard output unless a program configures it, and a daemon's
    standard output may be closed.
    """
    with suppress(Exception):
        import structlog

        getattr(structlog.get_logger("catalyst_seen"), level)(event, **data)
