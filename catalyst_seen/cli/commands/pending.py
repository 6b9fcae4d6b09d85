"""``pending``: the keys that wait to be handled."""

from __future__ import annotations

from .._commands import command as declare
from .._records.waiting import list_waiting
from .._settings import Settings, pass_settings
from .._values import NAMESPACE


@declare(
    "pending",
    examples=[
        ("catalyst-seen pending", "what waits to be handled, the oldest first"),
        ("catalyst-seen pending -n news --json", "the same of one feed, as JSON Lines"),
    ],
)
@NAMESPACE
@pass_settings
async def command(settings: Settings, namespace: str | None) -> None:
    """List the keys that wait to be handled, the oldest first.

    Those are the pending ones, and the released ones: an attempt failed, or its lease
    has ended. The exit code is 0, also if there are none.
    """
    await list_waiting(
        settings, namespace, ("pending", "released"), "nothing is pending"
    )
