"""What opening a store changes, before anything is moved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._store import AsyncSeenStore
from ..backends.sqlite.schema import is_upgraded_when_opened

if TYPE_CHECKING:
    from .._config import SeenStoreConfig


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
