"""The verdict on a key."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """The state of a key. ``NEW`` and ``RETRY`` are true, the others false.

    Only ``DUPLICATE`` means that the item is handled. A store that fails returns no
    verdict: it raises an exception.

    Attributes:
        NEW: The key was never seen, or its mark has expired.
        RETRY: An earlier claim on the key was released, or its lease has ended.
        IN_FLIGHT: The key is not available now: another owner has it under a live
            lease, or released it with a delay that is not over.
        DUPLICATE: The key is seen.
        HELD: The lease of a claim with ``on_abandoned="hold"`` ended without a confirm
            or a release: a person must decide whether the item was handled.
    """

    NEW = "new"
    RETRY = "retry"
    IN_FLIGHT = "in_flight"
    DUPLICATE = "duplicate"
    HELD = "held"

    def __bool__(self) -> bool:
        return self._value_ in _TRUE  # the members' names take much longer


_TRUE = {"new", "retry"}
