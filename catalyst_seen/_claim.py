"""Claim: a lease on a key while its item is handled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Never, Self

from ._backend import Confirm, Release, Renew
from ._errors import (
    LeaseLostError,
    StoreClosedError,
)
from ._log import log
from ._rules import seconds, seconds_or_never

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from types import EllipsisType, TracebackType

    from ._backend import TakeClaim
    from ._model import ClaimState, OnAbandoned, Verdict
    from ._rules import Duration
    from ._sender import Sender

RELEASE_TIMEOUT = 5.0
"""Seconds that leaving a block waits for its release, which then goes on without it."""

_RENEWALS, _RETRIES = 3, 30
"""How often in a lease ``keep_alive`` renews it; and tries, after a failure."""

_SHORTEST = 0.05
"""Seconds between two looks at a clock that may stand still."""


class Claim:
    """The answer to a claim, and the lease on the key; true if the caller was given it.

    ::

        async with store.claim(key) as claim:
            if claim:
                await send(item)

    Leaving the block normally confirms, also by ``return``, ``break`` or ``continue``;
    leaving it by an exception or a cancellation releases, and the exception goes on. By
    hand it is ``await claim.confirm()`` or ``await claim.release()``, in a block as
    well: then its end changes nothing any more, but repeats what failed. The end of a
    block whose claim is false does nothing. A claim that nobody ends stays until its
    lease ends, whatever becomes of the store.

    The token in the store's record is a fence: once another caller owns the key, this
    claim cannot be confirmed any more. It guards the record, not the effect: a message
    that its owner sent too late is sent.

    Attributes:
        key: The key.
        namespace: Its namespace.
        verdict: What the store says; the claim is as true as its verdict.
        attempt: How often the key has been claimed, with this claim if it is owned: 1
            for the first.
        token: The random fence of this claim.
        lease_until: When the lease ends, in seconds since 1970 by the store's clock;
            for ``IN_FLIGHT`` the other owner's, else ``None``.
        retry_after: Seconds until it may be claimed; only for ``IN_FLIGHT``.
    """

    def __init__(
        self, sender: Sender, taken: TakeClaim, state: ClaimState, *, keep_alive: bool
    ) -> None:
        """Stores make claims; see ``claim`` and ``claim_many``."""
        self.key: str = taken.key
        self.namespace: str = taken.namespace
        self.verdict: Verdict = state.verdict
        self.attempt: int = state.attempt
        self.token: str = taken.token
        self.lease_until: float | None = state.lease_until
        self.retry_after: float | None = state.retry_after
        self._sender = sender
        self._lease: float = taken.lease
        self._ttl: float | None = taken.ttl
        self._on_abandoned: OnAbandoned = taken.on_abandoned
        self._asked: Confirm | Release | None = None  # how it is to end, if at all yet
        self._settling: asyncio.Task[list[bool]] | None = None
        self._keep_alive = _KeepAlive(self) if keep_alive and state.verdict else None
        self._is_entered = False

    def __bool__(self) -> bool:
        return bool(self.verdict)

    def __repr__(self) -> str:
        where = f" namespace={self.namespace!r}" if self.namespace else ""
        if self:
            time = f" remaining={self.remaining():.3f}"
        else:
            time = f" retry_after={self.retry_after:.3f}" if self.retry_after else ""
        return (
            f"<{type(self).__name__} {self.key!r}{where} {self.verdict}"
            f" attempt={self.attempt}{time}>"
        )

    def remaining(self) -> float:
        """Tell how many seconds of the lease are left.

        0 if it is over, was confirmed or released, or never owned.
        """
        if self.lease_until is None or not self or self._is_settled:
            return 0.0
        return max(0.0, self.lease_until - self._sender.session.backend.now())

    async def confirm(self, ttl: Duration | EllipsisType | None = ...) -> None:
        """Mark the key as seen: its item is handled. The TTL counts from now.

        Confirming again has no effect. It also succeeds after the lease has ended, or
        after a release, as long as nobody else has claimed the key, for one TTL. A
        caller that is cancelled does not keep it from being done.

        Args:
            ttl: For this mark, in seconds or as a ``timedelta``; ``None`` is for ever,
                and by default the claim's.

        Raises:
            LeaseLostError: The claim is not owned any more; nothing was changed.
            StoreUnavailableError: The store failed; it is not confirmed.
            OutcomeUnknownError: It failed while committing; confirm again to learn.
        """
        await self._end(self._confirm(ttl))

    async def release(self, delay: Duration = 0.0) -> bool:
        """Give the key back, for the next attempt: its item is not handled.

        A caller that is cancelled does not keep it from being done.

        Args:
            delay: Seconds, or a ``timedelta``, before it can be claimed again.

        Returns:
            True if it was given back; False if it was not owned any more, and nothing
            was changed.

        Raises:
            StoreUnavailableError: The store failed; the lease runs on.
            OutcomeUnknownError: It failed while committing.
        """
        return await self._end(self._release(delay))

    async def renew(self, lease: Duration | EllipsisType = ...) -> None:
        """Begin the lease anew, also after its end or a release, if the key is free.

        Args:
            lease: Seconds from now, or a ``timedelta``, for ``keep_alive`` as well; by
                default as it was.

        Raises:
            LeaseLostError: The claim is not owned any more; nothing was changed.
            StoreUnavailableError: The store failed; the old lease runs on.
            OutcomeUnknownError: It failed while committing.
        """
        if lease is not ...:
            self._lease = seconds(lease, "lease")
        settling = self._settling
        try:
            await self._renew(self._lease)
        finally:
            if self._keep_alive:
                self._keep_alive.wake()
        if self._settling is settling:  # and nothing was asked for meanwhile
            self._asked = self._settling = None

    async def __aenter__(self) -> Self:
        if self._is_entered or (self and self._is_settled):
            raise RuntimeError(
                f"{self!r} cannot be entered: it has a block already, or was confirmed"
                " or released"
            )
        self._is_entered = True
        if self._keep_alive:
            self._keep_alive.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_entered = False
        lost = self._keep_alive.stop(exc) if self._keep_alive else None
        if lost:
            raise lost from exc
        if self._settling:  # its caller may not have waited for it
            patience = None if exc is None else RELEASE_TIMEOUT
            await asyncio.wait({self._settling}, timeout=patience)
        if not self or self._is_settled:
            return
        if exc is None:
            await self._end(self._asked or self._confirm(...))
        else:
            await self._end_in_time(self._asked or self._release())

    @property
    def _is_settled(self) -> bool:
        """Is it confirmed or released, or about to be?"""
        settling = self._settling
        if settling is None or not settling.done():
            return settling is not None
        return not settling.cancelled() and settling.exception() is None

    def _confirm(self, ttl: Duration | EllipsisType | None) -> Confirm:
        lasting = self._ttl if ttl is ... else seconds_or_never(ttl, "ttl")
        return Confirm(self.namespace, self.key, self.token, lasting)

    def _release(self, delay: Duration = 0.0) -> Release:
        pause = seconds(delay, "delay", least=0)
        return Release(self.namespace, self.key, self.token, pause, self._ttl)

    async def _end(self, operation: Confirm | Release) -> bool:
        (is_done,) = await _settle(self._sender, [self], [operation])
        if not is_done and isinstance(operation, Confirm):
            raise self._lease_lost()
        return is_done

    async def _end_in_time(self, operation: Confirm | Release) -> None:
        """End it for a caller who is on the way out, with an exception of its own."""
        with suppress(StoreClosedError):  # then the lease ends by itself
            self._settling = self._sender.post([operation])
            await asyncio.wait({self._settling}, timeout=RELEASE_TIMEOUT)

    async def _renew(self, lease: float) -> None:
        # Whoever is cancelled here does not learn how long the lease is now.
        until = self._sender.session.backend.now() + lease
        self.lease_until = min(self.lease_until or until, until)
        renew = Renew(
            self.namespace,
            self.key,
            self.token,
            lease,
            self._ttl,
            self._on_abandoned,
        )
        (lease_until,) = await self._sender.send([renew])
        if lease_until is None:
            raise self._lease_lost()
        self.lease_until = lease_until

    def _lease_lost(self) -> LeaseLostError:
        if self:
            problem = (
                "it is lost: another owner has claimed the key since the lease ended,"
                " or it was confirmed, marked, forgotten or resolved. Nothing was"
                " changed; if the lease was too short, take a longer one, or a block"
                " with keep_alive"
            )
        else:
            problem = (
                f"it was never owned, its verdict is {self.verdict}. Nothing was"
                " changed; handle an item only `if claim:`"
            )
        return LeaseLostError(self.key, self.namespace, self.attempt, problem)


_NOT_TAKEN = (
    "the claim is not taken yet: write `claim = await store.claim(...)` or"
    " `async with store.claim(...) as claim:`"
)


class Claiming(Coroutine[object, None, Claim]):
    """A claim that is not taken yet: await it, or enter it with ``async with``."""

    def __init__(self, taking: Coroutine[object, None, Claim]) -> None:
        """Nothing is asked before it is awaited or entered."""
        self._taking = taking

    def __bool__(self) -> bool:
        raise TypeError(_NOT_TAKEN)

    def __await__(self) -> Generator[object, None, Claim]:
        return self._taking.__await__()

    def send(self, value: None, /) -> object:
        """Go on, for whoever drives coroutines by hand, like ``create_task``."""
        return self._taking.send(value)

    def throw(self, *exception: Any) -> object:  # noqa: ANN401 - as in Coroutine
        """Raise an exception in it."""
        return self._taking.throw(*exception)

    def close(self) -> None:
        """End it."""
        self._taking.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {_NOT_TAKEN}>"

    if not TYPE_CHECKING:  # a type checker knows better what is missing

        def __getattr__(self, name: str) -> Never:
            """Explain what most likely was meant."""
            raise AttributeError(f"no attribute {name!r}: {_NOT_TAKEN}")

    async def __aenter__(self) -> Claim:
        self._claim = await self._taking
        return await self._claim.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._claim.__aexit__(exc_type, exc, traceback)


class _KeepAlive:
    """Renews a claim while its block runs, and cancels the block if it is lost."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._changed = asyncio.Event()
        self._is_failing = False
        self._renewing: asyncio.Task[None] | None = None
        self._lost: LeaseLostError | None = None

    def start(self) -> None:
        """Begin, for the block that the current task enters."""
        self._lost = None
        self._block = asyncio.current_task()
        self._cancellations = self._block.cancelling() if self._block else 0
        self._renewing = self._claim._sender.session.run_in_background(
            self._run(), "keep alive"
        )

    def stop(self, exc: BaseException | None) -> LeaseLostError | None:
        """End; return the loss if it is what ended the block, as ``exc`` tells."""
        if self._renewing:
            self._renewing.cancel()
        if self._lost is None or self._block is None:
            return None
        is_ours = self._block.uncancel() <= self._cancellations
        is_cancelled = isinstance(exc, asyncio.CancelledError)
        return self._lost if is_ours and is_cancelled else None

    def wake(self, *_: object) -> None:
        """Look at the claim again: it was renewed, or is settled or not after all."""
        self._changed.set()

    async def _run(self) -> None:
        claim = self._claim
        while self._lost is None:
            try:
                await self._until_due()
                await claim._renew(claim._lease)
                self._is_failing = False
            except StoreClosedError:
                return
            except LeaseLostError as exc:
                self._lose(exc)
            except Exception as exc:  # noqa: BLE001 - while nobody takes it, it is ours
                self._report(exc)
                await asyncio.sleep(claim._lease / _RETRIES)

    async def _until_due(self) -> None:
        """Wait until a part of the lease has run, and there is still one."""
        claim = self._claim
        while True:
            self._changed.clear()
            pause = claim.remaining() - claim._lease * (1 - 1 / _RENEWALS)
            if pause <= 0 and not claim._is_settled:
                return
            with suppress(TimeoutError):
                pause = max(pause, min(_SHORTEST, claim._lease / _RETRIES))
                async with asyncio.timeout(None if claim._is_settled else pause):
                    await self._changed.wait()

    def _lose(self, loss: LeaseLostError) -> None:
        self._lost = loss
        if self._block:
            self._block.cancel()

    def _report(self, failure: Exception) -> None:
        if not self._is_failing:
            location = self._claim._sender.session.backend.location
            log("warning", "renew_failed", location=location, error=str(failure))
        self._is_failing = True


