"""Answers of servers that are right, wrong in their frame, or too large."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest

from catalyst_seen.feeds import Feed, Poller

from ..support.feeds import numbered, rss
from ..support.scripts import Run
from ..support.web import Asked, Web, answer
from .conftest import MakePoller, Store

ONE = rss("<guid>1</guid><title>One</title>").encode()


async def keys(poller: Poller, feed: Feed | str) -> list[str]:
    """Poll once, and return the keys of the listing."""
    poll = await poller.poll(feed)
    assert poll.listing is not None, poll.error
    return [entry.key for entry in poll.listing.entries]


async def error(poller: Poller, feed: Feed | str) -> str:
    """Poll once, and return why there is no listing."""
    poll = await poller.poll(feed)
    assert poll.outcome == "failed"
    assert poll.error is not None
    return poll.error


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return an answer in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return answer(200, body + end, Transfer_Encoding="chunked")


class TestHeads:
    """Large and strange heads of answers."""

    @pytest.mark.parametrize("size", [9_000, 60_000])
    async def test_large_header(self, web: Web, poller: Poller, size: int) -> None:
        """A header far larger than usual does not hide a feed."""
        url = web.put("/f", answer(200, ONE, Content_Security_Policy="x" * size))
        assert await keys(poller, url) == ["1"]

    async def test_huge_header_is_no_status(self, web: Web, poller: Poller) -> None:
        """A header that is refused here is not shown as a status of the server."""
        url = web.put("/f", answer(200, ONE, X="s3cret" * 20_000))
        text = await error(poller, url)
        assert "header that is too large" in text
        assert "400" not in text
        assert "s3cret" not in text

    async def test_many_headers(self, web: Web, poller: Poller) -> None:
        """A hundred cookies do not hide a feed."""
        cookies = [f"Set-Cookie: c{n}={n}" for n in range(100)]
        assert await keys(poller, web.put("/f", answer(200, ONE, *cookies))) == ["1"]

    async def test_no_http(self, web: Web, poller: Poller) -> None:
        """A server that does not speak HTTP is named so, without its words."""
        text = await error(poller, web.put("/f", b"s3cret\r\n\r\n"))
        assert "not HTTP" in text
        assert "s3cret" not in text

    @pytest.mark.parametrize("status", [200, 203, 206])
    async def test_statuses_of_success(
        self, web: Web, poller: Poller, status: int
    ) -> None:
        """Every success with a document is one."""
        assert await keys(poller, web.put("/f", answer(status, ONE))) == ["1"]


class TestFrames:
    """The frame of a body ends too early, too late, or never."""

    @pytest.mark.parametrize(
        "given",
        [
            pytest.param(chunked(ONE, end=b""), id="no last chunk"),
            pytest.param(chunked(ONE[:40], ONE[40:], end=b""), id="two, no last"),
            pytest.param(chunked(ONE, end=b"0\r\n"), id="half of the last chunk"),
            pytest.param(chunked(ONE, end=b"ff"), id="half of a next chunk"),
            pytest.param(answer(200, ONE, Content_Length="9999"), id="too long"),
            pytest.param(answer(200, ONE, Content_Length="99999999999"), id="huge"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ONE, id="no length"
            ),
            pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + ONE, id="HTTP/1.0"),
        ],
    )
    async def test_complete_document(
        self, web: Web, poller: Poller, given: bytes
    ) -> None:
        """A complete document is taken, whatever is wrong with its frame."""
        assert await keys(poller, web.put("/f", given)) == ["1"]

    @pytest.mark.parametrize(
        "given",
        [
            chunked(ONE[:-5], end=b""),
            answer(200, ONE[:-5], Content_Length="9999"),
            answer(200, gzip.compress(ONE)[:-12], Content_Encoding="gzip"),
        ],
    )
    async def test_incomplete_document(
        self, web: Web, poller: Poller, feeds: Store, given: bytes
    ) -> None:
        """A document without its end is refused, and its frame is the cause."""
        url = web.put("/f", given)
        assert "end" in await error(poller, url)
        assert await feeds.keys(url) == []

    async def test_broken_before_the_answer(self, web: Web, poller: Poller) -> None:
        """A connection that ends without an answer is tried again in the same poll."""
        url = web.put("/f", b"", b"", answer(200, ONE))
        assert await keys(poller, url) == ["1"]

    async def test_never_an_answer(self, web: Web, make_poller: MakePoller) -> None:
        """A server without an answer fails the poll after a few requests."""
        async with make_poller() as poller:
            text = await error(poller, web.put("/f", b""))
        assert text == "the server closed the connection without an answer"
        assert 3 <= len(web.asked) <= 6  # aiohttp repeats a request once by itself

    @pytest.mark.parametrize("is_complete", [False, True])
    async def test_timeout(
        self, web: Web, make_poller: MakePoller, *, is_complete: bool
    ) -> None:
        """A server that never ends is given up after the timeout, without a retry.

        What it has sent until then is read if it is a complete document.
        """
        never = asyncio.Event()
        sent = ONE if is_complete else ONE[:-20]

        async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(200, sent, Content_Length="9999"))
            await writer.drain()
            await never.wait()

        url = web.put("/f", hang)
        async with make_poller(timeout=0.2) as poller:
            if is_complete:
                assert (await poller.poll(url)).outcome == "listing"
            else:
                assert "within 0.2 seconds" in await error(poller, url)
        assert len(web.asked) == 1

    async def test_cancelled(self, web: Web, poller: Poller) -> None:
        """A poll that is cancelled ends at once, and asks no more."""
        arrived = asyncio.Event()

        async def hang(_: Asked, __: asyncio.StreamWriter) -> None:
            arrived.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(poller.poll(web.put("/f", hang)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(web.asked) == 1

    async def test_refused_connection(
        self, poller: Poller, unused_tcp_port: int
    ) -> None:
        """A host without a server is named in one clear text."""
        text = await error(poller, f"http://127.0.0.1:{unused_tcp_port}/f")
        assert text == (
            f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused"
        )


def raw_deflate(body: bytes) -> bytes:
    """Pack without the frame of zlib, as some servers do."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip twice": lambda body: gzip.compress(gzip.compress(body)),
    "gzip members": lambda body: gzip.compress(body[:30]) + gzip.compress(body[30:]),
    "gzip and junk": lambda body: gzip.compress(body) + b"\0" * 50,
    "zlib": zlib.compress,
    "deflate": raw_deflate,
}


