"""``watch --exec``: a command for each entry."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, Claim, Record, SeenStore
from catalyst_seen.cli._children import ErrorOutput
from catalyst_seen.cli._feeds import deliveries as module
from catalyst_seen.cli._feeds.deliveries import Deliveries, DeliveryError
from catalyst_seen.cli._feeds.wanted import EntryFilter
from catalyst_seen.cli._feeds.watching import Watching
from catalyst_seen.cli._settings import Settings
from catalyst_seen.feeds import Entry, Feed

from ..support.feeds import ROOT, Site, numbered, rss
from ..support.processes import free_port
from ..support.tool import Tool, is_gone, wait_until_gone
from ..support.web import answer, web_server
from .conftest import open_store

ONCE = ("watch", "--once", "--first", "all", "-n", "news")


def script(tool: Tool, text: str) -> str:
    """Write a script of a shell, and return its path."""
    path = tool.folder / "command.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def record(tool: Tool, key: str) -> Record:
    """Return what the store knows of an entry."""
    with open_store(tool) as store:
        found = store.get(key, namespace="news")
    assert found is not None
    return found


def test_each_entry_once(tool: Tool, site: Site) -> None:
    """The command has the entry on its input and in variables, and 0 confirms."""
    item = "<guid>k 1</guid><title>$(id) 'é'</title><link>https://x.example/1</link>"
    url = site.put("feed", rss(item))
    names = "$ENTRY_TITLE|$ENTRY_LINK|$ENTRY_KEY|$ENTRY_FEED|$ENTRY_SOURCE"
    program = script(tool, f'cat; echo "{names}|$ENTRY_ATTEMPT|$*"')
    done = tool.run(*ONCE, "--exec", f"{program} a 'b c'", url)
    first, second = done.out.splitlines()
    assert done.code == 0
    assert json.loads(first)["title"] == "$(id) 'é'"
    assert second == "$(id) 'é'|https://x.example/1|k 1|T|news|1|a b c"
    assert tool.run(*ONCE, "--exec", program, url).out == ""


@pytest.mark.skipif(not shutil.which("jq"), reason="the example needs jq")
@pytest.mark.skipif(not shutil.which("curl"), reason="the example needs curl")
async def test_example(on_file: Tool) -> None:
    """The script of the documents sends each entry, after each pause, or keeps it."""
    title = "<title>\"quoted\" 'é' $(id)</title>"
    named = f"<guid>1</guid>{title}<link>https://x.example/1</link>"
    long = "no title " + "0" * 4_000
    plain = f"<guid>{{}}</guid><description>{long}</description>"
    items = [*(plain.format(number) for number in (4, 3, 5, 2)), named]
    program = str(ROOT / "examples/send.sh")
    words = (*ONCE, "--max-attempts", "1", "--exec", program)
    async with web_server() as web:
        feed = web.put("/feed", answer(200, rss(*reversed(items))))
        answers = {
            "1": [answer(429, Retry_After="1"), answer(204)],
            "2": [answer(400, '{"code": 50006}\n')],
            "5": [answer(429, Retry_After="900")],
            "3": [answer(503), answer(502, "<html>\n")],
            "4": [answer(503), answer(200, "is not HTTP 200")],
        }
        hook = web.put("/hook", *(one for each in answers.values() for one in each))
        on_file.environment["WEBHOOK"] = hook
        done = await asyncio.to_thread(on_file.run, *words, feed)
        sent = [json.loads(asked.body) for asked in web.asked if asked.path == "/hook"]
    assert done.code == 4
    text = "\"quoted\" 'é' $(id) https://x.example/1"
    assert [one["content"].strip() for one in sent] == [text, text, *[long[:1_500]] * 6]
    known = {key: record(on_file, key) for key in answers}
    assert {key: (one.state, one.error) for key, one in known.items()} == {
        "1": ("seen", None),
        "2": ("held", "exit code 1: HTTP 400"),
        "3": ("released", "exit code 75 (later): HTTP 502"),
        "4": ("seen", None),
        "5": ("released", "exit code 75 (later): HTTP 429"),
    }


@pytest.mark.skipif(not shutil.which("jq"), reason="the example needs jq")
@pytest.mark.skipif(not shutil.which("curl"), reason="the example needs curl")
def test_example_without_webhook(on_file: Tool, site: Site) -> None:
    """A webhook that is away, or not named, is said, and loses nothing."""
    url = site.put("feed", numbered(range(1)))
    program = str(ROOT / "examples/send.sh")
    words = (*ONCE, "--max-attempts", "2", "--exec", program, url)
    on_file.environment["WEBHOOK"] = f"http://127.0.0.1:{free_port()}/hook"
    assert on_file.run(*words).code == 4
    found = record(on_file, "id 0")
    assert found.state == "released"
    assert found.error
    assert found.error.startswith("exit code 75 (later): curl: (7) ")
    with open_store(on_file) as store:
        store.forget("id 0", namespace="news")
    on_file.environment["WEBHOOK"] = ""
    assert "WEBHOOK: is not set" in on_file.run(*words).err
    assert record(on_file, "id 0").state == "released"


def test_failed(tool: Tool, site: Site) -> None:
    """A failed command is said, kept with the entry, and stops no other entry."""
    url = site.put("feed", numbered(range(3)))
    fail = "printf 'a\\nlast http://u:p@x/1\\n\\n' >&2; exit 7"
    program = script(
        tool, f'echo "$ENTRY_KEY"; [ "$ENTRY_KEY" != "id 1" ] || {{ {fail}; }}'
    )
    done = tool.run(*ONCE, "--exec", program, url)
    assert (done.code, done.out) == (4, "id 0\nid 1\nid 2\n")
    error = "exit code 7: last http://u:p@x/1; again by a run after 30s"
    assert "a\nlast http://u:p@x/1\n\n" in done.err
    assert f"news: Title 1: {error}\n" in done.err
    assert "2 entries, 1 failed deliveries, 1 waiting" in done.err
    found = record(tool, "id 1")
    assert found.state == "released"
    assert found.error == "exit code 7: last http://…"


def test_quiet(on_file: Tool, site: Site) -> None:
    """What needs a person is said with --quiet as well, and nothing else."""
    url = site.put("feed", numbered(range(2)))
    away = "echo away >&2; exit 75"
    lines = (
        f'echo "why it fails" >&2; test "$ENTRY_KEY" = "id 1" && {{ {away}; }}; exit 1'
    )
    program = script(on_file, lines)
    words = ("watch", "-q", *ONCE[1:], "--max-attempts", "1", "--exec", program, url)
    done = on_file.run(*words)
    assert done.err == (
        "catalyst-seen: news: Title 0: exit code 1: why it fails; held after 1 attempt,"
        " see catalyst-seen held\n"
    )
    assert on_file.run(*words).err == ""
    site.put("feed", "", status=500)
    assert "HTTP 500" in on_file.run(*words).err
    assert on_file.run(*words).err == ""  # it was said


async def test_says_at_once(tool: Tool, site: Site) -> None:
    """What a command reports is shown while it runs, and all of it."""
    url = site.put("feed", numbered(range(1)))
    much = "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123; "
    text = f"({much} i=$((i+1)); done; echo the end) >&2; echo ready; exec sleep 3600"
    started = tool.start(*ONCE, "--exec", script(tool, text), url)
    assert started.stdout is not None
    assert started.stderr is not None
    seen = b""
    while b"the end" not in seen:
        line = await asyncio.to_thread(started.stderr.readline)
        assert line
        seen += line
    assert seen.count(b"0123456789012345678901234567890123\n") == 3_000
    started.send_signal(signal.SIGINT)
    await asyncio.to_thread(started.communicate)


async def test_last_line() -> None:
    """What a child wrote just before its end counts, whatever the loop has read."""
    errors = ErrorOutput()
    assert errors.last_line() == ""
    with errors.input as target:
        target.write(b"first\n 50 %\r100 %\r\n \n")
        assert errors.last_line() == "100 %"
        target.write(b"caf\xe9")
    assert [errors.last_line() for _ in "12"] == ["caf\ufffd"] * 2


def test_left_running(tool: Tool, site: Site) -> None:
    """What a command leaves running is not waited for, and may still report."""
    url = site.put("feed", numbered(range(2)))
    child = "(sleep 0.5; echo late >&2; echo alive >>survivor) & "
    fast = '[ "$ENTRY_KEY" != "id 1" ] || sleep 1; echo early >&2'
    done = tool.run(*ONCE, "--exec", script(tool, child + fast), url)
    assert done.code == 0
    assert "early\n" in done.err
    assert "late\n" in done.err
    assert (tool.folder / "survivor").exists()


def test_later_and_held(on_file: Tool, site: Site) -> None:
    """After --max-attempts an entry is held, which is said; 75 never holds it."""
    url = site.put("feed", numbered(range(2)))
    program = script(on_file, '[ "$ENTRY_KEY" = "id 1" ] && exit 75; kill -9 $$')
    words = (*ONCE, "--max-attempts", "1", "--exec", program, url)
    done = on_file.run(*words)
    assert done.code == 4
    assert "news: Title 0: killed by SIGKILL; held after 1 attempt," in done.err
    states = [record(on_file, key).state for key in ("id 0", "id 1")]
    assert states == ["held", "released"]
    assert "news: 1 held, see catalyst-seen held -n news" in on_file.run(*words).err


def test_timeout(on_file: Tool, site: Site) -> None:
    """A command that takes too long is ended, with what it has started."""
    url = site.put("feed", numbered(range(1)))
    program = script(on_file, "sleep 3600 & echo $!; wait")
    done = on_file.run(*ONCE, "--timeout", "200ms", "--exec", program, url)
    assert done.code == 4
    assert "not done within 200ms" in done.err
    assert is_gone(int(done.out))


def test_signal(on_file: Tool, site: Site) -> None:
    """Ctrl-C ends the command, and the entry comes again at once."""
    url = site.put("feed", numbered(range(1)))
    program = script(on_file, "echo $$; exec sleep 3600")
    started = on_file.start(*ONCE, "--exec", program, url)
    assert started.stdout is not None
    child = int(started.stdout.readline())
    started.send_signal(signal.SIGINT)
    started.communicate()
    assert started.returncode == 130
    assert is_gone(child)
    assert on_file.run(*ONCE, "--exec", "cat", url).rows[0]["key"] == "id 0"


def test_killed(on_file: Tool, site: Site) -> None:
    """What a killed process was at comes again when its lease is over; no other.

    The system ends the command: it does not run beside the next one.
    """
    url = site.put("feed", numbered(range(2)))
    program = script(
        on_file, '[ "$ENTRY_KEY" = "id 0" ] || { echo $$; exec sleep 3600; }'
    )
    started = on_file.start(*ONCE, "--exec", program, url)
    assert started.stdout is not None
    child = int(started.stdout.readline())
    started.kill()
    started.wait()
    wait_until_gone(child)
    for pipe in (started.stdin, started.stdout, started.stderr):
        assert pipe is not None
        pipe.close()
    done = on_file.run(*ONCE, "--exec", "cat", url)
    assert (done.out, done.code) == ("", 0)
    assert "1 waiting" in done.err
    with SeenStore(on_file.store, clock=lambda: time.time() + 3_600) as store:
        again = []
        for claim in store.pending(namespace="news"):
            with claim:
                again.append((claim.key, claim.attempt))
    assert again == [("id 1", 2)]


def test_no_program(on_file: Tool, site: Site) -> None:
    """A command that cannot be run is refused before anything is polled."""
    url = site.put("feed", numbered(range(1)))
    for program in ("", "no-such-program x", "./missing", "sh -c 'open"):
        done = on_file.run(*ONCE, "--exec", program, url)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
    assert on_file.run(*ONCE, "--timeout", "1s", url).code == 2
    assert on_file.run(*ONCE, "--format", "text", "--exec", "cat", url).code == 2
    assert not site.pages["feed"].answers
    assert not list(on_file.folder.iterdir())


def test_input_that_is_not_read(on_file: Tool, site: Site) -> None:
    """A command need not read the entry, however long that is."""
    about = f"<guid>1</guid><description>{'x ' * 40_000}</description>"
    url = site.put("feed", rss(about, "<guid>2</guid><title>&#0;</title>"))
    done = on_file.run(*ONCE, "--exec", "true", url)
    assert done.code in {0, 4}  # the second one makes the feed malformed, as NUL does
    url = site.put("feed", rss(about))
    assert on_file.run(*ONCE, "--exec", "true", url).code == 0


async def test_another_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run that goes on, a failed entry comes again after its pause."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)
    attempts: list[int] = []

    class Failing:
        async def deliver(self, entry: Entry, claim: Claim) -> None:
            attempts.append(claim.attempt)
            if claim.attempt < 3:
                raise DeliveryError(entry.key)

    async with AsyncSeenStore(":memory:") as store:
        view = store.namespace("news", first="all")
        await view.observe(["a"], key=str)
        deliveries = Deliveries(Settings(), Failing(), EntryFilter(), None)
        await deliveries.deliver(view, "news", "news")
        while (pause := deliveries.pause()) is not None and len(attempts) < 3:
            await asyncio.sleep(pause)
            await deliveries.deliver_again()
        assert attempts == [1, 2, 3]
        assert await view.is_seen("a")


@pytest.mark.parametrize("is_once", [True, False])
async def test_one_attempt_a_run(
    monkeypatch: pytest.MonkeyPatch, *, is_once: bool
) -> None:
    """With ``--once``, an entry that failed is for the next run."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.05)

    class Failing:
        async def deliver(self, entry: Entry, claim: Claim) -> None:
            await asyncio.sleep(0.1)
            raise DeliveryError(f"{entry.key} {claim.attempt}")

    async with AsyncSeenStore(":memory:") as store:

        async def polls() -> AsyncGenerator[Any, None]:
            for name in ("a", "b", "c"):
                view = store.namespace(name, first="all")
                await view.observe(["k"], key=str)
                feed = Feed("https://example.org/feed", name=name)
                nothing = {"error": None, "notice": None, "seen": None}
                yield SimpleNamespace(feed=feed, store=view, **nothing)

        deliveries = Deliveries(Settings(), Failing(), EntryFilter(), None)
        await Watching(Settings(), deliveries, is_once=is_once).follow(polls())
    assert (deliveries.counts["failed"] == 3) is is_once
