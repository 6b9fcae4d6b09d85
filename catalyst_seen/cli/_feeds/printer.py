"""Prints the entries of feeds on standard output."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._codes import Failure
from .._outlet import Outlet
from .._output import to_json
from .entries import as_text, as_text_within, data_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalyst_seen import Claim
    from catalyst_seen.feeds import Entry

    Format: TypeAlias = Literal["text", "json"] | Callable[[dict[str, Any]], str]


class Printer:
    """Prints entries."""

    def __init__(self, form: Format | None) -> None:
        """Print in a form; by default text on a terminal, and JSON Lines in a pipe."""
        self._is_terminal = sys.stdout.isatty()
        self._form = form or ("text" if self._is_terminal else "json")
        sys.stdout.flush()
        self._encoding = sys.stdout.encoding or "utf-8"
        self._outlet = Outlet(sys.stdout.fileno())

    async def deliver(self, entry: Entry, claim: Claim) -> None:
        """Print an entry, and return when it has arrived; see ``Outlet``.

        If that is not possible, the entry is released, for the next run. One that has
        arrived is confirmed also if a signal ends the wait.

        Raises:
            BrokenPipeError: The output has no reader.
            Failure: The output cannot be written.
        """
        line = f"{self._line(entry, claim)}\n"
        try:
            await self._outlet.deliver(line.encode(self._encoding, "backslashreplace"))
        except (BrokenPipeError, Failure):
            await claim.release(0)
            raise
        except asyncio.CancelledError:
            await self._outlet.settle()
            if self._outlet.has_arrived():
                await claim.confirm()
            raise

    def _line(self, entry: Entry, claim: Claim) -> str:
        if callable(self._form):
            return self._form(data_of(entry, claim))
        if self._form == "json":
            return to_json(data_of(entry, claim))
        if self._is_terminal:
            return as_text_within(entry, shutil.get_terminal_size().columns)
        return as_text(entry)
