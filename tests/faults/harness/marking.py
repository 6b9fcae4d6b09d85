"""Marking keys in this process, and what a process leaves that ends in mid-air."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from catalyst_seen import (
    AsyncSeenStore,
    OutcomeUnknownError,
    SeenStoreConfig,
    StoreUnavailableError,
)

from .checker import History, Outcome

_CRASH = """
import os, sys
from catalyst_seen import SeenStore
path, checkpointed, logged = sys.argv[1], *map(int, sys.argv[2:])
with SeenStore(path) as store:
    store.mark_many(f"old {number}" for number in range(checkpointed))
store = SeenStore(path)
for number in range(logged):
    store.mark_seen(f"new {number}")
os._exit(0)
"""


async def mark(store: AsyncSeenStore, history: History, key: str) -> str:
    """Mark a key, note what came of it, and return what was wrong."""
    outcome: Outcome
    started, error = time.monotonic(), ""
    try:
        outcome = "new" if await store.check_and_mark(key) else "dup"
    except OutcomeUnknownError as exc:
        outcome, error = "unknown", str(exc)
    except StoreUnavailableError as exc:
        outcome, error = "fail", str(exc)
    history.tell(key, outcome, time.monotonic() - started)
    return error


def settings(path: Path, **changes: Any) -> SeenStoreConfig:
    """No background purge, no answers from memory, and no error is swallowed."""
    config = SeenStoreConfig(
        path, purge_interval=None, recent_staleness=0, on_error="raise"
    )
    return replace(config, **changes)


def crashed(path: Path, checkpointed: int, logged: int) -> set[str]:
    """Have a process mark keys and end without a word; return the keys.

    So many are in the file, and so many in its write-ahead log only.
    """
    words = [sys.executable, "-c", _CRASH, str(path), str(checkpointed), str(logged)]
    subprocess.run(words, check=True, timeout=120)
    old = {f"old {number}" for number in range(checkpointed)}
    return old | {f"new {number}" for number in range(logged)}
