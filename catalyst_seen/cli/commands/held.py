"""``held``: the keys that a person has to decide about."""

from __future__ import annotations

from .._commands import command as declare
from .._records.waiting import list_waiting
from .._settings import Settings, pass_settings
from .._values import NAMESPACE


@declare(
    "held",
    examples=[
        ("catalyst-seen held", "what waits for a decision, the oldest first"),
        ("catalyst-seen held -n news --json", "the same of one feed, as JSON Lines"),
    ],
)
@NAMESPACE
@pass_settings
async def command(settings: Settings, namespace: str | None) -> None:
    """List the keys that are held, the oldest first.

    A key is held if the lease of a claim with the policy "hold" has ended, or its last
    allowed attempt failed; resolve decides about it. The exit code is 0, also if there
    are none.
    """
    await list_waiting(settings, namespace, ("held",), "nothing is held")
