"""A process that marks keys on a signal, for the work with many processes.

    python -m benchmarks.marker CONTESTANT FOLDER

It reads the keys as a line of JSON, then the start signal; it writes a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .arena import Arena
from .contestants.disk import DirectDiskCache
from .contestants.ours import Ours
from .load import by_tasks
from .servers import Servers
from .timing import noting

if TYPE_CHECKING:
    from .contestants import Marking, Opener

CONTESTANTS: dict[str, Opener[Marking]] = {
    "ours": Ours.opened,
    "diskcache": DirectDiskCache.opened,
}


async def main(contestant: str, folder: Path) -> None:
    """Open, wait, mark, report."""
    keys: list[str] = json.loads(sys.stdin.readline())
    taken: list[float] = []
    new: list[str] = []
    async with CONTESTANTS[contestant](Arena(folder, folder, Servers(folder))) as store:

        async def mark(key: str) -> bool:
            is_new = await store.check_and_mark(key)
            if is_new:
                new.append(key)
            return is_new

        say("ready")
        sys.stdin.readline()
        await by_tasks(noting(mark, taken), keys, 1)
        say(json.dumps({"new": new, "taken": taken}))


def say(line: str) -> None:
    """Write a line without buffering."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
