"""The tool on a file, and on servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import SeenStore

from ..support.targets import SERVERS, Places
from ..support.tool import Tool

STORES = ["file", *(name for name in SERVERS if name != "cluster")]
"""A file, Valkey and PostgreSQL; what a cluster does otherwise, the contract tests."""


@contextmanager
def placed(places: Places, name: str, folder: Path) -> Iterator[Tool]:
    """Make the tool on an empty place of a backend; clear the place afterwards."""
    with places.target(name, folder / "seen.db") as target:
        config = target.settings
        part = config.prefix if name in {"valkey", "cluster"} else config.schema
        url = f"{config.url}#{part}" if config.url else str(config.path)
        yield Tool(folder, url)


@pytest.fixture(params=STORES)
def tool(
    request: pytest.FixtureRequest, places: Places, tmp_path: Path
) -> Iterator[Tool]:
    """The tool on each kind of store; there is no store yet."""
    with placed(places, request.param, tmp_path) as made:
        yield made


@pytest.fixture
def on_file(places: Places, tmp_path: Path) -> Iterator[Tool]:
    """The tool on a file, where the kind of store makes no difference."""
    with placed(places, "file", tmp_path) as made:
        yield made


@pytest.fixture
def on_valkey(places: Places, tmp_path: Path) -> Iterator[Tool]:
    """The tool on a server, which has the room that files lack."""
    with placed(places, "valkey", tmp_path) as made:
        yield made


def open_store(tool: Tool, **settings: Any) -> SeenStore:
    """Open the store of a tool, to prepare what is in it, and to see what became."""
    from catalyst_seen.cli._stores import configuration

    return SeenStore(configuration(tool.store, create=True), **settings)
