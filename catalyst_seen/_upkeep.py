"""What a database needs done from time to time, between the calls of a store."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ._errors import StoreClosedError, StoreUnavailableError
from ._log import log

if TYPE_CHECKING:
    from ._session import Session

INTERVAL = 1.0
"""Seconds between two looks: so soon a file that is gone is noticed."""


async def look_after(session: Session, due: asyncio.Event) -> None:
    """Call the backend's ``look_after`` every second, and whenever it is due.

    What is wrong with the database the next caller is told, and the backend logs what
    is news; the next look comes all the same.
    """
    is_failing = False
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL):
                await due.wait()
        due.clear()
        try:
            await session.call(session.backend.look_after)
        except StoreClosedError:
            return
        except StoreUnavailableError:
            continue
        except Exception as exc:  # noqa: BLE001 - whatever it was, the next look comes
            if not is_failing:
                location = session.backend.location
                log("error", "upkeep_failed", location=location, error=repr(exc))
            is_failing = True
        else:
            is_failing = False
