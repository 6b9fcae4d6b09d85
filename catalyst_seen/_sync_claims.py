"""The claims of ``SeenStore``: blocking twins of claims, and iterations over them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Protocol, Self, TypeVar, cast

from ._claims.lease import release_unsettled
from ._errors import ConfigurationError, StoreClosedError
from ._misuse import misused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import EllipsisType, TracebackType

    from ._claims.claim import Claim
    from ._claims.pending import PendingClaims
    from ._portal import LoopThread
    from ._validation import Duration
    from ._verdict import Verdict

ASYNCHRONOUS = (
    "{} blocks, and is used by `with`; in asyncio code use"
    " `async with AsyncSeenStore(...) as store`"
)


P = ParamSpec("P")
T = TypeVar("T")


class Caller(Protocol):
    """The store of a claim: it runs asynchronous calls in its thread."""

    _thread: LoopThread

    def _call(
        self, verb: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    def _call_for_claims(
        self, acquire: Callable[[], Awaitable[list[Claim]]]
    ) -> list[Claim]: ...


@misused(
    aenter=ASYNCHRONOUS.format("a claim of a SeenStore"),
    aexit=ASYNCHRONOUS.format("a claim of a SeenStore"),
)
class BlockingClaim:
    """The blocking twin of ``Claim``, with the same attributes and verbs.

    ::

        with store.claim(key) as claim:
            if claim:
                send(item)
    """

    def __init__(self, store: Caller, claim: Claim) -> None:
        """Stores make claims; see ``claim`` and ``claim_many``."""
        self._store = store
        self._claim = claim

    def __bool__(self) -> bool:
        return bool(self._claim)

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._claim)[1:]}"

    @property
    def key(self) -> str:
        """The key."""
        return self._claim.key

    @property
    def namespace(self) -> str:
        """The key's namespace."""
        return self._claim.namespace

    @property
    def verdict(self) -> Verdict:
        """The verdict of the store; the truth of the claim is that of its verdict."""
        return self._claim.verdict

    @property
    def attempt(self) -> int:
        """Number of claims on the key so far, including this one if it is owned."""
        return self._claim.attempt

    @property
    def is_last_attempt(self) -> bool:
        """Whether a release holds the key, because of ``max_attempts``.

        True only for a claim of ``pending``, and of the last attempt that is allowed.
        """
        return self._claim.is_last_attempt

    @property
    def token(self) -> str:
        """The random token of this claim, which is its fence."""
        return self._claim.token

    @property
    def lease_until(self) -> float | None:
        """The end of the owner's lease, in seconds since 1970."""
        return self._claim.lease_until

    @property
    def retry_after(self) -> float | None:
        """Seconds until the key may be claimed; only for ``IN_FLIGHT``."""
        return self._claim.retry_after

    @property
    def note(self) -> str | None:
        """The text that was stored with the key, if the claim is owned."""
        return self._claim.note

    def remaining(self) -> float:
        """Return the seconds of the lease that are left.

        0 if the lease is over, was confirmed or released, or was never owned.
        """
        return self._claim.remaining()

    def confirm(
        self,
        ttl: Duration | EllipsisType | None = ...,
        *,
        note: str | None = None,
        connection: object = None,
    ) -> None:
        """Mark the key as seen: its item is handled. The TTL starts now.

        Confirming again has no effect. For one TTL a confirm also succeeds after the
        lease has ended, unless another caller has claimed the key. After a release it
        does not: a release ends the right of the claim.
        A confirm completes although its caller is cancelled.

        Args:
            ttl: TTL of this mark, as in the constructor of the store; ``None`` is for
                ever. The default is the TTL of the claim.
            note: As in ``AsyncSeenStore.mark_seen``.
            connection: Your own ``asyncpg.Connection`` to the store's database, inside
                a transaction: the mark commits together with your other changes, or not
                at all. The end of the claim's block then changes nothing, except that
                an exception releases; after a rollback without an exception, the claim
                stays until its lease ends.

        Raises:
            ConfigurationError: ``connection`` is given and the store is not on
                PostgreSQL, or it is not in a transaction.
            LeaseLostError: The claim is not owned any more; nothing was changed.
            StoreUnavailableError: The store failed; the claim is not confirmed.
            OutcomeUnknownError: The commit failed; confirm again to learn the outcome.
        """
        if connection is not None:
            raise ConfigurationError(
                "connection",
                "belongs to an event loop: take AsyncSeenStore to confirm in a"
                " transaction of yours",
            )
        self._store._call(self._claim.confirm, ttl, note=note)

    def release(
        self,
        delay: Duration | EllipsisType = ...,
        *,
        error: str | BaseException | None = None,
        may_hold: bool = True,
    ) -> bool:
        """Make the key claimable again: its item is not handled.

        The claim can be neither confirmed nor renewed any more. A release completes
        although its caller is cancelled. If it is the last attempt that the rules of
        the namespace allow on a pending key, the key is held.

        Args:
            delay: Seconds, or a ``timedelta``, until the key can be claimed again. The
                default is 0, or for a claim of ``pending`` the pause that grows with
                each attempt.
            error: Why, for ``Record.error``: the first 500 characters are kept, without
                the rest of a URL after its scheme.
            may_hold: False for what says nothing about the item, such as a receiver
                that asked for a pause: then the key is not held, whichever attempt it
                was.

        Returns:
            True if the claim was released; False if it was not owned any more, and
            nothing was changed.

        Raises:
            StoreUnavailableError: The store failed; the lease continues.
            OutcomeUnknownError: The commit failed.
        """
        return self._store._call(
            self._claim.release, delay, error=error, may_hold=may_hold
        )

    def hold(self, error: str | BaseException | None = None) -> bool:
        """Hold the key until ``resolve`` decides: handling it again would not help.

        A hold completes although its caller is cancelled.

        Args:
            error: As in ``release``.

        Returns:
            True if the key is held; False if the claim was not owned any more, and
            nothing was changed.

        Raises:
            StoreUnavailableError: The store failed; the lease continues.
            OutcomeUnknownError: The commit failed.
        """
        return self._store._call(self._claim.hold, error)

    def renew(self, lease: Duration | EllipsisType = ...) -> None:
        """Restart the lease, also after its end, if no other caller has the key.

        After a release it does not: a release ends the right of the claim.

        Args:
            lease: Seconds from now, or a ``timedelta``; also the length of the renewals
                by ``keep_alive``. The default is the current length.

        Raises:
            LeaseLostError: The claim is not owned any more; nothing was changed.
            StoreUnavailableError: The store failed; the old lease continues.
            OutcomeUnknownError: The commit failed.
        """
        self._store._call(self._claim.renew, lease)

    def __enter__(self) -> Self:
        if self._claim._renewer:
            try:
                self._store._call(self._claim.__aenter__)
            except KeyboardInterrupt as exc:  # no block will follow
                self.__exit__(type(exc), exc, exc.__traceback__)
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._claim._lease.is_owned:
            self._claim._check_block(exc)
            return
        try:
            self._store._call(self._claim.__aexit__, exc_type, exc, traceback)
        except StoreClosedError:
            if exc is None:
                raise  # else the lease expires, and the block's exception propagates


