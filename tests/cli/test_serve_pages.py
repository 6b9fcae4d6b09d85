"""The pages of ``serve``: who asks at one time, and clients that mean no good."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from catalyst_seen import AsyncSeenStore
from catalyst_seen.cli._serving import pages as of_pages
from catalyst_seen.cli._serving import store as of_store
from catalyst_seen.cli._serving.store import ServedStore
from catalyst_seen.cli._stores import configuration

from ..faults.harness.disks import limited
from ..support.locks import transaction
from ..support.served import OK, Pages, Said, serving
from ..support.tool import Tool
from .conftest import open_store


async def number(pages: Pages, start: str) -> float:
    """Return the number of the series that begins so."""
    _, text = await pages.get("/metrics")
    (line,) = (each for each in text.splitlines() if each.startswith(start))
    return float(line.split()[-1])


@pytest.mark.parametrize("tool", ["valkey", "postgres"], indirect=True)
async def test_passwords_are_not_shown(tool: Tool) -> None:
    """No page has what is needed to sign in."""
    url = re.sub(r"//(\w+@)?", "//user:s3cret@", tool.store)
    async with serving(url) as pages:
        shown = [
            await pages.get(path) for path in ("/", "/readyz", "/metrics", "/livez")
        ]
    assert "s3cret" not in str([shown, pages.said])


async def test_one_probe_at_a_time(on_file: Tool) -> None:
    """However many ask, the database is probed once, and no more for a second."""
    open_store(on_file).close()
    probes = 'catalyst_seen_operations_total{namespace="",outcome="unseen"'
    async with serving(on_file.store) as pages:
        await pages.until(OK)
        with transaction(Path(on_file.store), "BEGIN IMMEDIATE"):
            await asyncio.sleep(of_store.FRESH)
            before = await number(pages, probes)
            asking = [asyncio.create_task(pages.get("/readyz")) for _ in range(50)]
            assert (await pages.get("/livez"))[0] == OK
            assert not any(each.done() for each in asking)
        assert {status for status, _ in await asyncio.gather(*asking)} == {OK}
        assert await number(pages, probes) - before <= 2


async def test_own_fault(
    on_file: Tool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error of the program is one answer, and said; the next request is served."""
    open_store(on_file).close()
    async with serving(on_file.store) as pages:
        with monkeypatch.context() as broken:
            broken.delattr(of_pages, "choose_encoder")
            status, text = await pages.get("/metrics")
        assert (status, "NameError" in text) == (500, False)
        assert "please report it" in (said := capfd.readouterr().err)
        assert "NameError" in said
        assert (await pages.get("/metrics"))[0] == OK


class TestHostile:
    """Clients that are wrong, slow or many; the pages answer others meanwhile."""

    async def test_wrong_requests(
        self, on_file: Tool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is no request for a page is refused, without a word in the log."""
        open_store(on_file).close()
        caplog.clear()
        async with serving(on_file.store) as pages:
            for request, status in {
                "GET /metrics/../x HTTP/1.1\r\nHost: x": 404,
                "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999": 405,
                "DELETE / HTTP/1.1\r\nHost: x": 405,
                "BREW /metrics HTTP/1.1\r\nHost: x": 400,
                f"GET / HTTP/1.1\r\nHost: x\r\nX: {'x' * 100_000}": 400,
                "\0\1\2\3": 400,
            }.items():
                answer = await asyncio.to_thread(exchanged, pages.url, request)
                assert answer.split()[1] == str(status).encode(), request
            status, text = await pages.get("/%ff%00")
            assert (status, text) == (404, "404 Not Found; / lists the pages\n")
            assert (await pages.get("/livez"))[0] == OK
        assert not caplog.records

    async def test_many_connections(self, on_file: Tool) -> None:
        """A thousand idle connections, and some that read nothing, keep nobody out."""
        open_store(on_file).close()
        with limited(resource.RLIMIT_NOFILE, 4_096):
            async with serving(on_file.store) as pages:
                await pages.until(OK)
                opened = [await connection(pages) for _ in range(1_000)]
                for _, writer in opened[::2]:
                    writer.write(b"GET /metrics HTTP/1.1\r\n" * 2)
                assert (await pages.get("/metrics"))[0] == OK
                assert (await pages.get("/readyz"))[0] == OK
                async with asyncio.timeout(60):
                    for reader, _ in opened[:800]:
                        await ended(reader)
                for _, writer in opened:
                    writer.close()

    async def test_slow_request(self, on_file: Tool) -> None:
        """A request that never ends is ended, so that nobody can keep what is open."""
        open_store(on_file).close()
        async with serving(on_file.store, longest=0.05) as pages:
            reader, writer = await connection(pages)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
            async with asyncio.timeout(60):
                await ended(reader)
            writer.close()


async def test_store_that_does_not_close(
    on_file: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that waits for a lock when it is closed does not delay the end."""
    open_store(on_file).close()

    async def hang(_: AsyncSeenStore) -> None:
        await asyncio.Event().wait()

    config = configuration(on_file.store, create=False)
    served = ServedStore(Said(), config, 60.0)
    async with asyncio.timeout(60):
        async with served.kept():
            assert await served.health()
            store = await served.opened()
            monkeypatch.setattr(AsyncSeenStore, "aclose", hang)
    monkeypatch.undo()
    assert isinstance(store, AsyncSeenStore)
    await store.aclose()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connection(pages: Pages) -> Connection:
    """Connect to the pages."""
    host, port = pages.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait for the end of a connection, in whatever way it comes."""
    with suppress(ConnectionError):
        await reader.read()


def connected(url: str) -> socket.socket:
    """Connect to where an address leads."""
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def exchanged(url: str, request: str) -> bytes:
    """Send a request as it is, and return the first part of the answer."""
    with connected(url) as client:
        client.sendall(f"{request}\r\n\r\n".encode())
        return client.recv(4096)
