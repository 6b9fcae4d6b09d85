"""The lease behind a claim: acquired, renewed, and finished by a confirm or a release.

What a cancelled caller changes is stated in ``_engine.detached``.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from time import monotonic as time
from typing import TYPE_CHECKING, Any

from .._error_texts import error_text
from .._errors import (
    ConfigurationError,
    LeaseLostError,
    OutcomeUnknownError,
    StoreClosedError,
)
from ..backends.base import SupportsTransactions
from ..backends.operations import Confirm, ForEach, Hold, Release, Renew

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from .._engine.dispatcher import Dispatcher
    from .._types import ClaimState
    from ..backends.operations import Acquire, Operation
    from .retry import Retry

    Finish = Confirm | Release | Hold

_MIN_PAUSE = 0.02
"""Seconds to wait for a lease that should have ended, by a clock that stands still."""


async def acquire(
    dispatcher: Dispatcher,
    operation: Acquire,
    wait: float,
    *,
    is_counted: bool = True,
) -> ClaimState:
    """Acquire a claim; while it is in flight, retry until ``wait`` seconds are over.

    Args:
        dispatcher: Sends the operation.
        operation: The claim to acquire.
        wait: Seconds; 0 tries once.
        is_counted: Whether a claim whose caller is cancelled counts as an attempt.
    """
    if not wait:
        (state,) = await acquire_many(dispatcher, [operation], is_counted=is_counted)
        return state
    waiters, id_ = dispatcher.waiters, (operation.namespace, operation.key)
    time = asyncio.get_running_loop().time
    deadline, backoff = time() + wait, dispatcher.tuning.first_poll
    has_polled = False
    with waiters.subscribe(id_) as waiter:
        while True:
            waiter.ended.clear()
            try:
                (state,) = await acquire_many(dispatcher, [operation])
            except BaseException:
                waiter.ended.set()  # another waiter may succeed
                raise
            left = deadline - time()
            if state.retry_after is None and not state.verdict and has_polled:
                waiters.wake_all(id_)  # nobody else polls, and all get this verdict
            if state.retry_after is None or left <= 0:
                return state
            _refuse_to_wait_for_itself(dispatcher, operation)
            pause = left
            if waiter.is_first:
                jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
                pause = min(left, backoff * jitter, max(state.retry_after, _MIN_PAUSE))
                backoff = min(backoff * 2, dispatcher.tuning.last_poll)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await waiter.ended.wait()
            if waiters.is_closing:
                return state
            has_polled = not waiter.ended.is_set()


def _refuse_to_wait_for_itself(dispatcher: Dispatcher, operation: Acquire) -> None:
    """Raise if the key belongs to a block that the current task is inside of."""
    block = dispatcher.blocks.get((operation.namespace, operation.key))
    if block is None:
        return
    task, remaining = block
    if task is asyncio.current_task() and remaining() > 0:
        raise RuntimeError(
            f"claim({operation.key!r}, wait=...) would wait for itself: this task is"
            " inside the block of a claim on that key. Use that claim, or leave its"
            " block first"
        )


async def acquire_many(
    dispatcher: Dispatcher, operations: Sequence[Acquire], *, is_counted: bool = True
) -> list[ClaimState]:
    """Acquire claims in one batch; release them if the caller cannot get the result."""
    states = dispatcher.query_many(operations)
    return await _released_unless_returned(
        dispatcher, operations, states, is_counted=is_counted
    )


async def acquire_each(
    dispatcher: Dispatcher, each: ForEach[ClaimState]
) -> list[ClaimState]:
    """Do so for claims that differ in key and token only."""
    known = await dispatcher.query_each(each)
    if known is not None:
        return known
    states = dispatcher.execute_each(each)
    return await _released_unless_returned(dispatcher, [each], states)


async def _released_unless_returned(
    dispatcher: Dispatcher,
    claims: Sequence[Operation[Any]],
    states: Awaitable[list[ClaimState]],
    *,
    is_counted: bool = True,
) -> list[ClaimState]:
    releases = partial(_releases, claims, is_counted=is_counted)
    started = time()
    try:
        return await states
    except asyncio.CancelledError:
        with suppress(StoreClosedError):
            dispatcher.detached.submit_with_retry(releases())
        raise
    except OutcomeUnknownError:
        with suppress(StoreClosedError):
            releasing = dispatcher.detached.submit_with_retry(releases())
            timeout = dispatcher.lifecycle.backend.config.timeout_seconds
            rest = max(started + timeout - time(), 0.0)
            await asyncio.wait({releasing}, timeout=rest)
        raise


def _releases(
    claims: Sequence[Operation[Any]], *, is_counted: bool
) -> list[Operation[Any]]:
    return [
        ForEach.of(_release(one.operation), one.keys, one.tokens)
        if isinstance(one, ForEach)
        else _release(one, is_counted=is_counted)
        for one in claims
    ]


def _release(claim: Any, *, is_counted: bool = True) -> Release:  # noqa: ANN401 - an Acquire
    return Release(
        claim.namespace,
        claim.key,
        claim.token,
        0.0,
        claim.ttl,
        is_counted=is_counted,
    )


class Lease:
    """Renews and finishes an owned claim, and records what was requested and done.

    Attributes:
        dispatcher: The store that made the claim.
        acquired: The operation that acquired it.
        state: The backend's result of that operation.
        is_owned: Whether the claim was granted.
        until: The end of the lease; a lower bound if the outcome of a renewal is
            unknown.
        length: Length of the next renewal, in seconds.
        requested: The confirm or release that was requested, if any.
        changed: Set for the renewer when the lease was renewed or finished, or when
            that failed.
        retry: What a failed attempt on a pending key leads to; ``None`` for any other
            key.
        in_user_transaction: Whether it was confirmed in a transaction of the caller's,
            which then alone decides: the lease is not renewed any more.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        acquired: Acquire,
        state: ClaimState,
        retry: Retry | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.acquired = acquired
        self.state = state
        self.is_owned = bool(state.verdict)
        self.until = state.lease_until
        self.length = acquired.lease
        self.requested: Finish | None = None
        self.changed: asyncio.Event | None = None
        self.retry = retry
        self.in_user_transaction = False
        self._finishing: asyncio.Future[list[bool]] | None = None

    @property
    def finishing(self) -> asyncio.Future[list[bool]] | None:
        """The confirm or release that was sent last, if any."""
        return self._finishing

    @property
    def is_finished(self) -> bool:
        """Is it confirmed or released, or about to be?"""
        finishing = self._finishing
        if finishing is None or not finishing.done():
            return finishing is not None
        return not finishing.cancelled() and finishing.exception() is None

    @property
    def needs_renewal(self) -> bool:
        """Does its block depend on renewals, because nothing has ended it yet?"""
        return not self.is_finished and not self.in_user_transaction

    def remaining(self) -> float:
        """Return the seconds left; 0 if it is over, finished or was never owned."""
        if self.until is None or not self.is_owned or self.is_finished:
            return 0.0
        return max(0.0, self.until - self.dispatcher.lifecycle.backend.now())

    def confirm(self, ttl: float | None, note: str | None = None) -> Confirm:
        """Create the operation that confirms it."""
        acquired = self.acquired
        return Confirm(acquired.namespace, acquired.key, acquired.token, ttl, note)

    @property
    def is_last_attempt(self) -> bool:
        """Whether the key is held if this attempt fails."""
        return self.retry is not None and self.retry.is_last(self.state.attempt)

    def release(
        self,
        delay: float | None = None,
        error: str | None = None,
        *,
        may_hold: bool = True,
    ) -> Release | Hold:
        """Create the operation that releases it after a failed attempt.

        The default of ``delay`` is the pause of its ``retry``, or 0; the last attempt
        that is allowed is held, if it may be.
        """
        acquired, attempt = self.acquired, self.state.attempt
        if may_hold and self.is_last_attempt:
            return self.hold(error or f"attempt {attempt} has failed, the last one")
        if delay is None:
            delay = 0.0 if self.retry is None else self.retry.pause(attempt)
        return Release(
            acquired.namespace, acquired.key, acquired.token, delay, acquired.ttl, error
        )

    def hold(self, error: str | None) -> Hold:
        """Create the operation that holds its key."""
        acquired = self.acquired
        return Hold(acquired.namespace, acquired.key, acquired.token, error)

    def give_back(self, exc: BaseException | None) -> Release | Hold:
        """Create the operation for a block that an exception has ended.

        A cancellation, and a block that never began, are no attempts on a pending key.
        """
        if isinstance(exc, Exception):
            return self.release(error=error_text(exc))
        if self.retry is None:
            return self.release()
        return _release(self.acquired, is_counted=False)

    def abandon(self) -> None:
        """Submit the release of a claim that nobody uses."""
        operation = self.give_back(None)
        releasing = self.dispatcher.detached.submit_with_retry([operation])
        self.start_finish(operation, releasing)

    async def renew(self) -> None:
        """Renew it; a successful renewal supersedes an earlier confirm or release."""
        acquired, finishing = self.acquired, self._finishing
        # If cancelled we do not know the new deadline, so keep the earlier one.
        until = self.dispatcher.lifecycle.backend.now() + self.length
        self.until = min(self.until or until, until)
        renew = Renew(
            acquired.namespace,
            acquired.key,
            acquired.token,
            self.length,
            acquired.ttl,
            acquired.on_abandoned,
        )
        try:
            renewed_until = await self.dispatcher.execute(renew)
        finally:
            self._notify()
        if renewed_until is None:
            raise self.lost()
        self.until = renewed_until
        if self._finishing is finishing:  # nothing was requested meanwhile
            self.requested = self._finishing = None

    async def finish(self, operation: Finish) -> bool:
        """Confirm, release or hold it; true if it was still owned.

        Raises:
            LeaseLostError: A confirm found that it is not owned any more.
        """
        (is_done,) = await finish_many(self.dispatcher, [self], [operation])
        if not is_done and isinstance(operation, Confirm):
            raise self.lost()
        return is_done

    def start_finish(
        self, operation: Finish, results: asyncio.Future[list[bool]]
    ) -> None:
        """Record that a detached call is about to confirm or release it."""
        self.requested, self._finishing = operation, results
        if self.changed:
            results.add_done_callback(self._notify)

    async def confirm_in_transaction(
        self, transaction: object, confirm: Confirm
    ) -> None:
        """Confirm it inside the caller's transaction; it is confirmed iff that commits.

        Raises:
            ConfigurationError: The database has no such transactions.
            LeaseLostError: It is not owned any more.
        """
        lifecycle = self.dispatcher.lifecycle
        lifecycle.check_open()
        backend = lifecycle.backend
        if not isinstance(backend, SupportsTransactions):
            raise ConfigurationError(
                "connection",
                f"the database at {backend.location} has no transactions that a caller"
                " could share; only a store on PostgreSQL can confirm in a transaction"
                " of yours",
            )
        # Before the first await: a renewal would wait for the row until the end of the
        # transaction, and then find a confirmed row.
        self.in_user_transaction = True
        try:
            is_confirmed = await backend.confirm_in_transaction(transaction, confirm)
        except BaseException:
            self.in_user_transaction = False
            raise
        finally:
            self._notify()
        self.dispatcher.counters.count_outside(confirm, is_confirmed)
        if not is_confirmed:
            self.in_user_transaction = False
            raise self.lost()

    def enter_block(self) -> None:
        """Record that the current task runs its block."""
        if self.is_owned:
            id_ = self.acquired.namespace, self.acquired.key
            self.dispatcher.blocks[id_] = asyncio.current_task(), self.remaining

    def leave_block(self) -> None:
        """Record that its block ends, unless the key has a later one."""
        id_ = self.acquired.namespace, self.acquired.key
        _, remaining = self.dispatcher.blocks.get(id_, (None, None))
        if remaining == self.remaining:
            del self.dispatcher.blocks[id_]

    async def finish_block(self, exc: BaseException | None) -> None:
        """Finish it at the end of its block.

        Retries the requested confirm or release, if any; otherwise confirms after a
        normal end and releases after an exception.
        """
        if self.in_user_transaction and exc is None:
            return
        tuning = self.dispatcher.tuning
        timeout = None if exc is None else tuning.release_timeout
        if self._finishing:  # its caller may not have waited for it
            await asyncio.wait({self._finishing}, timeout=timeout)
        if not self.is_owned or self.is_finished:
            return
        if exc is None:
            await self.finish(self.requested or self.confirm(self.acquired.ttl))
            return
        with suppress(StoreClosedError):  # then it ends with its lease
            self._finishing = self.dispatcher.detached.submit_with_retry(
                [self.requested or self.give_back(exc)]
            )
            await asyncio.wait({self._finishing}, timeout=timeout)

    def _notify(self, _: object = None) -> None:
        if self.changed:
            self.changed.set()

    def lost(self) -> LeaseLostError:
        """Create the error that states why it is not owned; count a lost lease."""
        if self.is_owned:
            self.dispatcher.counters.leases_lost += 1
            return self._lost(
                "it is lost: another owner has claimed the key since the lease ended,"
                " or it was released, confirmed, marked, forgotten or resolved. Nothing"
                " was changed; if the lease was too short, take a longer one, or a"
                " block with keep_alive"
            )
        return self._lost(
            f"it was never owned, its verdict is {self.state.verdict}. Nothing was"
            " changed; handle an item only `if claim:`"
        )

    def expired(self) -> LeaseLostError:
        """Create the error of a lease that no renewal extended; count the loss."""
        self.dispatcher.counters.leases_lost += 1
        return self._lost(
            f"its lease of {self.length:g} seconds is over, and no renewal was"
            " acknowledged: another owner may have the key. The store failed or did"
            " not answer; the log says why"
        )

    def _lost(self, problem: str) -> LeaseLostError:
        acquired = self.acquired
        return LeaseLostError(
            acquired.key, acquired.namespace, self.state.attempt, problem
        )