class BlockingClaims(list[BlockingClaim]):
    """A claim per key, as ``claim_many`` returns them; as a block, the owned claims."""

    def __enter__(self) -> list[BlockingClaim]:
        self._owned = [claim for claim in self if claim]
        return list(self._owned)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._owned:
            return
        leases = [claim._claim._lease for claim in self._owned]
        with suppress(StoreClosedError):  # then the leases end by themselves
            self._owned[0]._store._call(partial(release_unsettled, leases))


class BlockingPendingClaims:
    """The blocking twin of ``PendingClaims``: an iterator over claims.

    ``AsyncSeenStore.pending`` states what it promises.
    """

    def __init__(self, store: Caller, claims: PendingClaims) -> None:
        """Created by a store; nothing is read yet."""
        self._store = store
        self._claims = claims

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BlockingClaim:
        async def step() -> list[Claim]:
            with suppress(StopAsyncIteration):
                return [await anext(self._claims)]
            return []

        for claim in self._store._call_for_claims(step):
            return BlockingClaim(self._store, claim)
        raise StopIteration

    def __del__(self) -> None:
        # The claims belong to the thread of the store.
        self._store._thread.post(self._claims.leave)


def unwrapped(claims: Iterable[BlockingClaim]) -> list[Claim]:
    """Unwrap blocking claims. The asynchronous store rejects anything else."""
    if isinstance(claims, BlockingClaim):
        raise TypeError(f"claims must be an iterable of claims, not {claims!r}")
    return [getattr(claim, "_claim", cast("Claim", claim)) for claim in claims]
