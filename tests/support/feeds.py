"""Feeds for tests: real ones, made ones, and a server for them."""

from __future__ import annotations

import hashlib
import html
import http.server
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
REAL_FEEDS = ROOT.parent / "shared" / "feeds"


@dataclass
class Page:
    """What the server answers under one path."""

    body: bytes = b""
    status: int = 200
    delay: float = 0.0
    has_etag: bool = True
    answers: Counter[int] = field(default_factory=Counter)


class Site:
    """A local server whose pages a test may change at any time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Page] = {}
        self.at_once = self.most_at_once = 0

    def put(self, name: str, body: bytes | str, **options: object) -> str:
        """Put a page there, and return its URL."""
        text = body.encode() if isinstance(body, str) else body
        page = self.pages.setdefault(name, Page())
        page.body = text
        for option, value in {"status": 200, "delay": 0.0, **options}.items():
            setattr(page, option, value)
        return f"{self.url}/{name}"


@contextmanager
def serving() -> Iterator[Site]:
    """Serve pages on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = made.pages[self.path.lstrip("/")]
            made.at_once += 1
            made.most_at_once = max(made.most_at_once, made.at_once)
            etag = f'"{hashlib.sha256(page.body).hexdigest()[:16]}"'
            time.sleep(page.delay)
            made.at_once -= 1
            same = page.has_etag and self.headers.get("If-None-Match") == etag
            status = 304 if same and page.status == 200 else page.status
            page.answers[status] += 1
            self.send_response(status)
            if page.has_etag:
                self.send_header("ETag", etag)
            self.send_header("Content-Type", "application/xml")
            if status != 304:
                self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if status != 304:
                self.wfile.write(page.body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def rss(*items: str) -> str:
    """Make a feed of items that are given as XML."""
    inside = "".join(f"<item>{item}</item>" for item in items)
    return f"<rss version='2.0'><channel><title>T</title>{inside}</channel></rss>"


def numbered(numbers: range) -> str:
    """Make a feed with a guid for each number."""
    return rss(*(f"<guid>id {n}</guid><title>Title {n}</title>" for n in numbers))


def ids_of(body: bytes) -> list[str] | None:
    """Read the identities of a feed with another parser; ``None`` if it is broken."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - a file of our own choice
    except ET.ParseError:
        return None
    items = root.iter("item")
    texts = (item.findtext("guid") or item.findtext("link") or "" for item in items)
    return [html.unescape(text.strip()) for text in texts]
