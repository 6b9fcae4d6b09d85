"""The report: a line per fault, gathered over tests and processes, and written."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from .checker import History, check

sys.path.append(str(Path(__file__).parents[3]))  # behind the installed package

from benchmarks.machine import machine

PROPERTY = "fault"

_HEADING = """# What was broken, and what was lost

Every fault that was injected, and what came of it: lost, doubled, or left in doubt.

Written by `nox -s torture`; do not edit. {where}.

Each line is a fault, injected for real as often as *rounds* says. What callers were
told is compared with what plain `sqlite3`, or the server, finds stored in the end:

- **acknowledged**: calls that were told that they had marked or claimed a key;
- **lost**: acknowledged, and not stored; *as documented* where that may be: the newest
  at a power failure under `NORMAL`, and what a server has not saved;
- **doubled**: two callers were told that they are the first;
- **ghost**: stored, and nobody asked for it, or was refused;
- **phantom**: called seen, and nobody ever was the first;
- **unknown**: killed, cancelled or cut off before it was told: it may be stored or not;
- **intact**: rounds after which `PRAGMA integrity_check` said ok, or its like;
- **worst call**: the longest that a caller waited, where it was measured.

The first column is the number in the catalogue of faults that `tests/faults` follows: A
tasks and loops, B races and leases, C crashes, D disks and files, E growth, F input, G
clocks, H servers.

"""


@dataclass
class Row:
    """A line of the report: one fault, injected a number of times.

    Attributes:
        number: Its place in the catalogue: ``C1``.
        fault: What was done, in a few words.
        may_lose: Is a loss what is documented, as at a power failure under NORMAL?
        seconds: The longest call that a caller waited for.
        intact: Rounds after which the database was found intact.
        notes: What else was measured.
    """

    number: str
    fault: str
    may_lose: bool = False
    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    ghost: int = 0
    phantom: int = 0
    unknown: int = 0
    stored: int = 0
    intact: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, history: History, final: Collection[str], *, intact: bool) -> None:
        """Add a round, and raise if it broke a promise.

        Args:
            history: What callers were told.
            final: The keys that are stored, read by another connection in the end.
            intact: Did ``integrity_check`` say ok?
        """
        found = check(history, final)
        self.rounds += 1
        self.acknowledged += found.acknowledged
        self.lost += len(found.lost)
        self.doubled += len(found.doubled)
        self.ghost += len(found.ghost)
        self.phantom += len(found.phantom)
        self.unknown += found.unknown
        self.stored += found.stored
        self.intact += intact
        self.seconds = max(self.seconds, history.worst)
        assert not found.lost or self.may_lose, found
        assert not found.doubled, found
        assert not found.ghost, found
        assert not found.phantom, found
        assert intact, f"round {self.rounds}: not intact"

    def passed(self, rounds: int = 1) -> None:
        """Add rounds that broke no promise, where there is more to it than keys."""
        self.rounds += rounds
        self.intact += rounds

    def note(self, text: str) -> None:
        """Add what else was measured."""
        self.notes.append(text)


Fault = Callable[..., Row]


class Gatherer:
    """Gathers lines from the reports of tests, wherever they ran."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.skipped: list[tuple[str, str]] = []
        self.failed: list[str] = []

    def take(self, report: pytest.TestReport) -> None:
        """Take what a test has measured, or why it was skipped or failed."""
        name = report.nodeid.rpartition("/")[2]
        if report.when == "teardown":
            for kind, value in report.user_properties:
                if kind == PROPERTY:
                    self.rows.append(Row(**json.loads(str(value))))
        if report.failed:
            self.failed.append(name)
        if report.skipped and "/faults/" in report.nodeid:
            reason = str(report.longrepr)
            if isinstance(report.longrepr, tuple):
                reason = report.longrepr[2].removeprefix("Skipped: ")
            self.skipped.append((name, reason))

    def write(self, path: Path) -> None:
        """Write the report as Markdown."""
        facts = machine()
        facts["file system"] = _file_system(tempfile.gettempdir())
        where = ", ".join(f"{name} {value}" for name, value in facts.items())
        path.write_text("\n".join([_HEADING.format(where=where), *self.lines(), ""]))

    def lines(self) -> list[str]:
        """Word the report, in the order of the catalogue."""
        lines = [self._sum(), "", _line(_TITLES), _line(["---", "---", *["--:"] * 10])]
        notes = []
        for row in sorted(self.rows, key=_place):
            lines.append(_line(_cells(row)))
            if row.notes:
                notes.append(f"- **{row.number}**, {row.fault}: {'; '.join(row.notes)}")
        if notes:
            lines += ["", "What else was measured:", "", *notes]
        lines += ["", f"Faults that this machine cannot inject: {len(self.skipped)}"]
        lines += [f"- `{name}`: {reason}" for name, reason in self.skipped]
        if self.failed:
            lines += ["", f"**Failed: {len(self.failed)}**"]
            lines += [f"- `{name}`" for name in self.failed]
        return lines

    def _sum(self) -> str:
        """Say what all lines come to."""
        rounds = sum(row.rounds for row in self.rows)
        acknowledged = sum(row.acknowledged for row in self.rows)
        lost = sum(row.lost for row in self.rows if not row.may_lose)
        wrong = [
            f"{name} {sum(getattr(row, name) for row in self.rows)}"
            for name in ("doubled", "ghost", "phantom")
        ]
        return (
            f"**{len(self.rows)} lines, {rounds:,} rounds, {acknowledged:,} calls"
            f" acknowledged: lost where nothing may be lost {lost},"
            f" {', '.join(wrong)}.**"
        )


def record(row: Row) -> str:
    """Word a line so that it can be sent to the process that writes the report."""
    return json.dumps(asdict(row))


_TITLES = [
    "",
    "fault",
    "rounds",
    "acknowledged",
    "lost",
    "doubled",
    "ghost",
    "phantom",
    "unknown",
    "of them stored",
    "intact",
    "worst call",
]


def _cells(row: Row) -> list[str]:
    counts = (row.doubled, row.ghost, row.phantom, row.unknown, row.stored)
    return [
        row.number,
        row.fault,
        f"{row.rounds:,}",
        f"{row.acknowledged:,}",
        f"{row.lost:,}{' as documented' if row.lost and row.may_lose else ''}",
        *(f"{count:,}" for count in counts),
        f"{row.intact:,}/{row.rounds:,}",
        f"{row.seconds * 1_000:,.0f} ms" if row.seconds else "",
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _file_system(folder: str) -> str:
    """Name the kind of the one that a folder is on."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    kinds = {place: kind for _, place, kind, *_ in mounts}
    ways = (str(way) for way in [Path(folder), *Path(folder).parents])
    return next((kinds[way] for way in ways if way in kinds), "unknown")


def _place(row: Row) -> tuple[str, int, str]:
    return row.number[0], int(row.number[1:]), row.fault