class TestPacking:
    """The body and ``Content-Encoding`` may disagree."""

    @pytest.mark.parametrize(
        ("packing", "encoding"),
        [
            ("gzip", ""),
            ("gzip", "gzip"),
            ("gzip", "x-gzip"),
            ("gzip", "deflate"),
            ("gzip", "br"),
            ("gzip twice", ""),
            ("gzip twice", "gzip"),
            ("gzip twice", "gzip, gzip"),
            ("gzip members", "gzip"),
            ("gzip and junk", "gzip"),
            ("zlib", "deflate"),
            ("deflate", "deflate"),
            ("plain", "gzip"),
            ("plain", "deflate"),
            ("plain", "br"),
            ("plain", "utf-8"),
        ],
    )
    @pytest.mark.parametrize("size", [1, 200])
    async def test_all_that_can_be_read(
        self, web: Web, poller: Poller, packing: str, encoding: str, size: int
    ) -> None:
        """The bytes decide how a body is unpacked, and not the header."""
        body = PACKED[packing](numbered(range(size)).encode())
        headers = {"Content_Encoding": encoding} if encoding else {}
        url = web.put("/f", answer(200, body, **headers))
        assert len(await keys(poller, url)) == size

    async def test_only_what_is_understood_is_asked_for(
        self, web: Web, poller: Poller
    ) -> None:
        """A request names the packings that are unpacked here."""
        await poller.poll(web.put("/f", answer(200, ONE)))
        assert web.asked[0].headers["accept-encoding"] == "gzip, deflate"

    async def test_unknown_packing(self, web: Web, poller: Poller) -> None:
        """A body that nothing here unpacks is named so."""
        url = web.put("/f", answer(200, b"\x0b\x02\x80abc", Content_Encoding="br"))
        assert "packed in a way that was not asked for" in await error(poller, url)

    async def test_damaged(self, web: Web, poller: Poller) -> None:
        """A packed body that is damaged is no listing."""
        body = bytearray(gzip.compress(numbered(range(500)).encode()))
        body[len(body) // 2] ^= 0xFF
        url = web.put("/f", answer(200, bytes(body), Content_Encoding="gzip"))
        assert "the packed body" in await error(poller, url)


class TestSizes:
    """A body is refused while it arrives, before it fills the memory."""

    @pytest.mark.parametrize("encoding", ["", "gzip"])
    @pytest.mark.parametrize("layers", [0, 1, 2])
    async def test_limit(
        self, web: Web, make_poller: MakePoller, encoding: str, layers: int
    ) -> None:
        """The limit is for the unpacked body, however it was packed."""
        body = b"<rss>" + b" " * 2_000_000
        for _ in range(layers):
            body = gzip.compress(body)
        headers = {"Content_Encoding": encoding} if encoding else {}
        url = web.put("/f", answer(200, body, **headers))
        async with make_poller(max_bytes=1_000_000) as poller:
            assert await error(poller, url) == "the body has more than 1,000,000 bytes"

    async def test_body_of_the_limit(self, web: Web, make_poller: MakePoller) -> None:
        """A body of exactly the limit is read, packed or not."""
        packed = gzip.compress(ONE)
        web.put("/f", answer(200, ONE))
        web.put("/g", answer(200, packed))
        async with make_poller(max_bytes=len(ONE)) as poller:
            assert await keys(poller, web.url("/f")) == ["1"]
            assert await keys(poller, web.url("/g")) == ["1"]

    def test_memory(self, run_script: Run) -> None:
        """A bomb fills no memory beyond the limit before it is refused."""
        done = run_script("""
            import gzip, tracemalloc
            from catalyst_seen.feeds._unpack import Body, TooLargeError
            bomb = gzip.compress(b" " * 50_000_000)
            body = Body(1_000_000, "gzip")
            tracemalloc.start()
            try:
                body.feed(bomb)
            except TooLargeError:
                print(tracemalloc.get_traced_memory()[1])
        """)
        assert int(done.stdout) < 10_000_000, done.stderr

    @pytest.mark.parametrize("is_packed", [False, True])
    async def test_endless(
        self, web: Web, make_poller: MakePoller, *, is_packed: bool
    ) -> None:
        """A body without an end is refused as soon as it is too large."""
        packer = zlib.compressobj(wbits=31)
        ended = asyncio.Event()

        async def endless(_: Asked, writer: asyncio.StreamWriter) -> None:
            head = answer(200, b"", Content_Length="99999999999")
            writer.write(head)
            try:
                while True:
                    part = b" " * 100_000
                    if is_packed:
                        part = packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)  # a drain alone lets nobody else run
            except OSError:
                ended.set()
                raise

        url = web.put("/f", endless)
        async with make_poller(max_bytes=1_000_000, timeout=60) as poller:
            assert "more than 1,000,000 bytes" in await error(poller, url)
            async with asyncio.timeout(60):
                await ended.wait()
