"""What ``pending`` and ``held`` list: the keys that wait to be handled or resolved."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._output import Rows
from .._stores import opened
from .rows import WAITING_COLUMNS, waiting_row, waiting_since

if TYPE_CHECKING:
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
        nothing: What is said if there are none.
    """
    async with opened(settings) as store:
        found = [
            record
            for state in states
            async for record in store.records(namespace=namespace, state=state)
        ]
    now = time.time()
    with Rows(settings, WAITING_COLUMNS) as rows:
        for record in sorted(found, key=lambda one: (waiting_since(one), one.key)):
            rows.add(**waiting_row(record, now))
    if not found:
        settings.say(nothing)
