"""``post``: delivers a claimed item to a webhook, and settles the claim."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict

from catalyst_seen import ClaimNotOwnedError, Duration, StoreError

from .._validation import seconds
from ._addresses import joined, origin, sign_in, without_sign_in
from ._agent import USER_AGENT
from ._causes import FetchError, cause_of, phrase_of
from ._text import one_line
from ._tuning import DAY
from ._wishes import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from catalyst_seen import Claim

Json: TypeAlias = (
    "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
)
"""A value that JSON has."""

_MAY_ASK_FOR_A_PAUSE = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_COMES_AGAIN = _MAY_ASK_FOR_A_PAUSE | {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
}
_HEADER_BYTES = 65_536
_MARGIN = 10.0
"""Seconds of the lease beyond the timeout, for the confirm."""

_pauses: WeakKeyDictionary[aiohttp.ClientSession, dict[str, float]]
_pauses = WeakKeyDictionary()
"""Until when a webhook wants no request, for each session, like its cookies.

A session allows no attributes of others, and the function has no other place that
lives as long as the loop which calls it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of a delivery; true if the webhook accepted the item.

    Attributes:
        outcome: ``"confirmed"``, the item is handled; ``"released"``, it comes again;
            ``"held"``, it waits for a person, because the webhook refused it for good.
        error: Why it was not accepted, without the address; ``None`` if it was.
        status: The status of the answer; ``None`` without one.
        delay: Seconds until the item comes again, where the webhook asked for a pause;
            otherwise ``None``.
    """

    outcome: Literal["confirmed", "released", "held"]
    error: str | None = None
    status: int | None = None
    delay: float | None = None

    def __bool__(self) -> bool:
        return self.outcome == "confirmed"


async def post(
    session: aiohttp.ClientSession,
    url: str,
    claim: Claim,
    *,
    json: Json = None,
    data: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: Duration = 30.0,
) -> Posted:
    """Deliver a claimed item to a webhook, and settle the claim by the answer.

    ::

        async for claim in feed.pending():
            await post(session, url, claim)

    Only a 2xx of this very request confirms; no redirect is followed. ``Retry-After``
    releases the claim with that delay, and the session sends nothing to the webhook
    before it is over. 408, 425, 429, 5xx, a timeout and a broken connection release it,
    and it comes again with the backoff of ``pending``. Any other answer is a refusal
    for good: the claim is held with the reason, until ``resolve`` decides. The block of
    a claim changes nothing after that.

    The request has an ``Idempotency-Key``, the same at each attempt, by which a webhook
    can recognise a repeat: after a timeout nobody knows whether the item was accepted.
    The address of a webhook is a secret: errors have its host only.

    Args:
        session: Your session; it stays open.
        url: The webhook, perhaps with user and password.
        claim: An owned claim. Its lease is extended where the timeout needs that.
        json: What is sent, as JSON. Without it and ``data`` it is the note of the
            claim.
        data: What is sent, as it is.
        headers: More headers, ``Content-Type`` among them.
        timeout: The time for the request and the answer.

    Raises:
        ClaimNotOwnedError: The claim is false; nothing was sent.
        LeaseLostError: Another caller has the claim now.
        StoreError: The store failed.
        ValueError: There is nothing to send, or the address is none of the web.
    """
    limit = seconds(timeout, "timeout")
    place = origin(url).place
    _check_owned(claim)
    pauses = _pauses.setdefault(session, {})
    if (rest := pauses.get(url, 0.0) - monotonic()) > 0:
        return await _released(claim, f"{place} asked for a pause", delay=rest)
    try:
        if claim.remaining() < limit + _MARGIN:
            await claim.renew(limit + _MARGIN)
        request = _Request(url, _headers(url, claim, headers), json, data)
        answer = await _send(session, request.or_note(claim.note), limit)
    except FetchError as exc:
        return await _released(claim, f"{place}: {exc.problem}")
    except Exception as exc:
        with suppress(StoreError):  # the first error is the one to raise
            await claim.release(error=exc)
        raise
    if answer.pause is not None:
        pauses[url] = monotonic() + answer.pause
    return await _settled(claim, place, answer)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent."""

    url: str
    headers: CIMultiDict[str]
    json: Json
    data: bytes | str | None

    def or_note(self, note: str | None) -> _Request:
        """Return the request; without a body of its own it sends a note."""
        if self.json is not None or self.data is not None:
            return self
        if not note:
            raise ValueError(
                "there is nothing to send: the claim has no note, so give json or data"
            )
        self.headers.setdefault("Content-Type", "application/json")
        return replace(self, data=note)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back."""

    status: int
    pause: float | None = None
    target: str | None = None


async def _send(
    session: aiohttp.ClientSession, request: _Request, timeout: float
) -> _Answer:
    """Send a request, and return what its answer says.

    Raises:
        FetchError: There is no answer.
    """
    body: dict[str, Any]
    if request.data is None:
        body = {"json": request.json}
    else:
        data = request.data
        body = {"data": data.encode() if isinstance(data, str) else data}
    try:
        async with session.post(
            without_sign_in(request.url),
            headers=request.headers,
            allow_redirects=False,
            raise_for_status=False,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(total=timeout),
            **body,
        ) as response:
            status, headers = response.status, response.headers
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise cause_of(exc, timeout) from exc
    pause = None
    if status in _MAY_ASK_FOR_A_PAUSE:
        pause = retry_after(headers, time(), DAY)
    return _Answer(status, pause, _target(request.url, headers.get("Location")))


def _headers(
    url: str, claim: Claim, headers: Mapping[str, str] | None
) -> CIMultiDict[str]:
    """Return the headers of a request; those of the caller come first."""
    name = hashlib.sha256(f"{claim.namespace}\0{claim.key}".encode()).hexdigest()
    made = CIMultiDict({"Idempotency-Key": name, "User-Agent": USER_AGENT})
    if authorization := sign_in(url, None):
        made["Authorization"] = authorization
    made.update(headers or {})
    return made


async def _settled(claim: Claim, place: str, answer: _Answer) -> Posted:
    """Confirm, release or hold a claim by the answer."""
    status = answer.status
    if 200 <= status < 300:  # noqa: PLR2004
        await claim.confirm()
        return Posted("confirmed", status=status)
    error = f"{place}: HTTP {status} {phrase_of(status)}".rstrip()
    if answer.target and 300 <= status < 400:  # noqa: PLR2004
        error = f"{error} to {answer.target}, and a POST follows no redirect"
    if status in _COMES_AGAIN or status >= 500:  # noqa: PLR2004
        return await _released(claim, error, status=status, delay=answer.pause)
    await claim.hold(error)
    return Posted("held", error, status)


async def _released(
    claim: Claim, error: str, *, status: int | None = None, delay: float | None = None
) -> Posted:
    """Release a claim, with the store's own backoff unless there is a delay."""
    if delay is None:
        await claim.release(error=error)
    else:
        error = f"{error}, of {delay:.0f} seconds" if status is None else error
        await claim.release(delay, error=error)
    return Posted("released", error, status, delay)


def _target(url: str, location: str | None) -> str | None:
    """Return the server that a redirect names; the rest of it may be a secret."""
    if not location:
        return None
    try:
        return one_line(origin(joined(url, location)).place)
    except ValueError:
        return None


def _check_owned(claim: Claim) -> None:
    """Raise ``ClaimNotOwnedError`` for a claim that is false."""
    if not claim.verdict:
        raise ClaimNotOwnedError(
            claim.key,
            claim.namespace,
            claim.verdict,
            claim.retry_after,
            "nothing was posted. Post only `if claim:`",
        )
