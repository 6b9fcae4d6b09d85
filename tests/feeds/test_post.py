"""Deliveries to a webhook: each answer settles the claim in one way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import formatdate
from time import monotonic
from time import time as now
from typing import Any

import aiohttp
import pytest

from catalyst_seen import (
    AsyncSeenStore,
    Claim,
    ClaimNotOwnedError,
    LeaseLostError,
    Record,
)
from catalyst_seen.feeds import Posted, post

from ..support.processes import free_port
from ..support.web import Asked, Web, answer
from .conftest import Store, Time

Session = aiohttp.ClientSession


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    """A session of the program."""
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
def view(feeds: Store) -> AsyncSeenStore:
    """A namespace whose first items are pending as well."""
    return feeds.store.namespace("n", first="all")


async def put(view: AsyncSeenStore, *keys: str, note: str = '{"a": 1}') -> None:
    """Make items pending."""
    await view.observe(keys, key=str, note=lambda _: note)


async def record_of(view: AsyncSeenStore, key: str) -> Record:
    """Return what the store has of an item."""
    record = await view.get(key)
    assert record is not None
    return record


async def deliver(
    view: AsyncSeenStore, session: Session, url: str, key: str = "k", **options: Any
) -> tuple[Posted, Record]:
    """Post one pending item; return the result, and what the store has of the item."""
    await put(view, key)
    async for claim in view.pending():
        posted = await post(session, url, claim, **options)
        return posted, await record_of(view, claim.key)
    raise AssertionError


class TestAnswers:
    """What each answer means for the item."""

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_accepted(
        self, web: Web, session: Session, view: AsyncSeenStore, status: int
    ) -> None:
        """A success of the request itself confirms the claim."""
        url = web.put("/h", answer(status))
        posted, record = await deliver(view, session, url, json={"a": 1})
        assert posted
        assert posted == Posted("confirmed", status=status)
        assert record.state == "seen"
        (asked,) = web.asked
        assert (asked.method, json.loads(asked.body)) == ("POST", {"a": 1})

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
    async def test_redirect(
        self, web: Web, session: Session, view: AsyncSeenStore, status: int
    ) -> None:
        """A redirect is not followed: the item is held, and the target is named."""
        web.put("/done", answer(200))
        url = web.put("/hook/s3cret", answer(status, Location="/done?s3cret"))
        posted, record = await deliver(view, session, url)
        assert (posted.outcome, posted.status, bool(posted)) == ("held", status, False)
        assert web.paths() == ["/hook/s3cret"]
        assert record.state == "held"
        place = f"127.0.0.1:{web.port}"
        assert str(record.error).startswith(f"{place}: HTTP {status} ")
        assert str(record.error).endswith(f"to {place}, and a POST follows no redirect")
        assert posted.error == record.error

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 451])
    async def test_refused(
        self, web: Web, session: Session, view: AsyncSeenStore, status: int
    ) -> None:
        """A refusal for good holds the item with its reason, until a person decides."""
        url = web.put("/h", answer(status))
        posted, record = await deliver(view, session, url)
        assert (posted.outcome, posted.status) == ("held", status)
        assert record.state == "held"
        assert str(record.error).startswith(f"127.0.0.1:{web.port}: HTTP {status} ")
        assert [claim async for claim in view.pending()] == []
        assert await view.resolve("k", handled=True)

    async def test_reason(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """What a refusal says is kept, as a line of 200 characters at most."""
        said = b'{"message": "Cannot send\nan empty message"}' + b"." * 5_000
        kind = {"Content_Type": "application/json"}
        url = web.put("/h", answer(400, said, **kind))
        posted, record = await deliver(view, session, url)
        reason = str(record.error).partition("Bad Request: ")[2]
        assert reason.startswith('{"message": "Cannot send an empty message"}')
        assert len(reason) == 200
        assert posted.error == record.error

    async def test_page_for_people(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """A page of HTML is no reason."""
        url = web.put("/h", answer(404, b"<html>", Content_Type="text/html"))
        _, record = await deliver(view, session, url)
        assert str(record.error).endswith("HTTP 404 Not Found")

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    async def test_later(
        self,
        web: Web,
        session: Session,
        view: AsyncSeenStore,
        time: Time,
        status: int,
    ) -> None:
        """A trouble that may pass releases the item, with the backoff of the store."""
        url = web.put("/h", answer(status), answer(200))
        posted, record = await deliver(view, session, url)
        assert (posted.outcome, posted.delay) == ("released", None)
        assert record.state == "released"
        assert f"HTTP {status}" in str(record.error)
        assert time() + 25 < (record.until or 0) < time() + 35
        assert [claim async for claim in view.pending()] == []
        time.advance(40)
        posted, record = await deliver(view, session, url)
        assert (posted.outcome, record.state) == ("confirmed", "seen")

    @pytest.mark.parametrize("trouble", ["hanging", "broken", "no server"])
    async def test_no_answer(
        self,
        web: Web,
        session: Session,
        view: AsyncSeenStore,
        unused_tcp_port: int,
        trouble: str,
    ) -> None:
        """A timeout, a broken connection and no connection release the item."""
        never = asyncio.Event()

        async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
            await never.wait()

        url, words = {
            "hanging": (web.put("/h", hang), "no complete answer within 0.05 seconds"),
            "broken": (
                web.put("/b", b""),
                "the server closed the connection without an answer",
            ),
            "no server": (
                f"http://127.0.0.1:{unused_tcp_port}/",
                f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused",
            ),
        }[trouble]
        posted, record = await deliver(view, session, url, timeout=0.05)
        assert (posted.outcome, posted.status) == ("released", None)
        assert record.state == "released"
        assert str(record.error).endswith(words)
        assert len(web.asked) <= 1  # nobody knows what the first one did

    async def test_answer_without_an_end(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """The status counts, whatever becomes of the body after it."""
        url = web.put("/h", answer(200, b"x", Content_Length="999"))
        posted, _ = await deliver(view, session, url)
        assert posted

    async def test_session_that_raises(self, web: Web, view: AsyncSeenStore) -> None:
        """A session that raises for a status changes nothing."""
        url = web.put("/h", answer(404))
        async with Session(raise_for_status=True) as strict:
            posted, _ = await deliver(view, strict, url)
        assert posted.outcome == "held"


class TestRetryAfter:
    """A webhook that asks for a pause gets it, from all items."""

    @pytest.mark.parametrize("status", [429, 503])
    async def test_seconds(
        self,
        web: Web,
        session: Session,
        view: AsyncSeenStore,
        time: Time,
        status: int,
    ) -> None:
        """All items come again after the pause; no other request is made before."""
        await put(view, "1", "2", "3")
        url = web.put("/h", answer(status, Retry_After="600"))
        async for claim in view.pending():
            posted = await post(session, url, claim)
            assert posted.outcome == "released"
            assert posted.delay == pytest.approx(600, abs=300)
        assert len(web.asked) == 1
        for key in "123":
            record = await record_of(view, key)
            assert record.state == "released"
            assert (record.until or 0) > time() + 300

    async def test_date(self, web: Web, session: Session, view: AsyncSeenStore) -> None:
        """The pause may end at a date."""
        date = formatdate(now() + 3_600, usegmt=True)
        url = web.put("/h", answer(503, Retry_After=date))
        posted, _ = await deliver(view, session, url)
        assert posted.delay == pytest.approx(3_600, abs=300)

    async def test_a_day_at_most(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """A pause of a year is a day."""
        url = web.put("/h", answer(429, Retry_After="31536000"))
        posted, _ = await deliver(view, session, url)
        assert posted.delay == 86_400

    async def test_end(
        self, web: Web, session: Session, view: AsyncSeenStore, time: Time
    ) -> None:
        """After the pause the webhook gets requests again."""
        url = web.put("/h", answer(503, Retry_After="0.05"), answer(200))
        posted, _ = await deliver(view, session, url)
        assert posted.outcome == "released"
        async with asyncio.timeout(60):
            while not posted:
                time.advance(60)
                await asyncio.sleep(0.01)
                posted, _ = await deliver(view, session, url)
        assert len(web.asked) == 2

    async def test_rate(self, web: Web, session: Session, view: AsyncSeenStore) -> None:
        """A webhook that counts requests gets all items, each after its pause."""
        await put(view, "1", "2", "3")
        pause = answer(429, Retry_After="0.2")
        url = web.put("/h", answer(200), pause, pause, answer(200))
        started = monotonic()
        posted = [await post(session, url, claim) async for claim in view.pending()]
        assert [one.outcome for one in posted] == ["confirmed"] * 3
        assert len(web.asked) == 5
        assert monotonic() - started >= 0.4

    async def test_rate_for_all(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """Deliveries at once wait for the pause that one of them was asked for."""
        await put(view, "1", "2", "3")
        pauses, good = [answer(429, Retry_After="0.2")] * 3, answer(200)
        url = web.put("/h", *pauses, good)
        claims = [claim async for claim in _all(view)]
        posted = await asyncio.gather(*(post(session, url, one) for one in claims))
        assert all(posted)

    @pytest.mark.parametrize("is_later", [False, True])
    async def test_rate_without_patience(
        self, web: Web, session: Session, view: AsyncSeenStore, *, is_later: bool
    ) -> None:
        """A pause that is longer than ``wait`` releases, whoever was asked for it."""
        await put(view, "1", "2")
        url = web.put("/h", answer(429, Retry_After="5"), answer(200))
        wait = 0.1 if is_later else 0
        async for claim in view.pending():
            posted = await post(session, url, claim, wait=wait)
            assert (posted.outcome, bool(posted.delay)) == ("released", True)
        assert len(web.asked) == 1

    async def test_lease_covers_the_pause(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """The claim stays owned while its webhook is waited for."""
        await put(view, "k")
        url = web.put("/h", answer(429, Retry_After="20"))
        async for claim in view.pending(lease=1):
            posting = asyncio.create_task(post(session, url, claim, timeout=1))
            async with asyncio.timeout(30):
                while claim.remaining() < 20 + 1:
                    await asyncio.sleep(0.01)
            posting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await posting
            await claim.release()

    @pytest.mark.parametrize("status", [None, 408, 425, 429, 502, 503, 504])
    async def test_a_webhook_that_is_away_holds_nothing(
        self, web: Web, session: Session, feeds: Store, time: Time, status: int | None
    ) -> None:
        """However long it is away: all comes when it is back; other errors count."""
        view = feeds.store.namespace("n", first="all", max_attempts=2)
        await put(view, "1")
        url = f"http://127.0.0.1:{free_port()}/h"
        if status is not None:
            url = web.put("/h", *[answer(status)] * 4, answer(500))
        for _ in range(4):
            async for claim in view.pending():
                posted = await post(session, url, claim, wait=0)
                assert (posted.outcome, posted.status) == ("released", status)
            time.advance(3_600)
        if status is not None:
            outcomes = [
                (await post(session, url, c)).outcome async for c in view.pending()
            ]
            assert outcomes == ["held"]

    @pytest.mark.parametrize("status", [429, 503])
    async def test_a_pause_holds_nothing(
        self, web: Web, session: Session, feeds: Store, time: Time, status: int
    ) -> None:
        """Items that were never sent are not held; a failure of the last one is."""
        view = feeds.store.namespace("n", first="all", max_attempts=1)
        await put(view, "1", "2")
        pause = answer(status, Retry_After="0.3")
        url = web.put("/h", pause, answer(500), answer(429), answer(500))
        async for claim in view.pending():
            posted = await post(session, url, claim, wait=0)
            assert posted.outcome == "released"
        await asyncio.sleep(0.4)
        time.advance(60)
        outcomes = {
            claim.key: (await post(session, url, claim, wait=0)).outcome
            async for claim in view.pending()
        }
        assert outcomes == {"1": "held", "2": "released"}
        assert (await record_of(view, "1")).state == "held"
        assert (await record_of(view, "2")).state == "released"

    async def test_others_go_on(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """Other webhooks get their items."""
        await deliver(view, session, web.put("/h", answer(429, Retry_After="60")))
        posted, _ = await deliver(view, session, web.put("/i", answer(200)), "other")
        assert posted


async def _all(view: AsyncSeenStore) -> AsyncIterator[Claim]:
    """Return the claims on what is pending, all at once."""
    for key in [record.key async for record in view.records(state="pending")]:
        claim = await view.claim(key)
        assert claim
        yield claim


class TestRequest:
    """What is sent."""

    async def test_note(self, web: Web, session: Session, view: AsyncSeenStore) -> None:
        """Without a body of its own, the note of the claim is sent as JSON."""
        await put(view, "k", note='{"title": "Größe"}')
        async for claim in view.pending():
            assert await post(session, web.put("/h", answer(200)), claim)
        (asked,) = web.asked
        assert json.loads(asked.body) == {"title": "Größe"}
        assert asked.headers["content-type"] == "application/json"

    async def test_data(self, web: Web, session: Session, view: AsyncSeenStore) -> None:
        """A body and headers of one's own are sent as they are."""
        url = web.put("/h", answer(200))
        headers = {"Content-Type": "text/plain", "Idempotency-Key": "mine"}
        await deliver(view, session, url, data="é", headers=headers)
        (asked,) = web.asked
        assert asked.body == "é".encode()
        assert asked.headers["content-type"] == "text/plain"
        assert asked.headers["idempotency-key"] == "mine"

    async def test_idempotency_key(
        self, web: Web, session: Session, feeds: Store, time: Time
    ) -> None:
        """It is the same at each attempt, and another for each item and namespace."""
        url = web.put("/h", answer(500), answer(200))
        for key, name in [("a", "n"), ("a", "n"), ("b", "n"), ("a", "m")]:
            view = feeds.store.namespace(name, first="all")
            await deliver(view, session, url, key)
            time.advance(60)
        names = [asked.headers["idempotency-key"] for asked in web.asked]
        assert names[0] == names[1]
        assert len(set(names)) == 3

    async def test_sign_in(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """User and password of the address are sent, and not shown."""
        web.put("/h", answer(403))
        url = web.url("/h", sign_in="ann:s3cret")
        posted, record = await deliver(view, session, url)
        assert web.asked[0].headers["authorization"].startswith("Basic ")
        assert "s3cret" not in repr((posted, record))

    async def test_short_lease(
        self, web: Web, session: Session, view: AsyncSeenStore, time: Time
    ) -> None:
        """The lease is extended if the timeout could outlast it."""
        ends = []

        async def look(_: Asked, writer: asyncio.StreamWriter) -> None:
            ends.append((await record_of(view, "k")).until)
            writer.write(answer(500))

        url = web.put("/h", look)
        for lease in (5, 500):
            await put(view, "k")
            async for claim in view.pending(lease=lease):
                await post(session, url, claim, timeout=30)
            time.advance(1_000)
        assert [(end or 0) - time() for end in ends] == [40 - 2_000, 500 - 1_000]


class TestBlocks:
    """The loop is right by itself, and so is a block in it."""

    @pytest.mark.parametrize("has_block", [False, True])
    async def test_each_item_once(
        self, web: Web, session: Session, view: AsyncSeenStore, *, has_block: bool
    ) -> None:
        """Each item is settled by its answer, with a block of the claim or without."""
        answers = {"a": answer(200), "b": answer(404), "c": answer(500)}

        async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(answers[json.loads(asked.body)])

        url = web.put("/h", respond)
        await put(view, *answers)
        async for claim in view.pending():
            if has_block:
                async with claim:
                    await post(session, url, claim, json=claim.key)
            else:
                await post(session, url, claim, json=claim.key)
        states = [(await record_of(view, key)).state for key in answers]
        assert states == ["seen", "held", "released"]
        assert len(web.asked) == 3

    @pytest.mark.parametrize("has_block", [False, True])
    async def test_cancelled(
        self, web: Web, session: Session, view: AsyncSeenStore, *, has_block: bool
    ) -> None:
        """A cancelled delivery gives the claim back."""
        never, arrived = asyncio.Event(), asyncio.Event()

        async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
            arrived.set()
            await never.wait()

        async def work() -> None:
            async for claim in view.pending():
                if has_block:
                    async with claim:
                        await post(session, url, claim)
                await post(session, url, claim)

        url = web.put("/h", hang)
        await put(view, "k")
        task = asyncio.create_task(work())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await record_of(view, "k")).state in {"released", "pending"}


