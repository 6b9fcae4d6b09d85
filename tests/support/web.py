"""A web server that sends the bytes of a test, and notes what it is asked."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Respond = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """The server. The last answer of a path repeats; a path without any gets 404."""

    host: str = "127.0.0.1"
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    answers: dict[str, list[bytes | Respond]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def put(self, path: str, *answers: bytes | Respond) -> str:
        """Put answers under a path, and return its address."""
        self.answers[path] = list(answers)
        return self.url(path)

    def url(self, path: str, *, host: str | None = None, sign_in: str = "") -> str:
        """Return the address of a path; ``localhost`` is another host to clients."""
        at = f"{sign_in}@" if sign_in else ""
        return f"http://{at}{host or self.host}:{self.port}{path}"

    def paths(self) -> list[str]:
        """Return the paths that were asked, in order."""
        return [asked.path for asked in self.asked]

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request, and close the connection."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            self.at_once -= 1
            writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked = await _read(reader)
        self.asked.append(asked)
        queue = self.answers[asked.path.partition("?")[0]]
        given = queue.pop(0) if len(queue) > 1 else (*queue, answer(404))[0]
        if isinstance(given, bytes):
            writer.write(given)
        else:
            await given(asked, writer)
        if writer.can_write_eof():
            writer.write_eof()
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        before = headers.get(name.lower())
        headers[name.lower()] = (
            f"{before}, {value.strip()}" if before else value.strip()
        )
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


def answer(
    status: int = 200, body: bytes | str = b"", /, *extra: str, **headers: str
) -> bytes:
    """Return an answer; ``Content_Length`` names the header ``Content-Length``."""
    data = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if "Transfer-Encoding" not in named and status != 304:
        named.setdefault("Content-Length", str(len(data)))
    lines = [f"HTTP/1.1 {status} X", *(f"{n}: {v}" for n, v in named.items()), *extra]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


@asynccontextmanager
async def web_server() -> AsyncIterator[Web]:
    """Serve on a free port of this machine, in this event loop."""
    web = Web()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(web.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
