"""Data on standard output: tables on a terminal, JSON Lines in a pipe."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from .._durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ._settings import Settings

Kind = Literal["text", "number", "instant", "duration"]
"""What a column has: instants are seconds since 1970, durations are seconds."""


class Rows:
    """Rows of data with the same columns, on a terminal and in a pipe.

    ::

        with Rows(settings, {"key": "text", "last_seen": "instant"}) as rows:
            rows.add(key=record.key, last_seen=record.last_seen)

    In a pipe each row is written as it is added, as a JSON object: instants as RFC 3339
    in UTC, durations in seconds, and what is ``None`` as null. On a terminal they form
    a table, with the time of this machine.
    """

    def __init__(self, settings: Settings, columns: Mapping[str, Kind]) -> None:
        self._columns = columns
        self._is_table = sys.stdout.isatty() and not settings.is_json
        self._rows: list[list[str]] = []
        self.count: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, *_: object) -> None:
        if self._rows:
            self._write_table()
        sys.stdout.flush()

    def add(self, **values: Any) -> None:
        """Add a row; a column without a value is empty."""
        self.count += 1
        if self._is_table:
            shown = [_shown(values.get(n), kind) for n, kind in self._columns.items()]
            self._rows.append(shown)
        else:
            data = {n: _datum(values.get(n), kind) for n, kind in self._columns.items()}
            write_json(data)

    def _write_table(self) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, kind in self._columns.items():
            is_number = kind in {"number", "duration"}
            table.add_column(
                name.replace("_", " "),
                justify="right" if is_number else "left",
                overflow="fold",
                no_wrap=kind == "instant",
            )
        for row in self._rows:
            table.add_row(*map(Text, row))
        Console(highlight=False).print(table)


def write_json(data: Mapping[str, Any]) -> None:
    """Write an object as one line of JSON."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


def rfc3339(instant: float) -> str:
    """Return an instant in UTC, to the millisecond: ``2026-11-28T06:30:00.250Z``."""
    text = datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00").removesuffix(".000") + "Z"


def printable(text: str) -> str:
    """Return a text without characters that control a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def local(instant: float) -> str:
    """Return an instant in the time of this machine, to the second."""
    return datetime.fromtimestamp(instant).isoformat(" ", "seconds")  # noqa: DTZ006


def span(seconds: float) -> str:
    """Return a duration as a text, such as ``7d``."""
    return format_duration(seconds)


def _datum(value: Any, kind: Kind) -> Any:
    return rfc3339(value) if kind == "instant" and value is not None else value


def _shown(value: Any, kind: Kind) -> str:
    if value is None:
        return ""
    if kind == "instant":
        return local(value)
    if kind == "duration":
        return format_duration(round(value))
    if kind == "number":
        return f"{value:,}"
    return printable(str(value))


@contextmanager
def progress(
    settings: Settings, what: str, total: int | None = None
) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far a long work is; yield what advances it.

    Nothing is shown where standard error is no terminal, or with ``--quiet``.
    """
    if settings.is_quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.advance(task, done)
