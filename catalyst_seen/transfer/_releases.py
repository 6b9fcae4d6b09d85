"""What opening a store changes, before anything is moved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._store import AsyncSeenStore
from ..backends._urls import url_errors
from ..backends.base import SupportsRehearsal
from ..backends.sqlite.schema import is_upgraded_when_opened

if TYPE_CHECKING:
    from .._config import SeenStoreConfig


async def check_can_be_made(config: SeenStoreConfig) -> None:
    """Check, where there is no store, that an open could make it; nothing is changed.

    Only PostgreSQL tests that, because it needs a right; there is nothing to make on
    Redis, and a file is not tried.

    Args:
        config: The settings of the store.

    Raises:
        StoreUnavailableError: The user of the server has no right to make it.
    """
    backend = AsyncSeenStore(config)._lifecycle.backend  # noqa: SLF001 - as its verbs
    if isinstance(backend, SupportsRehearsal):
        with url_errors(config):
            await backend.rehearse_creation()


async def is_of_earlier_release(config: SeenStoreConfig) -> bool:
    """Is a store a file of an earlier release, which its opening would upgrade?

    Programs of that release cannot use it afterwards. Nothing is changed; where there
    is no such file, or a damaged one, the opening says so.

    Args:
        config: The settings of the store; one on a server is never of that kind.

    Raises:
        SchemaError: It is no store.
    """
    location = AsyncSeenStore(config).location
    if "://" in location:
        return False
    return await asyncio.to_thread(is_upgraded_when_opened, location, config)
