"""What a program pays before it does anything."""

from __future__ import annotations

from benchmarks.imports import CPU_TIME, importing
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
