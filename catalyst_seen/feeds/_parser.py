"""Parsing beside an event loop, in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ._parse import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from catalyst_seen.keys import Recipe

    from ._listing import Listing


class Parser:
    """Parses listings in a daemon thread, one at a time.

    ``asyncio.to_thread`` would keep a program from its end until the parser is done. A
    parse that is cancelled goes on in its thread, without effect; the next one waits
    for it, so that the others of the program are never slowed by two of them.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def parse(
        self,
        body: bytes,
        url: str,
        content_type: str = "",
        *,
        recipe: Recipe = "guid",
        formerly: Sequence[Recipe] = (),
    ) -> Listing:
        """Return the listing of an answer; see ``parse``."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Listing] = loop.create_future()

        def settle(listing: Listing | None, error: Exception | None) -> None:
            self._turn.release()
            if done.cancelled():
                return
            if listing is not None:
                done.set_result(listing)
            elif error is not None:
                done.set_exception(error)

        def run() -> None:
            listing, error = None, None
            try:
                listing = job()
            except Exception as exc:  # noqa: BLE001 - it is the caller's
                error = exc
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(settle, listing, error)

        job = partial(parse, body, url, content_type, recipe=recipe, formerly=formerly)
        await self._turn.acquire()
        try:
            threading.Thread(
                target=run, name="catalyst-seen-parser", daemon=True
            ).start()
        except BaseException:
            self._turn.release()
            raise
        return await done
