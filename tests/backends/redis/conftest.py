"""Servers of Valkey for one test or one module, and a way that loses replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ...support.lossy import Lossy, lossy
from ...support.redis_stores import DURABLE
from ...support.servers import Valkey, ValkeyCluster

Server = Valkey | ValkeyCluster


@pytest.fixture(scope="module", params=["one", "cluster"])
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server, and a cluster, of the tests of this module."""
    made = Valkey if request.param == "one" else ValkeyCluster
    with made(**DURABLE) as server:
        yield server


@pytest.fixture
def one_or_cluster(running: Server) -> Server:
    """One server, or a cluster, which is empty."""
    running.clear()
    return running


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A server that belongs to this test alone."""
    with Valkey(**DURABLE) as made:
        yield made


@pytest.fixture
async def way(server: Valkey) -> AsyncIterator[Lossy]:
    """A proxy to the server, which loses replies."""
    async with lossy(server.port) as made:
        yield made
