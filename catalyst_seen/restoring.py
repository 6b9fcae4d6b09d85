"""Puts a backup of SQLite's file in the place of a store, after a check of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._errors import ConfigurationError, SchemaError, StoreUnavailableError
from ._store import AsyncSeenStore
from ._targets import expanded
from .backends.sqlite.files import MEMORY
from .backends.sqlite.replacing import Replacement

if TYPE_CHECKING:
    import os

    from ._config import SeenStoreConfig


@dataclass(frozen=True)
class Restored:
    """What was restored, or would be.

    Attributes:
        location: The file of the store.
        kept: The new name of the file that was there; ``None`` if there was none.
        keys: The number of seen keys in the backup.
        file_bytes: Its size.
    """

    location: str
    kept: str | None
    keys: int
    file_bytes: int


async def restore(
    backup: str | os.PathLike[str],
    config: SeenStoreConfig,
    *,
    dry_run: bool = False,
) -> Restored:
    """Replace the file of a store by a backup, which no program may have open.

    The backup is copied into the directory of the store, and the copy is checked, row
    by row; one of an earlier release is upgraded there. Then the copy replaces the file
    at once, in a directory that is made if it is missing; the file that was there stays
    beside it, with all that its log had. After a failure, and if the process is killed,
    either the old file is there or the new one.

    Args:
        backup: The file that ``AsyncSeenStore.backup`` has made; it is only read.
        config: The settings of the store, of which the path counts.
        dry_run: Only check; programs may have the store open.

    Raises:
        ConfigurationError: There is no such file, or it is a store in use; or the
            settings name a server, or memory.
        SchemaError: The backup is no store, or one of a newer release; or the file that
            is there is another program's.
        StoreUnavailableError: The backup is damaged; or a program has the store open,
            or the disk refuses.
    """
    path = _path(config)
    made = Replacement(path, expanded(backup), config.sqlite)
    check = made.check_ours if dry_run else made.check_unused
    await asyncio.to_thread(check)
    with made.copied(makes_directory=not dry_run):
        keys, size = await _check(made, str(backup), config)
        kept = None if dry_run else await asyncio.to_thread(made.replace)
    return Restored(str(made.path), kept, keys, size)


def _path(config: SeenStoreConfig) -> str:
    location = AsyncSeenStore(replace(config, purge_interval=None)).location
    if location == MEMORY or "://" in location:
        raise ConfigurationError(
            "restore",
            f"a backup replaces a file, and {location} is none: restore a server by its"
            " own tools; an empty one can be filled by catalyst-seen move BACKUP URL",
        )
    return location


async def _check(
    made: Replacement, backup: str, config: SeenStoreConfig
) -> tuple[int, int]:
    """Open the copy, and compare its rows with its indexes."""
    copy = replace(
        config, path=made.copy, url=None, create=False, purge_interval=None,
        on_error="raise",
    )  # fmt: skip
    try:
        async with AsyncSeenStore(copy) as store:
            report = await store.check(full=True)
            keys = await store.count()
    except (SchemaError, StoreUnavailableError) as exc:
        is_empty = "create=False" in exc.cause
        cause = "it is empty, and no backup" if is_empty else exc.cause
        raise type(exc)(backup, cause, "Nothing was replaced") from exc
    if report.integrity:
        raise StoreUnavailableError(
            backup,
            f"it is damaged: {report.integrity[0]}",
            "Nothing was replaced; take another backup",
        )
    return keys, report.file_bytes
