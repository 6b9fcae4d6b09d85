"""What ``pending`` and ``held`` list: the keys that wait to be handled or resolved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._output import Rows, local
from .._stores import opened
from .rows import WAITING_COLUMNS, waiting_row, waiting_since

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore

    from .._settings import Settings
    from .states import State


async def list_waiting(
    settings: Settings, namespace: str | None, states: tuple[State, ...], nothing: str
) -> None:
    """List the keys in some states, the one first that has waited longest.

    Args:
        settings: The options of every command.
        namespace: The namespace; ``None`` is all.
        states: The states.
        nothing: What is said if there are none. Where pending ones are listed, it is
            said how many are claimed: they wait again if their attempt fails.
    """
    async with opened(settings) as store:
        found = [
            record
            for state in states
            async for record in store.records(namespace=namespace, state=state)
        ]
        is_later = not found and "pending" in states
        claimed = await _claimed(store, namespace) if is_later else ""
    now = time.time()
    with Rows(settings, WAITING_COLUMNS) as rows:
        for record in sorted(found, key=lambda one: (waiting_since(one), one.key)):
            rows.add(**waiting_row(record, now))
    if not found:
        settings.say(f"{nothing}{claimed}")


async def _claimed(store: AsyncSeenStore, namespace: str | None) -> str:
    """Return how many keys are claimed, and until when, as the end of a sentence."""
    found = store.records(namespace=namespace, state="claimed")
    ends = [record.until async for record in found if record.until is not None]
    if not ends:
        return ""
    are = "1 key is" if len(ends) == 1 else f"{len(ends):,} keys are"
    return f"; {are} claimed until {local(max(ends))}"
