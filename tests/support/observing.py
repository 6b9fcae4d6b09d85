"""A store in memory that observes listings, and claims, as far as pollers need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TypeVar

from catalyst_seen import StoreUnavailableError, Verdict
from catalyst_seen.feeds import First

T = TypeVar("T")


@dataclass
class Observed:
    """What an observation found."""

    new: list[str]
    baseline: int = 0


@dataclass
class Observing:
    """One namespace."""

    name: str
    first: First | EllipsisType = ...
    validators: str | None = None
    state: str | None = None
    polls: int = 0
    known: dict[str, str | None] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    unchanged: int = 0
    is_failing: bool = False

    async def source(self) -> Observing | None:
        """Return what is known of the source."""
        self._check()
        return self if self.polls or self.errors else None

    async def observe(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str],
        spellings: Callable[[T], Sequence[str]] | None = None,
        aliases: Callable[[T], Sequence[str] | None] | None = None,
        digest: Callable[[T], str | None] | None = None,
        note: Callable[[T], str | None] | None = None,
        validators: str | None = None,
        state: str | None = None,
    ) -> Observed:
        """Record a listing; every unknown item is new."""
        self._check()
        for more in (spellings, aliases, digest):
            assert more is not None
        assert note is not None
        given = {key(item): note(item) for item in items}
        new = [name for name in given if name not in self.known]
        self.known |= given
        self.validators, self.state = validators, state
        self.polls += 1
        return Observed(new)

    async def observed_unchanged(
        self, validators: str, *, state: str | None = None
    ) -> bool:
        """Record a poll of the same listing."""
        self._check()
        if validators != self.validators:
            return False
        self.state = state
        self.polls += 1
        self.unchanged += 1
        return True

    async def failed(self, error: str, *, state: str | None = None) -> None:
        """Record a failed poll."""
        self._check()
        self.errors.append(error)
        self.state = state

    def _check(self) -> None:
        if self.is_failing:
            raise StoreUnavailableError("memory", "it is full", "Free some space.")


@dataclass
class ObservingStore:
    """A store of such namespaces."""

    views: dict[str, Observing] = field(default_factory=dict)

    def namespace(self, name: str, *, first: First | EllipsisType = ...) -> Observing:
        """Return the namespace of that name."""
        view = self.views.setdefault(name, Observing(name))
        view.first = first
        return view


@dataclass
class PendingClaim:
    """A claim on a pending item that notes how it was settled."""

    key: str = "k"
    namespace: str = "n"
    note: str | None = '{"key": "k"}'
    verdict: Verdict = Verdict.NEW
    retry_after: float | None = None
    lease: float = 60.0
    settled: list[tuple[str, float | None, str | None]] = field(default_factory=list)

    def remaining(self) -> float:
        """Return the seconds of the lease that are left."""
        return self.lease

    async def renew(self, lease: float = 60.0) -> None:
        """Restart the lease."""
        self.lease = lease

    async def confirm(self) -> None:
        """Mark the key as seen."""
        self.settled.append(("confirmed", None, None))

    async def release(
        self, delay: float | EllipsisType = ..., *, error: str | None = None
    ) -> bool:
        """Make the key claimable again."""
        wait = None if isinstance(delay, EllipsisType) else delay
        self.settled.append(("released", wait, error))
        return True

    async def hold(self, error: str) -> bool:
        """Keep the key until a person resolves it."""
        self.settled.append(("held", None, error))
        return True
