"""Parsing beside an event loop, in a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ._errors import FeedError
from ._parse import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from catalyst_seen.keys import Recipe

    from ._listing import Listing


class Parser:
    """Parses listings in a daemon thread, one at a time.

    ``asyncio.to_thread`` would keep a program from its end until the parser is done. A
    parse that is cancelled goes on in its thread, without effect; the next one waits
    for it, so that the others of the program are never slowed by two of them.

    Args:
        timeout: Seconds after which a parse is given up, so that a hostile document
            does not keep the others waiting. A large one takes a minute.
    """

    def __init__(self, *, timeout: float = 300.0) -> None:
        self._turn = asyncio.Lock()
        self._timeout = timeout

    async def parse(
        self,
        body: bytes,
        url: str,
        content_type: str = "",
        *,
        recipe: Recipe = "guid",
        formerly: Sequence[Recipe] = (),
    ) -> Listing:
        """Return the listing of an answer; see ``parse``.

        Raises:
            FeedError: There is no usable listing, or parsing took too long.
        """
        job = partial(parse, body, url, content_type, recipe=recipe, formerly=formerly)
        await self._turn.acquire()
        # A caller that is cancelled does not end the thread, which keeps the turn.
        return await asyncio.shield(self._started(job))

    def _started(self, job: Callable[[], Listing]) -> asyncio.Future[Listing]:
        """Start a thread; its outcome, or the timeout, ends the turn."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Listing] = loop.create_future()
        too_long = FeedError(
            "too large", f"parsing takes over {self._timeout:g} seconds"
        )
        timer = loop.call_later(
            self._timeout, _settle, outcome, partial(outcome.set_exception, too_long)
        )

        def run() -> None:
            try:
                settle = partial(outcome.set_result, job())
            except Exception as exc:  # noqa: BLE001 - it is the caller's
                settle = partial(outcome.set_exception, exc)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(_settle, outcome, settle)

        def end(outcome: asyncio.Future[Listing]) -> None:
            timer.cancel()
            self._turn.release()
            outcome.exception()  # a caller that was cancelled does not retrieve it

        outcome.add_done_callback(end)
        thread = threading.Thread(target=run, name="catalyst-seen-parser", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # no thread can be started
            outcome.set_exception(exc)
        return outcome


def _settle(outcome: asyncio.Future[Listing], settle: Callable[[], None]) -> None:
    if not outcome.done():
        settle()
