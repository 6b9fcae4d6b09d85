"""What a poller needs of a store; ``AsyncSeenStore`` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from types import EllipsisType

    from .._verdict import Verdict
    from ._source import First

T = TypeVar("T")


class Source(Protocol):
    """What the store knows of a source."""

    @property
    def validators(self) -> str | None:
        """The text that came with the last listing."""

    @property
    def state(self) -> str | None:
        """The text that came with the last poll or failure."""


class Seen(Protocol):
    """What an observation found."""

    @property
    def baseline(self) -> int:
        """How many items a first listing marked without handling."""


class View(Protocol):
    """A namespace of a store, bound to a source."""

    def source(self) -> Awaitable[Source | None]:
        """Return what is known of the source; ``None`` if it was never observed."""

    def observe(
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
    ) -> Awaitable[Seen]:
        """Record a listing."""

    def observed_unchanged(
        self, validators: str, *, state: str | None = None
    ) -> Awaitable[bool]:
        """Record a poll of the same listing; false if the stored validators differ."""

    def failed(self, error: str, *, state: str | None = None) -> Awaitable[None]:
        """Record a failed poll."""


class Claim(Protocol):
    """A claim on a pending item."""

    @property
    def key(self) -> str:
        """The key of the item."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def verdict(self) -> Verdict:
        """The state of the key before the claim; true if the claim is owned."""

    @property
    def retry_after(self) -> float | None:
        """Seconds until a key that is not owned may be claimed."""

    @property
    def note(self) -> str | None:
        """The text that was stored with the key."""

    def remaining(self) -> float:
        """Return the seconds of the lease that are left."""

    def renew(self, lease: float = ...) -> Awaitable[None]:
        """Restart the lease."""

    def confirm(self) -> Awaitable[None]:
        """Mark the key as seen."""

    def release(
        self, delay: float | EllipsisType = ..., *, error: str | None = None
    ) -> Awaitable[bool]:
        """Make the key claimable again."""

    def hold(self, error: str) -> Awaitable[bool]:
        """Keep the key until a person resolves it."""


class Store(Protocol):
    """A store whose namespaces observe listings."""

    def namespace(self, name: str, *, first: First | EllipsisType = ...) -> View:
        """Return the store bound to a namespace."""
