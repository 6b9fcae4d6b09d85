"""``watch``: what it prints, when, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import time
from email.utils import formatdate
from pathlib import Path

from catalyst_seen.cli._notes import shortened

from ..support.feeds import ROOT, Site, numbered, rss
from ..support.tool import SMALL_FILES, Tool
from .conftest import open_store

EXAMPLES = [str(path) for path in sorted((ROOT / "examples/feeds").glob("*.xml"))]
ONCE = ("watch", "--once")


def titles(output: str | bytes) -> list[str]:
    """Return the titles of entries that were printed by ``--format '{title}'``."""
    return (output if isinstance(output, str) else output.decode()).splitlines()


def numbers(of: range) -> list[str]:
    """Return the titles of a numbered feed."""
    return [f"Title {number}" for number in of]


def test_each_entry_once(tool: Tool, site: Site) -> None:
    """Of a new feed the last entries are printed, the others marked."""
    url = site.put("feed", numbered(range(43)))
    words = (*ONCE, "--first", "3", "--format", "{title}", url)
    done = tool.run(*words)
    assert (done.code, titles(done.out)) == (0, numbers(range(40, 43)))
    assert f"{url}: baseline: 40 marked\n" in done.err
    assert done.err.endswith("1 poll, 0 failed, 3 entries\n")
    done = tool.run(*words)
    assert (done.code, done.out) == (0, "")
    site.put("feed", numbered(range(10, 45)))
    assert titles(tool.run(*words).out) == numbers(range(43, 45))


def test_the_feeds_of_the_examples(on_file: Tool) -> None:
    """The first command of the README prints what the example poller does."""
    form = "{feed} | {title} | {link}"
    done = on_file.run(*ONCE, "--first", "3", "--format", form, *EXAMPLES)
    assert sorted(done.out.splitlines()) == [
        (
            "Release Notes | Version 2.0: a new file format"
            " | https://tool.example/releases/2.0"
        ),
        "Release Notes | Version 2.1: faster start | https://tool.example/releases/2.1",
        (
            "Town News | Library stays open until nine"
            " | https://town.example/news/library?utm_source=rss"
        ),
        (
            "Town News | The bridge opens again on Monday"
            " | https://town.example/news/bridge"
        ),
        (
            "Weather Notes | Frost in the valleys tonight"
            " | https://weather.example/notes/frost"
        ),
        "Weather Notes | River level: 2.4 m | ",
    ]
    assert done.err == "catalyst-seen: 3 polls, 0 failed, 6 entries\n"
    assert on_file.run(*ONCE, *EXAMPLES).out == ""


def test_data(on_file: Tool) -> None:
    """A pipe gets JSON Lines, with everything that is known of an entry."""
    done = on_file.run(*ONCE, "-n", "town", "--first", "1", EXAMPLES[1])
    assert done.rows == [
        {
            "source": "town",
            "feed": "Town News",
            "title": "The bridge opens again on Monday",
            "link": "https://town.example/news/bridge",
            "published": "2026-11-19T08:00:00Z",
            "summary": "",
            "authors": [],
            "enclosures": [],
            "key": "town-1041",
        }
    ]


def test_failures_are_said_once(tool: Tool, site: Site) -> None:
    """A failing feed and its recovery are said once; the others go on, and it is 4."""
    good = site.put("good", numbered(range(2)))
    bad = site.put("bad", "", status=500)
    words = (*ONCE, "--first", "all", "--format", "{title}")
    done = tool.run(*words, good, bad)
    assert (done.code, titles(done.out)) == (4, numbers(range(2)))
    assert f"catalyst-seen: {bad}: HTTP 500 Internal Server Error\n" in done.err
    assert "2 polls, 1 failed, 2 entries" in done.err
    done = tool.run(*words, good, bad)
    assert done.code == 4
    assert done.err == (
        "catalyst-seen: 2 polls, 1 failed, 0 entries (catalyst-seen feeds says why)\n"
    )
    site.put("bad", numbered(range(1)))
    done = tool.run(*words, bad)
    assert (done.code, titles(done.out)) == (0, numbers(range(1)))
    assert f"{bad}: it can be read again, after 2 failed polls\n" in done.err


def test_gone(on_file: Tool, site: Site) -> None:
    """What is gone is asked no more, until it is forced."""
    url = site.put("feed", "", status=410)
    done = on_file.run(*ONCE, url)
    assert done.code == 4
    assert f"{url}: HTTP 410 Gone" in done.err
    assert "--once --force" in done.err
    assert "force=True" not in done.err
    on_file.run(*ONCE, url)
    assert site.pages["feed"].answers[410] == 1
    site.put("feed", numbered(range(1)))
    done = on_file.run(*ONCE, "--force", "--first", "all", url)
    assert (done.code, len(done.rows)) == (0, 1)


def test_polite(on_file: Tool, site: Site) -> None:
    """A feed that has not changed is not sent again."""
    url = site.put("feed", numbered(range(5)))
    for _ in range(3):
        assert on_file.run(*ONCE, url).code == 0
    assert site.pages["feed"].answers == {200: 1, 304: 2}


def test_pending_of_earlier_runs(tool: Tool, site: Site) -> None:
    """What an earlier run did not deliver comes, though the feed fails meanwhile."""
    url = site.put("feed", numbered(range(1)))
    tool.run(*ONCE, url)
    with open_store(tool) as store:
        view = store.namespace(url)
        view.observe(["a", "b"], key=str, note={"a": '{"key":"a"}', "b": "odd"}.get)
    site.put("feed", "", status=503)
    done = tool.run(*ONCE, "--format", "{key} {title}", url)
    assert (done.code, done.out) == (4, "a \nb odd\n")


def test_only_what_matches(on_file: Tool, site: Site) -> None:
    """Other entries are confirmed without being printed, and counted."""
    items = [
        f"<guid>{n}</guid><title>{text}</title><description>{about}</description>"
        for n, (text, about) in enumerate(
            [("STORM warning", ""), ("Sun", "a Storm of light"), ("Rain", "no")]
        )
    ]
    words = (*ONCE, "--first", "all", "--format", "{title}")
    url = site.put("feed", rss(*items))
    done = on_file.run(*words, "--include", "storm", "--exclude", "LIGHT", url)
    assert done.out == "STORM warning\n"
    assert "1 entry, 2 left out\n" in done.err
    assert on_file.run(*words, url).out == ""
    with open_store(on_file) as store:
        keys = {
            shortened(str(one.note)): one.key for one in store.records(namespace=url)
        }
    told = {
        title: on_file.run("why", key).rows[0]["what_happened"]
        for title, key in keys.items()
    }
    assert {title: told[title].partition(" on ")[0] for title in told} == {
        "STORM warning": "delivered",
        "Sun": "left out",
        "Rain": "left out",
    }


def test_max_age(on_file: Tool, site: Site) -> None:
    """What was published longer ago is left out for good; without a date it is not."""
    ages = {"young": 2, "old": 4, "ahead": -1}
    now = time.time()
    items = [
        f"<guid>{name}</guid><pubDate>{formatdate(now - days * 86_400)}</pubDate>"
        for name, days in ages.items()
    ]
    url = site.put("feed", rss(*items, "<guid>undated</guid>"))
    words = (*ONCE, "--first", "all", "--format", "{key}", url)
    done = on_file.run(*words, "--max-age", "3d")
    assert sorted(done.out.split()) == ["ahead", "undated", "young"]
    assert "3 entries, 1 left out" in done.err
    assert on_file.run(*words).out == ""
    told = on_file.run("why", "-n", url, "old").rows[0]["what_happened"]
    assert told.startswith("left out on ")


def test_baseline_is_said(tool: Tool, site: Site) -> None:
    """The first poll of a feed says how many entries it has marked; no later does."""
    url = site.put("feed", numbered(range(7)))
    done = tool.run(*ONCE, url)
    assert done.err == (
        f"catalyst-seen: {url}: baseline: 7 marked\n"
        "catalyst-seen: 1 poll, 0 failed, 0 entries\n"
    )
    assert "baseline" not in tool.run(*ONCE, url).err


def test_two_at_once(tool: Tool, site: Site) -> None:
    """Each entry is printed by one of several processes."""
    url = site.put("feed", numbered(range(200)))
    tool.run(*ONCE, url)
    site.put("feed", numbered(range(400)))
    started = [tool.start(*ONCE, "--format", "{title}", url) for _ in range(2)]
    outputs = [each.communicate()[0] for each in started]
    assert [each.returncode for each in started] == [0, 0]
    assert sorted(titles(b"".join(outputs))) == sorted(numbers(range(200, 400)))


def test_closed_pipe(on_file: Tool, site: Site) -> None:
    """When the reader ends, what it has not read is pending, also at once."""
    url = site.put("feed", numbered(range(50)))
    line = f"catalyst-seen watch --once --first all {url} | head -1; echo $PIPESTATUS"
    done = on_file.shell(line)
    assert done.out.splitlines()[1:] == ["141"]
    assert done.err == ""
    done = on_file.run(*ONCE, "--format", "{title}", url)
    assert titles(done.out) == numbers(range(1, 50))


def test_full_disk(on_file: Tool, site: Site) -> None:
    """Output that cannot be written is an error, and nothing is lost."""
    url = site.put("feed", numbered(range(3)))
    for sink in ("> /dev/full", ">&-"):
        done = on_file.shell(f"catalyst-seen watch --once --first all {url} {sink}")
        assert done.code == 4
        assert "standard output" in done.err
        assert len(done.err.splitlines()) == 1
    assert len(on_file.run(*ONCE, url).rows) == 3


def test_slow_reader(on_file: Tool, site: Site) -> None:
    """A signal ends it while the reader takes its time, and no entry is lost."""
    url = site.put("feed", numbered(range(9)))
    words = (*ONCE, "--first", "all", "--format", "{title}", url)
    with on_file.start(*words, bufsize=0) as started:
        assert started.stdout is not None
        first = [started.stdout.read(len("Title 0\n")) for _ in range(2)]
        started.send_signal(signal.SIGTERM)
        rest = started.communicate()[0]
        assert started.returncode == 143
    assert titles(b"".join(first)) == numbers(range(2))
    assert titles(on_file.run(*words).out) == numbers(range(2, 9))
    assert titles(rest) in ([], numbers(range(2, 3)))


def test_for_ever(on_file: Tool, site: Site) -> None:
    """Entries are printed as they come, until a signal ends it in good order."""
    url = site.put("feed", numbered(range(2)))
    words = ("watch", "--every", "1s", "--first", "1", "--format", "{title}", url)
    started = on_file.start(*words)
    assert started.stdout is not None
    assert started.stdout.readline() == b"Title 1\n"
    site.put("feed", numbered(range(4)))
    assert started.stdout.readline() == b"Title 2\n"
    assert started.stdout.readline() == b"Title 3\n"
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate()
    assert started.returncode == 143
    assert b"1 feed, polled every 1s; Ctrl-C ends it" in err
    assert on_file.run(*ONCE, url).out == ""


def test_terminal(on_file: Tool, site: Site) -> None:
    """A person gets lines that fit, without control characters, and Ctrl-C ends it."""
    url = site.put(
        "feed",
        rss(
            "<guid>1</guid><title>Short</title><link>https://x.example/1</link>"
            "<pubDate>Thu, 19 Nov 2026 08:00:00 +0000</pubDate>",
            f"<guid>2</guid><title>&#27;[31m{'漢字' * 9} &amp;c</title>"
            "<link>https://x.example/long</link>"
            "<pubDate>Thu, 19 Nov 2026 09:00:00 +0000</pubDate>",
        ),
    )
    screen = on_file.terminal("watch", "--first", "all", url, size=(24, 50))
    screen.expect_exact("2026-11-19 08:00  T  Short  https://x.example/1\r\n")
    screen.expect(r"2026-11-19 09:00  T  ([^\r]*)…\r\n    https://x.example/long\r\n")
    assert screen.match is not None
    assert "\x1b" not in screen.match[0]
    screen.sendintr()
    screen.wait()
    assert screen.exitstatus == 130


def test_passwords_are_not_shown(on_file: Tool, site: Site) -> None:
    """User, password and tokens of an address appear nowhere."""
    site.put("feed?token=tok3n", numbered(range(2)))
    host = site.url.removeprefix("http://")
    url = f"http://me:s3cret@{host}/feed?token=tok3n"
    results = [
        on_file.run(*ONCE, "-v", "--first", "all", url),
        on_file.run("feeds"),
        on_file.run("test", url),
        on_file.run(*ONCE, "-v", f"http://me:s3cret@{host[:-1]}x/feed"),
        on_file.run(*ONCE, url, url.replace("s3cret", "0ther")),
    ]
    assert [result.code for result in results] == [0, 0, 0, 2, 2]
    assert len(results[0].rows) == 2
    said = "".join(result.out + result.err for result in results)
    stored = Path(on_file.store).read_bytes()
    for secret in ("s3cret", "0ther", "tok3n"):
        assert secret not in said
        assert secret.encode() not in stored


def test_formats(on_file: Tool) -> None:
    """There is text, JSON and a template; a wrong one is refused before any poll."""
    for form, message in {
        "{headline}": "there is no {headline}, but {published}",
        "{title": "no template",
        "{title.__class__}": "there is no {title.__class__}",
        "{}": "there is no {}",
        "plain": "is not text, json, or a template",
    }.items():
        done = on_file.run(*ONCE, "--format", form, EXAMPLES[1])
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert message in done.err
    assert not list(on_file.folder.iterdir())
    words = (*ONCE, "--first", "1", EXAMPLES[1])
    form = r"{published:.10}\t{title}"
    assert on_file.run(*words, "-n", "a", "--format", form).out == (
        "2026-11-19\tThe bridge opens again on Monday\n"
    )
    assert on_file.run(*words, "-n", "b", "--format", "text").out == (
        "2026-11-19 08:00  Town News  The bridge opens again on Monday"
        "  https://town.example/news/bridge\n"
    )
    assert on_file.run(*words, "-n", "c", "--format", "text", "--json").rows


def test_without_the_extra(on_file: Tool) -> None:
    """Without the packages for feeds one line says what to install."""
    missing = on_file.folder / "missing"
    missing.mkdir()
    (missing / "aiohttp.py").write_text("raise ModuleNotFoundError(name='aiohttp')\n")
    path = os.pathsep.join([str(missing), os.environ.get("PYTHONPATH", "")])
    for words in (["watch", "--once", "a.xml"], ["test", "a.xml"]):
        done = on_file.run(*words, env={"PYTHONPATH": path})
        assert (done.code, done.out) == (2, "")
        assert done.err.endswith("pip install 'catalyst-seen[feeds]'\n")
        assert len(done.err.splitlines()) == 1


def test_file_that_becomes_full(on_valkey: Tool, site: Site) -> None:
    """A file that becomes full has whole lines only, and the next run adds the rest."""
    url = site.put("feed", numbered(range(60)))
    watch = f"catalyst-seen watch --once --first all {url} >> out.jsonl"
    limited = on_valkey.shell(f"{SMALL_FILES}; {watch}")
    assert limited.code == 4
    assert on_valkey.shell(watch).code == 0
    lines = (on_valkey.folder / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [f"id {n}" for n in range(60)]
