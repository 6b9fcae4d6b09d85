"""The pages of ``catalyst-seen serve``, in this event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp

from catalyst_seen.cli._serving.listening import listening
from catalyst_seen.cli._serving.pages import application
from catalyst_seen.cli._serving.store import ServedStore
from catalyst_seen.cli._settings import Settings
from catalyst_seen.cli._stores import configuration

OK, UNAVAILABLE = 200, 503


@dataclass
class Said(Settings):
    """Options of a command that keep what is said."""

    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Keep it."""
        self.lines.append(text)


@dataclass
class Pages:
    """The pages, for a client.

    Attributes:
        url: Where they are.
        said: What was said on standard error.
    """

    url: str
    said: list[str]
    session: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        async with self.session.get(f"{self.url}{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def until(self, status: int, path: str = "/readyz") -> str:
        """Ask until the status is this one; return the text. Fail after a minute."""
        async with asyncio.timeout(60):
            while (answer := await self.get(path))[0] != status:
                await asyncio.sleep(0.01)
        return answer[1]


@asynccontextmanager
async def serving(
    target: str, *, within: float = 60.0, longest: float = 300.0
) -> AsyncIterator[Pages]:
    """Serve a store that a command line would name."""
    settings = Said(target)
    config = replace(configuration(target, create=False), purge_interval=None)
    served = ServedStore(settings, config, within)
    async with (
        listening(application(served), "127.0.0.1", 0, longest) as [address],
        served.kept(),
        aiohttp.ClientSession() as session,
    ):
        keeping = asyncio.create_task(served.keep())
        try:
            yield Pages(address.url, settings.lines, session)
        finally:
            keeping.cancel()
