"""A process that marks keys for a while: most expire soon, one in fifty never.

It says what ``child`` says of those that never do, and how it has grown each second.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import time
from pathlib import Path

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

_PAGE = os.sysconf("SC_PAGE_SIZE")
_AT_ONCE = 50
_child = runpy.run_path(str(Path(__file__).with_name("child.py")))
mark, say = _child["mark"], _child["say"]


async def main(settings: str, name: str, duration: float) -> None:
    """Mark for so many seconds, then close."""
    async with AsyncSeenStore(SeenStoreConfig(**json.loads(settings))) as store:
        say("open")
        until, number, next_look = time.monotonic() + duration, 0, 0.0
        while time.monotonic() < until:
            soon = (f"{name}-{number}-{one}" for one in range(_AT_ONCE - 1))
            await asyncio.gather(
                mark(store, f"kept-{name}-{number}"),
                *(store.check_and_mark(key, ttl=1.5) for key in soon),
            )
            number += 1
            if time.monotonic() > next_look:
                next_look = time.monotonic() + 1
                say("#", resident(), descriptors())
            await asyncio.sleep(0.01)


def resident() -> int:
    """Measure the memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def descriptors() -> int:
    """Count what this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