async def confirm_all(
    sender: Sender, claims: Iterable[Claim], ttl: Duration | EllipsisType | None
) -> list[bool]:
    """Confirm claims in one batch; say of each whether it is confirmed."""
    checked = _checked(sender, claims)
    return await _settle(sender, checked, [claim._confirm(ttl) for claim in checked])


async def release_all(
    sender: Sender, claims: Iterable[Claim], delay: Duration
) -> list[bool]:
    """Release claims in one batch; say of each whether it was owned."""
    checked = _checked(sender, claims)
    return await _settle(sender, checked, [claim._release(delay) for claim in checked])


def _checked(sender: Sender, claims: Iterable[Claim]) -> list[Claim]:
    """List claims; refuse what is not one of this store."""
    if isinstance(claims, Claim):
        raise TypeError(f"claims must be an iterable of claims, not {claims!r}")
    checked = list(claims)
    for place, claim in enumerate(checked):
        if not isinstance(claim, Claim):
            raise TypeError(
                f"claims[{place}] must be a Claim, not {type(claim).__name__}"
            )
        if claim._sender is not sender:
            raise ValueError(
                f"claims[{place}], {claim!r}, must be a claim that this store made"
            )
    return checked


async def _settle(
    sender: Sender, claims: Sequence[Claim], operations: Sequence[Confirm | Release]
) -> list[bool]:
    """Confirm or release; it is done even if the caller is cancelled meanwhile."""
    if not operations:
        sender.session.check_open()
        return []
    settling = sender.see_through(operations)
    for claim, operation in zip(claims, operations, strict=True):
        claim._asked, claim._settling = operation, settling
        if claim._keep_alive:
            settling.add_done_callback(claim._keep_alive.wake)
    try:
        return await asyncio.shield(settling)
    except asyncio.CancelledError:
        sender.leave(settling, operations)
        raise
