"""What a program pays before it does anything."""

from __future__ import annotations

from benchmarks.imports import CPU_TIME, importing, running
from benchmarks.measure import OURS, Measure, Work

IMPORT = Work(
    "import",
    "import of the package in a fresh process, beside other packages alone",
    (Measure(CPU_TIME, "ms"),),
    {
        OURS: importing("catalyst_seen"),
        "asyncio": importing("asyncio"),
        "aiosqlite": importing("aiosqlite"),
        "structlog": importing("structlog"),
    },
)
"""The import beside that of the standard library, and of two of our dependencies."""

_TOOL = """
from catalyst_seen.cli import main
main(["--store", "start.db", "-q", "filter", "-q"])
main(["--store", "start.db", "-q", "seen", "a"])
"""

START = Work(
    "start",
    "start of the tool for two commands, beside what it is made of",
    (Measure(CPU_TIME, "ms"),),
    {
        OURS: running(_TOOL),
        "catalyst_seen": importing("catalyst_seen"),
        "click": importing("click"),
        "rich.table": importing("rich.table"),
        "typer": importing("typer"),
    },
)
"""The tool as it starts; it imports rich only for a table, and no driver."""
