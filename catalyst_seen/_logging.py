"""Log events: to structlog if the program has configured it, else to ``logging``.

Both loggers are named ``catalyst_seen``; nothing here configures either. Without any
configuration, the last-resort handler of ``logging`` writes warnings and errors to
standard error. Nothing is ever written to standard output.

The levels: ``error`` for a call that failed, or will fail, although its caller was not
told; ``warning`` for a condition that an operator must know of; ``info`` for a rare
change that succeeded. A key of an item is logged at ``debug`` only.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

_NAME = "catalyst_seen"


def log(level: str, event: str, **data: object) -> None:
    """Log an event; a logger that fails is ignored.

    structlog is not imported here: its import pulls in rich, and would block the event
    loop for about 0.1 s. A program that configures it has imported it before.

    Args:
        level: Name of the level: ``"debug"``, ``"info"``, ``"warning"``, ``"error"``.
        event: Name of the event, as in ``docs/logging.md``.
        data: What belongs to it.
    """
    with suppress(Exception):
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            getattr(structlog.get_logger(_NAME), level)(event, **data)
        else:
            _log_line(logging.getLevelNamesMapping()[level.upper()], event, data)


def _log_line(level: int, event: str, data: dict[str, object]) -> None:
    """Log an event as one line, and its data as attributes of the record as well.

    The attributes are prefixed: a ``LogRecord`` has a ``name`` and a ``message`` of its
    own, and refuses others.
    """
    logger = logging.getLogger(_NAME)
    if logger.isEnabledFor(level):
        line = " ".join([event, *(f"{name}={_text(data[name])}" for name in data)])
        extra = {f"seen_{name}": value for name, value in data.items()}
        logger.log(
            level, "%s", line, extra={"seen_event": event, **extra}, stacklevel=3
        )


def _text(value: object) -> str:
    """Quote a value that would not be one readable word of the line."""
    text = str(value)
    is_word = text.isprintable() and not {" ", '"', "'", "="}.intersection(text)
    return text if is_word and text else repr(text)
