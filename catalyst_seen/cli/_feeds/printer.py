"""Prints the entries of feeds on standard output."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._codes import Code, Failure
from .entries import as_json, as_text, as_text_within, data_of
from .line_output import LineOutput

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
        self._output = LineOutput()

    async def deliver(self, entry: Entry, claim: Claim) -> None:
        """Print an entry; if that is not possible it is released, for the next run.

        Raises:
            BrokenPipeError: Nobody reads the output.
            Failure: The output cannot be written.
        """
        try:
            await self._output.write(self._line(entry, claim))
        except BrokenPipeError:
            await claim.release(0)
            raise
        except OSError as exc:
            await claim.release(0)
            raise Failure(
                f"standard output: {exc.strerror or exc}; what was not printed stays"
                " pending",
                Code.SOME_FAILED,
            ) from exc

    def _line(self, entry: Entry, claim: Claim) -> str:
        if callable(self._form):
            return self._form(data_of(entry, claim))
        if self._form == "json":
            return as_json(data_of(entry, claim))
        if self._is_terminal:
            return as_text_within(entry, shutil.get_terminal_size().columns)
        return as_text(entry)
