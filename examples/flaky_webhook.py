"""A webhook to try things with: it prints what it gets, and fails now and then.

pip install ".[feeds]"
python examples/flaky_webhook.py              # until it is interrupted
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def answer(request: web.Request) -> web.Response:
    """Print the title of an entry, or fail."""
    if random.randrange(5) == 0:
        return web.Response(status=503)
    print((await request.json())["title"], flush=True)
    return web.Response(status=204)


@asynccontextmanager
async def flaky_webhook() -> AsyncIterator[str]:
    """Serve on a free port of this machine; give its address."""
    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}/".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def main() -> None:
    """Serve for ever, on a terminal; else for a moment."""
    async with flaky_webhook() as address:
        print(address, flush=True)
        await asyncio.sleep(86_400 if sys.stdin.isatty() else 0)


if __name__ == "__main__":
    asyncio.run(main())
