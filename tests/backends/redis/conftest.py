"""A server of Valkey for one test, and a way to it that loses replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ...support.lossy import Lossy, lossy
from ...support.redis_stores import DURABLE
from ...support.servers import Valkey


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
