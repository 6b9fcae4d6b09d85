"""The states of a key as conditions on its row, for queries on many rows.

They are those of ``_state_machine``; ``:now`` is the time of the query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..listings import CLEARED

if TYPE_CHECKING:
    from ..._types import RecordState

LIVE = "(expires_at IS NULL OR expires_at > :now)"
"""The row has not expired: its key is in one of the states below."""

STATES: dict[RecordState, str] = {
    "seen": "(lease_until IS NULL OR lease_until <= :now AND on_abandoned = 'drop')",
    "claimed": "(lease_until > :now AND on_abandoned IS NOT NULL)",
    "released": """(lease_until IS NOT NULL AND on_abandoned IS NULL AND attempt > 0
        OR lease_until <= :now AND on_abandoned = 'retry')""",
    "pending": """(lease_until IS NOT NULL AND on_abandoned IS NULL
        AND attempt = 0)""",
    "held": "(lease_until <= :now AND on_abandoned = 'hold')",
}

WITHOUT_STATE = f"""(polls = 0 AND poll_clock = 0
    AND coalesce(nullif(recipe, '{CLEARED}'), first_poll, last_poll, digest, listed,
        largest, recent_sizes, baseline_at, validators, poller_state, last_error,
        observation, summary, totals) IS NULL)"""
"""The namespace has no state of a source: it is as it was made, or cleared."""
