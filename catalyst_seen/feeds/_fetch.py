"""One polite GET: redirects, limits and retries, up to an answer or a clear text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from ._addresses import joined, origin
from ._causes import FetchError, cause_of, is_momentary
from ._redirects import FOLLOWED, Hop
from ._unpack import Body, TooLargeError, UnknownPackingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._addresses import Origin
    from ._hosts import Hosts
    from ._tuning import FeedTuning

_MOST_REDIRECTS = 10
_CHUNK = 16_384
_RETRY_JITTER = 1.0
_LONGEST_RETRY = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a server, after all redirects.

    Attributes:
        url: The address that gave it.
        status: Its status.
        headers: Its head.
        body: Its unpacked body; empty unless the status is a success.
        problem: Why the body may have no end; ``None`` if nothing is missing.
        hops: The redirects on the way.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    problem: str | None = None
    hops: tuple[Hop, ...] = ()

    @property
    def is_success(self) -> bool:
        """Is the status one of success, with a body or without?"""
        return 200 <= self.status < 300  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        url: The address, without user and password.
        headers: What every server may see.
        home: The server that may see what is private.
        private: Headers for that server only.
    """

    url: str
    headers: Mapping[str, str]
    home: Origin
    private: Mapping[str, str] = field(default_factory=dict)


class Fetcher:
    """Sends requests, each in its host's turn."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        hosts: Hosts,
        tuning: FeedTuning,
        *,
        timeout: float,
        max_bytes: int,
    ) -> None:
        """Give each request ``timeout`` seconds, and its body ``max_bytes``."""
        self._session = session
        self._hosts = hosts
        self._tuning = tuning
        self._timeout = timeout
        self._max_bytes = max_bytes

    async def get(self, request: Request) -> Answer:
        """Return the answer, whatever its status; see ``Request`` for who sees what.

        Redirects are followed by hand: aiohttp would pass headers of one's own to any
        server.

        Raises:
            FetchError: There is no answer that can be used.
            HeldError: A host on the way wants no request now.
        """
        url, hops = request.url, list[Hop]()
        cookies: dict[tuple[str, int], dict[str, str]] = {}
        while len(hops) <= _MOST_REDIRECTS:
            server = origin(url)
            headers = CIMultiDict(request.headers)
            if server.may_see_secrets_of(request.home):
                headers.update(request.private)
            jar = cookies.setdefault((server.host, server.port), {})
            answer = await self._retried(url, headers, jar, tuple(hops))
            location = answer.headers.get("Location")
            if answer.status not in FOLLOWED or not location:
                return answer
            try:
                target = joined(url, location)
            except ValueError:
                raise FetchError(
                    f"HTTP {answer.status}: the redirect leads to no address of the web"
                ) from None
            hops.append(Hop(answer.status, url, target))
            url = target
        raise FetchError(f"more than {_MOST_REDIRECTS} redirects")

    async def _retried(
        self,
        url: str,
        headers: Mapping[str, str],
        cookies: dict[str, str],
        hops: tuple[Hop, ...],
    ) -> Answer:
        """Send one request again while the failure looks like one of the moment."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(is_momentary),
            stop=stop_after_attempt(self._tuning.attempts),
            wait=wait_exponential(self._tuning.first_retry, _LONGEST_RETRY)
            + wait_random(0, _RETRY_JITTER),
            sleep=self._tuning.pause,
            reraise=True,
        )
        return await retrying(self._once, url, headers, cookies, hops)

    async def _once(
        self,
        url: str,
        headers: Mapping[str, str],
        cookies: dict[str, str],
        hops: tuple[Hop, ...],
    ) -> Answer:
        """Send one request, in its host's turn."""
        try:
            async with (
                self._hosts.turn(origin(url).host),
                self._session.get(
                    url,
                    headers=headers,
                    cookies=cookies,
                    allow_redirects=False,
                    auto_decompress=False,
                    raise_for_status=False,
                    max_line_size=self._tuning.header_bytes,
                    max_field_size=self._tuning.header_bytes,
                    timeout=aiohttp.ClientTimeout(total=self._timeout),
                ) as response,
            ):
                cookies.update(
                    (n, morsel.value) for n, morsel in response.cookies.items()
                )
                answer = Answer(url, response.status, response.headers, hops=hops)
                return await self._read(response, answer)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise cause_of(exc, self._timeout) from exc

    async def _read(self, response: aiohttp.ClientResponse, answer: Answer) -> Answer:
        """Read the body of a success.

        A connection that breaks, or stays open for too long, leaves what has come: the
        document may be complete.
        """
        if not answer.is_success:
            return answer
        body = Body(self._max_bytes, response.headers.get("Content-Encoding", ""))
        problem = None
        try:
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body.feed(chunk)
            except aiohttp.ClientError:
                problem = "the connection ended before the answer did"
            except TimeoutError:
                problem = f"no complete answer within {self._timeout:g} seconds"
            content = body.end()
        except TooLargeError:
            raise FetchError(
                f"the body has more than {self._max_bytes:,} bytes"
            ) from None
        except UnknownPackingError:
            raise FetchError(
                "the body is packed in a way that was not asked for"
            ) from None
        return Answer(
            answer.url,
            answer.status,
            answer.headers,
            content,
            problem or body.problem,
            answer.hops,
        )
