"""What the demo shows: while it runs, and in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .crew import Crew
    from .site import Delivery, Failure, Site

Cause = Literal["killed", "answer_lost", "too_late"]
"""Why an item came again although the webhook had accepted it: its worker was killed
before the confirm; the answer was lost; or the timeout or the lease was over."""


class Moment(NamedTuple):
    """The figures of a moment.

    Attributes:
        seconds: Since a worker began to work.
        published: Items of the feed so far.
        delivered: Items that the webhook has accepted.
        in_flight: Deliveries that have no answer yet.
        kills: Workers that were killed.
        failures: How often the webhook has failed.
        retries: Claims on items that were claimed before.
        refused: Calls that were told that an item is delivered, or in flight.
        calls: Calls of all workers, where one on many keys counts its keys.
        rate: Calls a second, lately.
    """

    seconds: float
    published: int
    delivered: int
    in_flight: int
    kills: int
    failures: int
    retries: int
    refused: int
    calls: int
    rate: float

    @property
    def pending(self) -> int:
        """Items that nobody delivers now."""
        return max(0, self.published - self.delivered - self.in_flight)


class Rate:
    """How often a second something happens, over the last second."""

    def __init__(self) -> None:
        self._past: list[tuple[float, int]] = []

    def at(self, now: float, count: int) -> float:
        """Return the rate at an instant, after so many times."""
        self._past = [one for one in self._past if one[0] > now - 1.0]
        self._past.append((now, count))
        then, before = self._past[0]
        return max(0, count - before) / (now - then) if now > then else 0.0


def moment(seconds: float, site: Site, crew: Crew, rate: Rate) -> Moment:
    """Return the figures of now."""
    counts = crew.counts
    return Moment(
        seconds=seconds,
        published=len(site.published),
        delivered=len(site.delivered),
        in_flight=counts["in_flight"],
        kills=crew.kills,
        failures=site.failures.total(),
        retries=counts["retries"],
        refused=counts["refused"],
        calls=counts["calls"],
        rate=rate.at(seconds, counts["calls"]),
    )


@dataclass(frozen=True)
class Outcome:
    """What became of everything.

    Attributes:
        last: The figures at the end.
        lost: Items that are marked, and were never delivered.
        pending: Items that are neither delivered nor marked: time was up.
        repeated: Why items were delivered again, and how often.
        failures: How often the webhook has failed.
        problems: What is wrong with the database.
    """

    last: Moment
    lost: int
    pending: int
    repeated: Mapping[Cause, int]
    failures: Mapping[Failure, int]
    problems: Sequence[str]

    @property
    def again(self) -> int:
        """How often an item was delivered that was delivered before."""
        return sum(self.repeated.values())

    def __bool__(self) -> bool:
        return not (self.lost or self.pending or self.problems)


def outcome(
    last: Moment, site: Site, crew: Crew, unseen: Iterable[str], problems: Sequence[str]
) -> Outcome:
    """Compare what was published, what was accepted, and what is marked."""
    missing = set(site.published) - site.delivered
    pending = missing & set(unseen)
    return Outcome(
        last=last,
        lost=len(missing - pending),
        pending=len(pending),
        repeated=_causes(site.deliveries, crew.killed),
        failures=dict(site.failures),
        problems=problems,
    )


def _causes(
    deliveries: Iterable[Delivery], killed: Mapping[int, float]
) -> Mapping[Cause, int]:
    """Return why items came again: each delivery but the last one was not confirmed."""
    found: Counter[Cause] = Counter()
    earlier: dict[str, Delivery] = {}
    for one in deliveries:
        before = earlier.get(one.key)
        if before is not None:
            found[_cause(before, one, killed)] += 1
        earlier[one.key] = one
    return found


def _cause(before: Delivery, again: Delivery, killed: Mapping[int, float]) -> Cause:
    if not before.is_answered:
        return "answer_lost"
    end = killed.get(before.worker)
    return "killed" if end is not None and end <= again.when else "too_late"
