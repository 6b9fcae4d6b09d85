"""Deliveries to a webhook: each answer settles the claim in one way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from time import time as now

import aiohttp
import pytest

from catalyst_seen import ClaimNotOwnedError, Verdict
from catalyst_seen.feeds import post

from ..support.observing import PendingClaim
from ..support.web import Asked, Web, answer


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the program."""
    async with aiohttp.ClientSession() as made:
        yield made


Session = aiohttp.ClientSession


class TestAnswers:
    """What each answer means for the item."""

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_accepted(self, web: Web, session: Session, status: int) -> None:
        """A success of the request itself confirms the claim."""
        claim = PendingClaim()
        posted = await post(
            session, web.put("/h", answer(status)), claim, json={"a": 1}
        )
        assert posted
        assert (posted.outcome, posted.status, posted.error) == (
            "confirmed", status, None,
        )  # fmt: skip
        assert claim.settled == [("confirmed", None, None)]
        asked = web.asked[0]
        assert (asked.method, json.loads(asked.body)) == ("POST", {"a": 1})

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
    async def test_redirect(self, web: Web, session: Session, status: int) -> None:
        """A redirect is not followed: the item is held, and the target is named."""
        web.put("/done", answer(200))
        claim = PendingClaim()
        url = web.put("/hook/s3cret", answer(status, Location="/done?s3cret"))
        posted = await post(session, url, claim, json={})
        assert not posted
        assert posted.outcome == "held"
        assert web.paths() == ["/hook/s3cret"]
        ((how, _, reason),) = claim.settled
        assert how == "held"
        place = f"http://127.0.0.1:{web.port}"
        assert str(reason).startswith(f"{place}: HTTP {status} ")
        assert str(reason).endswith(f"to {place}, and a POST follows no redirect")

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 451])
    async def test_refused(self, web: Web, session: Session, status: int) -> None:
        """A refusal for good holds the item with its reason."""
        claim = PendingClaim()
        posted = await post(session, web.put("/h", answer(status)), claim, json={})
        assert (posted.outcome, posted.status) == ("held", status)
        ((how, _, reason),) = claim.settled
        assert how == "held"
        assert f"HTTP {status} " in str(reason)

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    async def test_later(self, web: Web, session: Session, status: int) -> None:
        """A trouble that may pass releases the item, with the backoff of the store."""
        claim = PendingClaim()
        posted = await post(session, web.put("/h", answer(status)), claim, json={})
        assert (posted.outcome, posted.delay) == ("released", None)
        ((how, delay, reason),) = claim.settled
        assert (how, delay) == ("released", None)
        assert f"HTTP {status}" in str(reason)

    async def test_no_answer(self, web: Web, session: Session) -> None:
        """A timeout, a broken connection and no connection release the item."""
        never = asyncio.Event()

        async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
            await never.wait()

        web.put("/hang", hang)
        web.put("/broken", b"")
        free = web.url("/").replace(str(web.port), "1")
        for url, words in [
            (web.url("/hang"), "no complete answer within 0.05 seconds"),
            (web.url("/broken"), "closed the connection without an answer"),
            (free, "cannot connect to 127.0.0.1:1: Connection refused"),
        ]:
            claim = PendingClaim()
            posted = await post(session, url, claim, json={}, timeout=0.05)
            assert posted.outcome == "released"
            assert posted.status is None
            ((how, delay, reason),) = claim.settled
            assert (how, delay) == ("released", None)
            assert words in str(reason)
        assert web.paths().count("/broken") == 1  # nobody knows what it did

    async def test_answer_without_an_end(self, web: Web, session: Session) -> None:
        """The status counts, whatever becomes of the body after it."""
        claim = PendingClaim()
        url = web.put("/h", answer(200, b"x", Content_Length="999"))
        assert await post(session, url, claim, json={})

    async def test_session_that_raises(self, web: Web) -> None:
        """A session that raises for a status changes nothing."""
        url = web.put("/h", answer(404))
        async with aiohttp.ClientSession(raise_for_status=True) as strict:
            posted = await post(strict, url, PendingClaim(), json={})
        assert posted.outcome == "held"


class TestRetryAfter:
    """A webhook that asks for a pause gets it, from all items."""

    @pytest.mark.parametrize("status", [429, 503])
    async def test_seconds(self, web: Web, session: Session, status: int) -> None:
        """The item comes again after the pause, and nothing is sent before."""
        url = web.put("/h", answer(status, Retry_After="60"))
        first, second = PendingClaim("1"), PendingClaim("2")
        posted = await post(session, url, first, json={})
        assert (posted.outcome, posted.delay) == ("released", 60.0)
        assert first.settled[0][:2] == ("released", 60.0)
        posted = await post(session, url, second, json={})
        assert posted.outcome == "released"
        assert posted.delay == pytest.approx(60, abs=30)
        assert second.settled[0][1] == posted.delay
        assert len(web.asked) == 1

    async def test_date(self, web: Web, session: Session) -> None:
        """The pause may end at a date."""
        date = formatdate(now() + 3_600, usegmt=True)
        url = web.put("/h", answer(503, Retry_After=date))
        posted = await post(session, url, PendingClaim(), json={})
        assert posted.delay == pytest.approx(3_600, abs=60)

    async def test_a_day_at_most(self, web: Web, session: Session) -> None:
        """A pause of a year is a day."""
        url = web.put("/h", answer(429, Retry_After="31536000"))
        assert (await post(session, url, PendingClaim(), json={})).delay == 86_400

    async def test_end(self, web: Web, session: Session) -> None:
        """After the pause the webhook gets requests again."""
        url = web.put("/h", answer(429, Retry_After="0.05"), answer(200))
        await post(session, url, PendingClaim(), json={})
        async with asyncio.timeout(60):
            while not await post(session, url, PendingClaim(), json={}):
                await asyncio.sleep(0.01)
        assert len(web.asked) == 2

    async def test_others_go_on(self, web: Web, session: Session) -> None:
        """Other webhooks get their items."""
        await post(
            session,
            web.put("/h", answer(429, Retry_After="60")),
            PendingClaim(),
            json={},
        )
        assert await post(session, web.put("/i", answer(200)), PendingClaim(), json={})