async def finish_many(
    dispatcher: Dispatcher,
    leases: Sequence[Lease],
    operations: Sequence[Finish],
) -> list[bool]:
    """Confirm or release leases in one detached call; true for each that was owned."""
    if not operations:
        dispatcher.lifecycle.check_open(or_closing=True)
        return []
    each = _one_for_each(operations)
    sent: Sequence[Operation[Any]] = operations if each is None else [each]
    call = dispatcher.detached.submit(sent)
    for lease, operation in zip(leases, operations, strict=True):
        lease.start_finish(operation, call.results)
    results = await dispatcher.detached.wait(call)
    return results if each is None else results[0]


def _one_for_each(operations: Sequence[Finish]) -> ForEach[bool] | None:
    """Make one operation of many that differ in key and token only, if they do."""
    if len(operations) == 1 or len(set(map(_shared, operations))) != 1:
        return None
    keys = [operation.key for operation in operations]
    return ForEach.of(operations[0], keys, [one.token for one in operations])


def _shared(operation: Finish) -> tuple[object, ...]:
    """Return what one operation on many keys has in common."""
    if isinstance(operation, Confirm):
        return operation.namespace, operation.ttl, operation.note
    if isinstance(operation, Hold) or operation.error or not operation.is_counted:
        return (id(operation),)  # nothing
    return operation.namespace, operation.ttl, operation.delay


