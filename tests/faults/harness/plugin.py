"""Options, fixtures and report of the tests that inject faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .report import PROPERTY, Fault, Gatherer, Row, record


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the long forms of fault tests and for their report."""
    parser.addoption(
        "--torture",
        action="store_true",
        help="run the long forms, a quarter of an hour or so",
    )
    parser.addoption(
        "--report", type=Path, help="where to write the report on faults, as Markdown"
    )


_gatherer = Gatherer()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the rows of the report from a test."""
    _gatherer.take(report)


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> bool:
    """Return whether the long form of a test was requested."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """Begin a row of the report, by its number and the fault in a few words."""
    rows: list[Row] = []

    def begin(number: str, fault: str, *, may_lose: bool = False) -> Row:
        rows.append(Row(number, fault, may_lose))
        return rows[-1]

    yield begin
    for row in rows:
        request.node.user_properties.append((PROPERTY, record(row)))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a line for each fault, and write the report if a path is given."""
    if _gatherer.rows:
        terminalreporter.section("faults")
        for line in _gatherer.lines():
            terminalreporter.write_line(line)
        report: Path | None = config.getoption("--report")
        if report is not None:
            _gatherer.write(report)