class TestRequest:
    """What is sent."""

    async def test_note(self, web: Web, session: Session) -> None:
        """Without a body of its own, the note of the claim is sent as JSON."""
        claim = PendingClaim(note='{"title":"Größe"}')
        assert await post(session, web.put("/h", answer(200)), claim)
        asked = web.asked[0]
        assert json.loads(asked.body) == {"title": "Größe"}
        assert asked.headers["content-type"] == "application/json"

    async def test_data(self, web: Web, session: Session) -> None:
        """A body and headers of one's own are sent as they are."""
        url = web.put("/h", answer(200))
        headers = {"Content-Type": "text/plain", "Idempotency-Key": "mine"}
        await post(session, url, PendingClaim(), data="é", headers=headers)
        asked = web.asked[0]
        assert asked.body == "é".encode()
        assert asked.headers["content-type"] == "text/plain"
        assert asked.headers["idempotency-key"] == "mine"

    async def test_idempotency_key(self, web: Web, session: Session) -> None:
        """It is the same at each attempt, and another for each item and namespace."""
        url = web.put("/h", answer(500))
        for key, namespace in [("a", "n"), ("a", "n"), ("b", "n"), ("a", "m")]:
            await post(session, url, PendingClaim(key, namespace), json={})
        first, again, *others = (a.headers["idempotency-key"] for a in web.asked)
        assert first == again
        assert len({first, *others}) == 3

    async def test_sign_in(self, web: Web, session: Session) -> None:
        """User and password of the address are sent, and not shown."""
        web.put("/h", answer(403))
        url = web.url("/h", sign_in="ann:s3cret")
        posted = await post(session, url, PendingClaim(), json={})
        assert web.asked[0].headers["authorization"].startswith("Basic ")
        assert "s3cret" not in repr(posted)

    async def test_short_lease(self, web: Web, session: Session) -> None:
        """The lease is extended if the timeout could outlast it."""
        short, long = PendingClaim(lease=5), PendingClaim(lease=500)
        for claim in (short, long):
            await post(session, web.put("/h", answer(200)), claim, json={}, timeout=30)
        assert (short.lease, long.lease) == (40, 500)


class TestMisuse:
    """What cannot be posted."""

    async def test_not_owned(self, web: Web, session: Session) -> None:
        """A claim that is false is refused before anything is sent."""
        claim = PendingClaim(verdict=Verdict.DUPLICATE)
        with pytest.raises(ClaimNotOwnedError):
            await post(session, web.put("/h", answer(200)), claim, json={})
        assert not web.asked
        assert not claim.settled

    async def test_nothing_to_send(self, web: Web, session: Session) -> None:
        """A claim without a note needs a body; it is released."""
        claim = PendingClaim(note=None)
        with pytest.raises(ValueError, match="json or data"):
            await post(session, web.put("/h", answer(200)), claim)
        assert claim.settled == [("released", None, None)]

    async def test_no_json(self, web: Web, session: Session) -> None:
        """A body that is no JSON raises, and the claim is released."""
        claim = PendingClaim()
        with pytest.raises(TypeError):
            await post(session, web.put("/h", answer(200)), claim, json={"a": object()})  # type: ignore[dict-item]
        assert claim.settled == [("released", None, None)]

    @pytest.mark.parametrize("url", ["h.example/s3cret", "ftp://h/s3cret", "http://"])
    async def test_no_address(self, session: Session, url: str) -> None:
        """What is no address of the web is refused, and not shown."""
        with pytest.raises(ValueError, match="http") as caught:
            await post(session, url, PendingClaim(), json={})
        assert "s3cret" not in str(caught.value)

    async def test_cancelled(self, web: Web, session: Session) -> None:
        """A cancelled delivery gives the claim back."""
        never = asyncio.Event()
        arrived = asyncio.Event()

        async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
            arrived.set()
            await never.wait()

        claim = PendingClaim()
        url = web.put("/h", hang)
        task = asyncio.create_task(post(session, url, claim, json={}))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert claim.settled == [("released", None, None)]

    async def test_error_text(self, web: Web, session: Session) -> None:
        """The address of a webhook is a secret: reasons have its host only."""
        claim = PendingClaim()
        for given in (
            answer(404),
            answer(302, Location="//["),
            answer(500),
            b"junk\n\n",
        ):
            await post(session, web.put("/s3cret", given), claim, json={})
        assert "s3cret" not in repr(claim.settled)
        assert len(claim.settled) == 4
