"""Fixtures of every test: paths, clocks, targets and stores."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from catalyst_seen import AsyncSeenStore

from .support.clock import DAY, Clock
from .support.feeds import Site, serving
from .support.targets import SERVERS, SHARED, TARGETS, Places, Target

_FOREIGN = ("SEEN_", "SQLITE_", "PG", "FEATURE_PERSIST_SEEN", "COVERAGE_")
"""Variables of stores, and of a coverage that would slow down all that tests start."""

_REPEATED = {"memory", "reference", "pysqlite3", "cluster"}
"""Backends whose code a file, a lone server and the tests of a cluster run as well."""

_ANY_BACKEND = {"cli", "test_state_table", "test_states"}
"""Tests of code that a store on a file runs whole."""

pytest_plugins = [
    f"{__package__}.faults.harness.plugin",
    f"{__package__}.support.figures",
    f"{__package__}.support.leaks",
    f"{__package__}.support.reports",
    f"{__package__}.support.scripts",
]


def pytest_configure() -> None:
    """Let Ctrl-C arrive in what tests start, also where a shell runs pytest with ``&``.

    Such a shell lets it be ignored, and every process inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs the same lines as another test, on another backend."""
    for item in items:
        names = {item.path.parent.name, item.path.stem}
        elsewhere = set() if names.isdisjoint(_ANY_BACKEND) else {*SERVERS}
        spec = getattr(item, "callspec", None)
        if spec is not None and {*_REPEATED, *elsewhere} & {*spec._idlist}:
            item.add_marker("repeats")


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
async def store(
    target: Target,
    clock: Clock,  # noqa: ARG001 - its time is the target's
) -> AsyncIterator[AsyncSeenStore]:
    """An open store on each backend; a day's TTL, the manual clock, no purge."""
    config = target.config(purge_interval=None)
    async with AsyncSeenStore(config, ttl=DAY) as made:
        yield made


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _plain_structlog() -> Iterator[None]:
    """No test leaves structlog configured, as ``capture_logs`` does."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve pages on a free port of this machine."""
    with serving() as made:
        yield made
