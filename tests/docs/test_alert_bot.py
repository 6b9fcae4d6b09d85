"""The alert bot, as a user starts it, with feeds and webhooks that fail."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from ..support.feeds import ROOT, Site, numbered

SCRIPT = ROOT / "examples" / "alert_bot.py"


@dataclass
class Hook:
    """A webhook: its address, its answer, and what it got."""

    url: str
    status: int = 204
    taken: Counter[str] = field(default_factory=Counter)
    names: dict[str, set[str]] = field(default_factory=dict)


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Serve a webhook on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            title = json.loads(self.rfile.read(size))["title"]
            made.names.setdefault(title, set()).add(self.headers["Idempotency-Key"])
            made.taken[title] += made.status == 204
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(f"http://user:secret@127.0.0.1:{server.server_port}/hook?token=x")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the bot to its end; every entry of a new feed counts."""
    words = [sys.executable, str(SCRIPT), "--db", str(path), "--first", "99"]
    return subprocess.run(
        [*words, *arguments], capture_output=True, check=False, text=True, timeout=200
    )


def test_it_is_short() -> None:
    """It has at most 60 lines."""
    assert len(SCRIPT.read_text().splitlines()) <= 60


def test_each_once(site: Site, path: Path, hook: Hook) -> None:
    """A webhook that takes everything gets each entry once, over many runs."""
    for last in (3, 5, 5):
        url = site.put("feed", numbered(range(last)))
        done = run(path, "--webhook", hook.url, url)
        assert done.returncode == 0
    assert hook.taken == Counter(f"Title {number}" for number in range(5))


def test_webhook_is_down(site: Site, path: Path, hook: Hook) -> None:
    """What could not be delivered is pending with its error, and then delivered."""
    url = site.put("feed", numbered(range(3)))
    hook.status = 503
    done = run(path, "--webhook", hook.url, url)
    assert "HTTP 503" in done.stderr
    assert "secret" not in done.stderr
    assert "token" not in done.stderr
    site.put("feed", numbered(range(3, 5)))  # it has moved on
    hook.status = 204
    with SeenStore(path) as store:
        feed = store.namespace(url)
        assert len([*feed.records(state="released")]) == 3
        for key in ("id 0", "id 1", "id 2"):  # instead of waiting for the pause
            record = feed.get(key)
            assert record is not None
            assert "503" in (record.error or "")
            feed.forget(key)
    site.put("feed", numbered(range(5)))
    run(path, "--webhook", hook.url, url)
    assert hook.taken == Counter(f"Title {number}" for number in range(5))
    assert all(len(names) == 1 for names in hook.names.values())


@pytest.mark.parametrize("status", [302, 400, 404, 410])
def test_refusal_is_held(site: Site, path: Path, hook: Hook, status: int) -> None:
    """A permanent refusal, and a redirect, is kept for a person, and not repeated."""
    url = site.put("feed", numbered(range(2)))
    hook.status = status
    assert f"HTTP {status}" in run(path, "--webhook", hook.url, url).stderr
    hook.status = 204
    done = run(path, "--webhook", hook.url, url)
    assert done.stderr == "0 entries delivered\n"
    assert hook.taken.total() == 0
    with SeenStore(path) as store:
        held = store.namespace(url).held()
        assert [one.note is not None for one in held] == [True, True]
        assert f"HTTP {status}" in (held[0].error or "")


def test_bad_sources(site: Site, path: Path, hook: Hook) -> None:
    """A source that is no feed is reported; the others are delivered."""
    good = site.put("good", numbered(range(2)))
    bad = site.put("bad", "<!doctype html>")
    done = run(path, "--webhook", hook.url, bad, good, "nowhere.xml")
    assert f"{bad}: " in done.stderr
    assert "nowhere.xml: " in done.stderr
    assert hook.taken.total() == 2


def test_bad_options(path: Path) -> None:
    """Bad options are refused in words; --help says what it does."""
    assert "--webhook URL" in run(path, "--help").stdout
    done = run(path, "--every", "soon")
    assert "every must be" in done.stderr
    assert done.returncode == 1
