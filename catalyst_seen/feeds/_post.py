"""``post``: delivers a claimed item to a webhook, and settles the claim."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict

from catalyst_seen import ClaimNotOwnedError, Duration, StoreError

from .._pause import pause as sleep
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
_AWAY = _COMES_AGAIN | {
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
    None,
}
"""What says nothing about the item: the webhook is away, or busy."""
_HEADER_BYTES = 65_536
_REASON_BYTES = 2_000
_REASON = 200
"""Of the body of a refusal, what is read, and the characters that are kept."""
_MARGIN = 10.0
"""Seconds of the lease beyond the timeout, for the confirm."""


class _Pause(NamedTuple):
    """Until when a webhook wants no request.

    Attributes:
        end: When it is over, by the monotonic clock.
        is_rate: Does the webhook work, and was only asked too often?
    """

    end: float
    is_rate: bool

    def rest(self) -> float:
        """Return the seconds that are left."""
        return max(self.end - monotonic(), 0.0)


_NO_PAUSE = _Pause(0.0, is_rate=True)
_pauses: WeakKeyDictionary[aiohttp.ClientSession, dict[str, _Pause]]
_pauses = WeakKeyDictionary()
"""Until when a webhook wants no request, for each session, like its cookies.

A session allows no attributes of others, and the function has no other place that
lives as long as the loop which calls it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of a delivery; true if the webhook accepted the item.

    Attributes:
        outcome: ``"confirmed"``, the item is handled; ``"released"``, it comes again;
            ``"held"``, it waits for a person, because the webhook refused it for good,
            or because it was the last attempt that ``max_attempts`` allows.
        error: Why it was not accepted, without the address; ``None`` if it was.
        status: The status of the answer; ``None`` without one.
        delay: Seconds until the item comes again, where the webhook asked for a pause
            that was not waited for; otherwise ``None``.
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
    wait: Duration = 30.0,
) -> Posted:
    """Deliver a claimed item to a webhook, and settle the claim by the answer.

    ::

        async for claim in feed.pending():
            await post(session, url, claim)

    Only a 2xx of this very request confirms; no redirect is followed. The session sends
    nothing to a webhook before the end of the ``Retry-After`` of a 429 or a 503. If a
    429 (too many requests) asks for no more than ``wait``, the item is sent after that
    pause. Otherwise the claim is released with the pause as its delay. 408, 425, 429
    and 5xx without a pause, a timeout and a broken connection release the claim, and
    the item comes again with the backoff of ``pending``. Of all these, ``max_attempts``
    holds an item for a 5xx other than 502, 503 and 504 only: the others say that the
    webhook is away, and nothing about the item. Any other answer is a refusal for good:
    the claim is held with the reason, until ``resolve`` decides. The block of a claim
    changes nothing after that.

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
        wait: The longest time to wait in this call for a webhook that answered 429; 0
            releases at once.

    Raises:
        ClaimNotOwnedError: The claim is false; nothing was sent.
        LeaseLostError: Another caller has the claim now.
        StoreError: The store failed.
        ValueError: There is nothing to send, or the address is none of the web.
    """
    limit = seconds(timeout, "timeout")
    end = monotonic() + seconds(wait, "wait", least=0)
    place = origin(url).place
    _check_owned(claim)
    try:
        request = _Request(url, _headers(url, claim, headers), json, data)
        request = request.or_note(claim.note)
        answer = await _answer(session, request, claim, limit, end)
    except FetchError as exc:
        return await _released(claim, f"{place}: {exc.problem}")
    except Exception as exc:
        with suppress(StoreError):  # the first error is the one to raise
            await claim.release(error=exc)
        raise
    return await _settled(claim, place, answer)


async def _answer(
    session: aiohttp.ClientSession,
    request: _Request,
    claim: Claim,
    timeout: float,
    end: float,
) -> _Answer:
    """Send a request, again after each pause that is over by ``end``.

    Raises:
        FetchError: There is no answer.
    """
    pauses = _pauses.setdefault(session, {})
    while True:
        pause = pauses.get(request.url, _NO_PAUSE)
        if rest := pause.rest():
            if not pause.is_rate or pause.end > end:
                return _Answer(None, rest)
            await _keep(claim, rest + timeout)
            await sleep(rest)
            continue  # another task may have been asked for a further one
        await _keep(claim, timeout)
        answer = await _send(session, request, timeout)
        if answer.pause is None:
            return answer
        is_rate = answer.status == HTTPStatus.TOO_MANY_REQUESTS
        pauses[request.url] = pause = _Pause(monotonic() + answer.pause, is_rate)
        if not is_rate or pause.end > end:
            return answer


async def _keep(claim: Claim, length: float) -> None:
    """Extend the lease, if it would end before so many seconds and a confirm."""
    if claim.remaining() < length + _MARGIN:
        await claim.renew(length + _MARGIN)


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
    """What came back; without a status nothing was sent, because of a pause."""

    status: int | None
    pause: float | None = None
    target: str | None = None
    reason: str = ""


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
            reason = await _reason(response) if _is_refusal(status) else ""
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise cause_of(exc, timeout) from exc
    pause = None
    if status in _MAY_ASK_FOR_A_PAUSE:
        pause = retry_after(headers, time(), DAY)
    target = _target(request.url, headers.get("Location"))
    return _Answer(status, pause, target, reason)


def _is_refusal(status: int) -> bool:
    return 400 <= status < 500 and status not in _COMES_AGAIN  # noqa: PLR2004


async def _reason(response: aiohttp.ClientResponse) -> str:
    """Return the beginning of the text that explains a refusal."""
    if not response.content_type.startswith(("text/plain", "application/")):
        return ""  # a page for people
    try:
        body = await response.content.read(_REASON_BYTES)
    except (aiohttp.ClientError, OSError):
        return ""
    return one_line(body.decode("utf-8", "replace"))[:_REASON]


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
    if status is None:
        return await _paused(claim, f"{place} asked for a pause", answer.pause or 0.0)
    if 200 <= status < 300:  # noqa: PLR2004
        await claim.confirm()
        return Posted("confirmed", status=status)
    error = f"{place}: HTTP {status} {phrase_of(status)}".rstrip()
    if answer.target and 300 <= status < 400:  # noqa: PLR2004
        error = f"{error} to {answer.target}, and a POST follows no redirect"
    if answer.pause is not None:
        return await _paused(claim, error, answer.pause, status=status)
    if status in _COMES_AGAIN or status >= 500:  # noqa: PLR2004
        return await _released(claim, error, status=status)
    if answer.reason:
        error = f"{error}: {answer.reason}"
    await claim.hold(error)
    return Posted("held", error, status)


async def _released(claim: Claim, error: str, *, status: int | None = None) -> Posted:
    """Release a claim after a failed attempt, with the store's own backoff."""
    may_hold = status not in _AWAY
    is_held = may_hold and claim.is_last_attempt
    await claim.release(error=error, may_hold=may_hold)
    return Posted("held" if is_held else "released", error, status)


async def _paused(
    claim: Claim, error: str, delay: float, *, status: int | None = None
) -> Posted:
    """Release a claim until a pause is over, which says nothing of the item."""
    error = f"{error}, of {delay:.0f} seconds" if status is None else error
    await claim.release(delay, error=error, may_hold=False)
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
