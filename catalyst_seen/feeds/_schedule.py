"""When a source is polled next: functions of numbers, without a clock."""

from __future__ import annotations

from ._tuning import DAY

_SPREAD = 0.1
"""The part of an interval that is left to chance, so that sources which were polled
together do not come together for ever."""

_MOST_DOUBLINGS = 30


def after_success(
    now: float,
    every: float,
    *,
    max_age: float | None,
    ttl: float | None,
    chance: float,
    longest: float = DAY,
) -> float:
    """Return when a source that could be read is polled next.

    Args:
        now: The end of this poll.
        every: The interval of the user; no wish of a server shortens it.
        max_age: How long the answer stays fresh; it comes before ``ttl``.
        ttl: How long the listing is good by its own word.
        chance: A random number from 0 up to 1.
        longest: The longest wish of a server that is granted.
    """
    wish = max_age if max_age is not None else ttl
    interval = max(every, min(wish or 0.0, longest))
    return now + interval * (1 + _SPREAD * chance)


def after_failure(
    now: float,
    every: float,
    failures: int,
    *,
    not_before: float | None,
    chance: float,
    longest: float = DAY,
) -> float:
    """Return when a source that could not be read is polled next; it always is.

    The interval doubles with each failure in a row, up to ``longest``.

    Args:
        now: The end of this poll.
        every: The interval of the user.
        failures: Number of failed polls in a row, including this one.
        not_before: The server wants no request before.
        chance: A random number from 0 up to 1.
        longest: The longest interval, unless ``every`` is longer.
    """
    doubled = every * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)
    interval = max(min(doubled, longest), every)
    due = now + interval * (1 - _SPREAD * chance)
    return (
        due if not_before is None else max(due, after_hold(not_before, every, chance))
    )


def after_hold(until: float, every: float, chance: float) -> float:
    """Return when a source is polled whose server wants no request until then.

    The sources of a server do not come all together when its pause ends.
    """
    return until + _SPREAD * chance * every
