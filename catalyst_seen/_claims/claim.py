"""The claim that a caller holds, its block, and the claim that is not acquired yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self, cast

from .._error_texts import error_text
from .._errors import ClaimNotOwnedError, StoreClosedError
from .._misuse import misused
from .._unawaited import Unawaited, verb
from .._validation import check_note, seconds, ttl_seconds
from .lease import (
    Lease,
    acquire,
    acquire_each,
    acquire_many,
    finish_many,
    release_unsettled,
)
from .renewer import LeaseRenewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import EllipsisType, TracebackType

    from .._engine.dispatcher import Dispatcher
    from .._types import ClaimState
    from .._validation import Duration
    from .._verdict import Verdict
    from ..backends.operations import Acquire, ForEach
    from .retry import Retry


_BLOCKING = "a Claim needs `async with`; the blocking twin is SeenStore.claim"


@misused(enter=_BLOCKING, exit=_BLOCKING)
class Claim:
    """The result of a claim, and the lease on its key; true if the caller owns it.

    ::

        async with store.claim(key) as claim:
            if claim:
                await send(item)

    A block that ends normally confirms the claim, also by ``return``, ``break`` or
    ``continue``; an exception or a cancellation releases it and propagates. By hand it
    is ``await claim.confirm()`` or ``await claim.release()``, inside a block as well:
    then the end of the block changes nothing, but retries a call that failed. A claim
    that is neither confirmed nor released stays until its lease ends, whether the store
    is open or not.

    The block runs as well if the claim is false, so that it can read the verdict. A
    block that read neither the truth nor the verdict of a false claim did the work of
    another caller: its end raises ``ClaimNotOwnedError``, unless the block itself
    raised.

    The token in the store's record is a fence: once another caller owns the key, this
    claim cannot be confirmed any more. The fence protects the record, not the effect: a
    message that its owner sends too late is sent.

    Attributes:
        key: The key.
        namespace: Its namespace.
        attempt: How often the key has been claimed, including this claim if it is
            owned: 1 for the first.
        token: The random fence of this claim.
        retry_after: Seconds until the key may be claimed; only for ``IN_FLIGHT``.
        note: The text that was stored with the key, if the claim is owned; ``None``
            without one.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        acquired: Acquire,
        state: ClaimState,
        *,
        keep_alive: bool,
        retry: Retry | None = None,
    ) -> None:
        """Created by a store; see ``claim``, ``claim_many`` and ``pending``."""
        self.key: str = acquired.key
        self.namespace: str = acquired.namespace
        self.attempt: int = state.attempt
        self.token: str = acquired.token
        self.retry_after: float | None = state.retry_after
        self.note: str | None = state.note
        self._lease = Lease(dispatcher, acquired, state, retry)
        is_renewed = keep_alive and self._lease.is_owned
        self._renewer = LeaseRenewer(self._lease) if is_renewed else None
        self._is_entered = False
        self._was_read = False

    @property
    def verdict(self) -> Verdict:
        """The state of the key; the claim is as true as its verdict."""
        self._was_read = True
        return self._lease.state.verdict

    @property
    def lease_until(self) -> float | None:
        """The end of the lease, in seconds since 1970 by the store's clock.

        For ``IN_FLIGHT`` it is the other owner's lease; ``None`` if there is none.
        """
        return self._lease.until

    def __bool__(self) -> bool:
        self._was_read = True
        return self._lease.is_owned

    def __repr__(self) -> str:
        where = f" namespace={self.namespace!r}" if self.namespace else ""
        if self._lease.is_owned:
            time = f" remaining={self.remaining():.3f}"
        else:
            time = f" retry_after={self.retry_after:.3f}" if self.retry_after else ""
        return (
            f"<{type(self).__name__} {self.key!r}{where} {self._lease.state.verdict}"
            f" attempt={self.attempt}{time}>"
        )

    @property
    def is_last_attempt(self) -> bool:
        """Whether a release holds the key, because of ``max_attempts``.

        True only for a claim of ``pending``, and of the last attempt that is allowed.
        """
        return self._lease.is_last_attempt

    def remaining(self) -> float:
        """Return the seconds of the lease that are left.

        0 if the lease is over, was confirmed or released, or was never owned.
        """
        return self._lease.remaining()

    @verb
    async def confirm(
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
        confirm = self._lease.confirm(
            ttl_seconds(ttl, self._lease.acquired.ttl), check_note(note)
        )
        if connection is not None:
            await self._lease.confirm_in_transaction(connection, confirm)
        else:
            await self._lease.finish(confirm)

    @verb
    async def release(
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
        pause = None if delay is ... else seconds(delay, "delay", least=0)
        text = None if error is None else error_text(error)
        release = self._lease.release(pause, text, may_hold=bool(may_hold))
        return await self._lease.finish(release)

    @verb
    async def hold(self, error: str | BaseException | None = None) -> bool:
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
        text = None if error is None else error_text(error)
        return await self._lease.finish(self._lease.hold(text))

    @verb
    async def renew(self, lease: Duration | EllipsisType = ...) -> None:
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
        if lease is not ...:
            self._lease.length = seconds(lease, "lease")
        await self._lease.renew()

    async def __aenter__(self) -> Self:
        if self._is_entered or (self._lease.is_owned and self._lease.is_finished):
            raise RuntimeError(
                f"{self!r} cannot be entered: it has a block already, or was confirmed"
                " or released"
            )
        self._is_entered = True
        self._lease.enter_block()
        if self._renewer:
            self._renewer.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_entered = False
        self._lease.leave_block()
        if not self._lease.is_owned:
            self._check_block(exc)
            return
        lost = self._renewer.stop(exc) if self._renewer else None
        if lost:
            raise lost from exc
        await self._lease.finish_block(exc)

    def _check_block(self, exc: BaseException | None) -> None:
        """Raise at the end of a block that handled an item without owning its claim."""
        if exc is None and not self._was_read:
            raise self._not_owned(
                "the block ran without the claim, and never asked for it. Work only"
                " `if claim:`, or use `once`, or `required=True`, which raises before"
                " the block"
            )

    def _not_owned(self, problem: str) -> ClaimNotOwnedError:
        verdict = self._lease.state.verdict
        return ClaimNotOwnedError(
            self.key, self.namespace, verdict, self.retry_after, problem
        )


class UnawaitedClaim(Unawaited[Claim]):
    """A claim that is not acquired yet: await it, or enter it with ``async with``."""

    __slots__ = ("_claim",)

    async def __aenter__(self) -> Claim:
        self._claim = await self
        return await self._claim.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._claim.__aexit__(exc_type, exc, traceback)

    def _advice(self) -> str:
        return (
            "the claim is not acquired yet: write `claim = await store.claim(...)` or"
            " `async with store.claim(...) as claim:`"
        )


class UnawaitedClaims(Unawaited[list[Claim]]):
    """Claims that are not acquired yet.

    Awaited, they are a list with a claim per key. Entered with ``async with``, they are
    a list of the owned claims. Each is confirmed or released by a block of its own, or
    by hand; the end of the outer block releases those that are neither.
    """

    __slots__ = ("_claims",)

    async def __aenter__(self) -> list[Claim]:
        self._claims = [claim for claim in await self if claim]
        return list(self._claims)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await release_unsettled([claim._lease for claim in self._claims])

    def _advice(self) -> str:
        return (
            "the claims are not acquired yet: write"
            " `async with store.claim_many(...) as claims:` or"
            " `claims = await store.claim_many(...)`"
        )


async def acquire_claim(
    dispatcher: Dispatcher,
    operation: Acquire,
    wait: float,
    *,
    keep_alive: bool,
    is_required: bool,
) -> Claim:
    """Acquire a claim; while it is in flight, retry for ``wait`` seconds.

    Raises:
        ClaimNotOwnedError: The claim is required, and false.
    """
    state = await acquire(dispatcher, operation, wait)
    claim = Claim(dispatcher.engine, operation, state, keep_alive=keep_alive)
    if is_required and not claim:
        raise claim._not_owned("it is required; the key was not changed")
    return claim


async def acquire_claims(
    dispatcher: Dispatcher,
    each: ForEach[ClaimState],
    note_of: Callable[[str], str | None] | None,
) -> list[Claim]:
    """Acquire claims in one batch, each with its own note if there is a function."""
    operations = cast("list[Acquire]", each.singles())
    if note_of is None:
        states = await acquire_each(dispatcher, each)
    else:
        for operation in operations:
            operation.note = note_of(operation.key)
        states = await acquire_many(dispatcher, operations)
    return [
        Claim(dispatcher.engine, operation, state, keep_alive=False)
        for operation, state in zip(operations, states, strict=True)
    ]


def abandon(claim: Claim) -> bool:
    """Release a claim that nothing has ended, without waiting; was that so?

    The block of a claim ends it itself, in whatever task it runs.
    """
    if claim._is_entered or not claim._lease.needs_renewal:
        return False
    with suppress(StoreClosedError):  # then its lease ends by itself
        claim._lease.abandon()
    return True


async def released(claim: Claim) -> None:
    """Wait until the release of a claim is done, or has failed."""
    if claim._lease.finishing is not None:
        await asyncio.wait({claim._lease.finishing})


async def confirm_all(
    dispatcher: Dispatcher, claims: Iterable[Claim], ttl: Duration | EllipsisType | None
) -> list[bool]:
    """Confirm claims in one batch; true for each that is confirmed."""
    checked = _checked(dispatcher, claims)
    confirms = [
        claim._lease.confirm(ttl_seconds(ttl, claim._lease.acquired.ttl))
        for claim in checked
    ]
    return await finish_many(dispatcher, [claim._lease for claim in checked], confirms)


async def release_all(
    dispatcher: Dispatcher, claims: Iterable[Claim], delay: Duration
) -> list[bool]:
    """Release claims in one batch; true for each that was owned."""
    checked, pause = _checked(dispatcher, claims), seconds(delay, "delay", least=0)
    releases = [claim._lease.release(pause) for claim in checked]
    return await finish_many(dispatcher, [claim._lease for claim in checked], releases)


def _checked(dispatcher: Dispatcher, claims: Iterable[Claim]) -> list[Claim]:
    """List the claims; refuse one that this store did not make."""
    if isinstance(claims, Claim):
        raise TypeError(f"claims must be an iterable of claims, not {claims!r}")
    checked = list(claims)
    for index, claim in enumerate(checked):
        if not isinstance(claim, Claim):
            raise TypeError(
                f"claims[{index}] must be a Claim, not {type(claim).__name__}"
            )
        if claim._lease.dispatcher is not dispatcher:
            raise ValueError(
                f"claims[{index}], {claim!r}, must be a claim that this store made"
            )
    return checked