async def release_unsettled(leases: Sequence[Lease]) -> None:
    """Release the owned claims that are neither confirmed nor released, in one batch.

    A confirm or a release that was requested and failed is requested again. A failure
    is logged: then the leases end by themselves.
    """
    finishing = {lease.finishing for lease in leases if lease.finishing}
    # Before the first await, where an anyio scope may cancel again.
    releasing = _release_unsettled(leases)
    pending = {future for future in finishing if not future.done()}
    if pending:  # their callers may not have waited for them
        await asyncio.wait(pending)
    for releases in (releasing, _release_unsettled(leases)):  # the second: those failed
        if releases is not None:
            timeout = leases[0].dispatcher.tuning.release_timeout
            await asyncio.wait({releases}, timeout=timeout)


def _release_unsettled(leases: Sequence[Lease]) -> asyncio.Future[list[bool]] | None:
    """Submit the releases of the leases that nothing has finished or is finishing."""
    unsettled = [lease for lease in leases if lease.needs_renewal]
    if not unsettled:
        return None
    try:
        operations = [lease.requested or lease.release() for lease in unsettled]
        detached = unsettled[0].dispatcher.detached
        releasing = detached.submit_with_retry(operations)
    except StoreClosedError:
        return None
    for lease, operation in zip(unsettled, operations, strict=True):
        lease.start_finish(operation, releasing)
    return releasing