class TestMisuse:
    """What cannot be posted."""

    async def test_not_owned(
        self, web: Web, session: Session, view: AsyncSeenStore
    ) -> None:
        """A claim that is false is refused before anything is sent."""
        await view.mark_seen("k")
        claim = await view.claim("k")
        with pytest.raises(ClaimNotOwnedError):
            await post(session, web.put("/h", answer(200)), claim)
        assert not web.asked

    async def test_lost(self, web: Web, session: Session, view: AsyncSeenStore) -> None:
        """A claim that another owner has now is not confirmed."""

        async def slow(_: Asked, writer: asyncio.StreamWriter) -> None:
            await view.forget("k")
            writer.write(answer(200))

        url = web.put("/h", slow)
        with pytest.raises(LeaseLostError):
            await deliver(view, session, url)

    @pytest.mark.parametrize("options", [{}, {"json": {"a": object()}}])
    async def test_nothing_to_send(
        self, web: Web, session: Session, view: AsyncSeenStore, options: dict[str, Any]
    ) -> None:
        """Without a note, or with a body that is no JSON, the claim is released."""
        await view.observe(["k"])
        url = web.put("/h", answer(200))
        async for claim in view.pending():
            with pytest.raises((TypeError, ValueError), match=r"(?i)json"):
                await post(session, url, claim, **options)
        assert (await record_of(view, "k")).state == "released"
        assert not web.asked

    @pytest.mark.parametrize("url", ["h.example/s3cret", "ftp://h/s3cret", "http://"])
    async def test_no_address(
        self, session: Session, view: AsyncSeenStore, url: str
    ) -> None:
        """What is no address of the web is refused, and not shown."""
        with pytest.raises(ValueError, match="http") as caught:
            await deliver(view, session, url)
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize(
        "given",
        [answer(404), answer(302, Location="//["), answer(500), b"junk\n\n", b""],
    )
    async def test_error_text(
        self, web: Web, session: Session, view: AsyncSeenStore, given: bytes
    ) -> None:
        """The address of a webhook is a secret: reasons have its host only."""
        result = await deliver(view, session, web.put("/s3cret", given))
        assert "s3cret" not in repr(result)
        assert "127.0.0.1" in repr(result)
