"""CSV: rows with a key in one of their columns."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from .._codes import Failure
from .entries import Entry
from .inputs import MAX_LINE
from .lines import likely

if TYPE_CHECKING:
    from _csv import Reader
    from collections.abc import Iterator

    from .entries import Fields
    from .inputs import Input

_DELIMITERS = ",;\t|"
_HEAD = 1 << 16  # bytes
_FEW = 20  # rows by which the delimiter is found


@dataclass(frozen=True)
class Table:
    """A CSV file, with the names of its columns in the first row.

    A column that is a number, and no name, is counted from 1: then the first row has a
    key as well.
    """

    read: Input
    fields: Fields
    kind: str = "CSV"
    unit: str = "line"

    def entries(self) -> Iterator[Entry]:
        """List the rows."""
        delimiter = delimiter_of(self.read) or _delimiter_of_header(self.read)
        csv.field_size_limit(MAX_LINE)
        # With newline="" csv finds line ends itself, also those inside of a field.
        rows = csv.reader(self.read.lines(""), delimiter=delimiter, strict=True)
        try:
            yield from self._rows(rows)
        except csv.Error as exc:
            raise Failure(f"line {rows.line_num:,} is no CSV: {exc}") from None

    def _rows(self, rows: Reader) -> Iterator[Entry]:
        header = next(rows, None)
        if header is None:
            return
        key, is_row = _column(self.fields.key or _only(header), header, "--key")
        date, _ = _column(self.fields.date, header, "--date")
        note, _ = _column(self.fields.note, header, "--note")
        assert key is not None  # noqa: S101 - it was named
        if is_row:
            yield _entry(rows.line_num, header, key, date, note)
        for row in rows:
            if row:
                yield _entry(rows.line_num, row, key, date, note)


def delimiter_of(read: Input) -> str | None:
    """Return what divides the columns; ``None`` if there are none.

    All of the first rows have the same number of columns.
    """
    head = _head(read)
    columns = {mark: _columns(head, mark, _FEW) for mark in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda mark: columns[mark])
    return best if columns[best] > 1 else None


def _delimiter_of_header(read: Input) -> str:
    """Return what divides the first row, where the others are shorter or longer."""
    head = _head(read)
    return max(_DELIMITERS, key=lambda mark: _columns(head, mark, 1))


def _head(read: Input) -> str:
    """Return the first lines, of which the last one is not cut."""
    part = read.head(_HEAD)
    head = part.decode(read.encoding, "replace")
    whole = head.rfind("\n") + 1
    return head[:whole] if whole and len(part) == _HEAD else head


def _columns(head: str, delimiter: str, number: int) -> int:
    """Return how many columns each of the first rows has; 0 if they differ.

    The module csv finds the ends of rows itself, as it does in the whole file: a field
    may have any other line separator.
    """
    csv.field_size_limit(MAX_LINE)
    try:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
        widths = {len(row) for row in islice(reader, number) if row}
    except csv.Error:
        return 0
    return widths.pop() if len(widths) == 1 else 0


def _only(header: list[str]) -> str:
    if len(header) == 1:
        return header[0]
    raise Failure(
        f"is CSV with the columns {', '.join(header[:8])}: name the one that has the"
        f" keys, such as --key {likely(header)}; --as text takes each line as a key"
    )


def _column(
    name: str | None, header: list[str], option: str
) -> tuple[int | None, bool]:
    """Return the index of a column, and whether it was given by its number."""
    if name is None:
        return None, False
    if name in header:
        return header.index(name), False
    if name.isdecimal() and 0 < int(name) <= len(header):
        return int(name) - 1, True
    raise Failure(
        f"{option} {name}: the columns are {', '.join(header[:8])}; a number counts"
        " them from 1, where the first row has no names"
    )


def _entry(
    place: int, row: list[str], key: int, date: int | None, note: int | None
) -> Entry:
    if key >= len(row):
        problem = f"has only {len(row)} of the columns"
        return Entry(place, None, problem=problem)
    return Entry(place, row[key], _cell(row, date), _cell(row, note))


def _cell(row: list[str], column: int | None) -> str | None:
    return row[column] or None if column is not None and column < len(row) else None
