"""Fixtures that every test may use: a clock to move, a store, a script to run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore

from .faults.harness.report import PROPERTY, Gatherer, Row, record
from .support.feeds import Site, serving
from .support.targets import SHARED, TARGETS, Places, Target

NOON = 4_000_000_000.0
"""In 2096: what Redis keeps until then, it does not expire by its own clock."""

DAY = 86_400.0

# From Python 3.12 on a fork with threads warns; here it is what is tested.
NO_FORK_WARNING = ("-W", "ignore::DeprecationWarning")

Run = Callable[..., subprocess.CompletedProcess[str]]
Figures = Callable[[str], None]
Fault = Callable[..., Row]


class Clock:
    """Wall time that moves only when told; also that of servers, where it rules."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch to the long forms of tests that have two."""
    parser.addoption(
        "--torture",
        action="store_true",
        help="run the long forms, a quarter of an hour or so",
    )
    parser.addoption(
        "--report", type=Path, help="where to write what faults did, as Markdown"
    )


_gatherer = Gatherer()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Describe how a test ended, without the garbage collector.

    A description parses the source of the test. On CPython 3.11 the parser fails with
    "AST constructor recursion depth mismatch" if the garbage collector runs a finalizer
    meanwhile that parses as well, as the format of a traceback does; the error would
    end the worker, and hide the name of the test.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Gather what faults did."""
    _gatherer.take(report)


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> bool:
    """Is the long form wanted?"""
    return bool(request.config.getoption("--torture"))


@pytest.fixture
def clock(places: Places) -> Iterator[Clock]:
    """A clock that stands at noon; stores on servers go by it as well."""
    places.server_time = made = Clock()
    yield made
    places.server_time = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database may be; nothing is there yet."""
    return tmp_path / "seen.db"


@pytest.fixture(scope="session")
def places() -> Iterator[Places]:
    """Places on backends; their servers end with the tests."""
    with closing(Places()) as made:
        yield made


@pytest.fixture(params=TARGETS)
def target(
    request: pytest.FixtureRequest, places: Places, path: Path
) -> Iterator[Target]:
    """An empty place on each backend that the contract runs on."""
    with places.target(request.param, path) as made:
        yield made


@pytest.fixture(params=SHARED)
def shared(
    request: pytest.FixtureRequest, places: Places, path: Path
) -> Iterator[Target]:
    """The same on each that several stores, or one after the other, can open."""
    with places.target(request.param, path) as made:
        yield made


@pytest.fixture
def place(places: Places, tmp_path: Path) -> Iterator[Target]:
    """An empty schema on PostgreSQL."""
    with places.target("postgres", tmp_path / "unused") as made:
        yield made


@pytest.fixture
async def store(target: Target, clock: Clock) -> AsyncIterator[AsyncSeenStore]:
    """An open store on each backend; a day's TTL, the manual clock, no purge."""
    config = target.config(purge_interval=None)
    async with AsyncSeenStore(config, ttl=DAY, clock=clock) as made:
        yield made


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SEEN_", "SQLITE_", "PG", "FEATURE_PERSIST_SEEN")):
            monkeypatch.delenv(name)


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor behind."""
    for place in {"target", "shared"}.intersection(request.fixturenames):
        request.getfixturevalue(place)  # its server is no part of the test
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (
        set(threading.enumerate()) > threads
        or len(open_descriptors()) > len(descriptors)
    ):
        time.sleep(0.01)
    assert set(threading.enumerate()) <= threads
    assert len(open_descriptors()) <= len(descriptors)


def open_descriptors() -> list[str]:
    """What this process has open, by name."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(number.readlink()))
        except FileNotFoundError:  # the one that listed the others
            continue
    return found


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Keep a line of what was measured, for the end of the run."""
    return lambda line: record_property("figures", line)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """Begin a line of the report, by its number and the fault in a few words."""
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
    """Print what was measured, and write it where it is wanted."""
    lines = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "figures"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.write_line(line)
    if _gatherer.rows:
        terminalreporter.section("faults")
        for line in _gatherer.lines():
            terminalreporter.write_line(line)
        report: Path | None = config.getoption("--report")
        if report is not None:
            _gatherer.write(report)


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve pages on a free port of this machine."""
    with serving() as made:
        yield made


@pytest.fixture
def run_script(tmp_path: Path) -> Run:
    """Run a script in a new interpreter; it fails the test if it hangs."""

    def run(
        script: str, *args: str, options: tuple[str, ...] = (), timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *options, "-c", textwrap.dedent(script), *args],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            text=True,
            timeout=timeout,
        )

    return run
