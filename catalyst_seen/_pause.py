"""A pause of the current task that does not depend on ``asyncio.sleep``.

Tests of programs replace that function: by a mock that returns at once, so that a
periodic task would spin, or by one that raises when its values are used up.
"""

from __future__ import annotations

import asyncio


async def pause(seconds: float) -> None:
    """Let other tasks run for so many seconds; 0 is one iteration of the event loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    timer = loop.call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
