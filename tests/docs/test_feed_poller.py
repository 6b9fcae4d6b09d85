"""The feed poller, on real feeds, through a real server, across restarts."""

from __future__ import annotations

import asyncio
import html
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

from ..support.clock import DAY, Clock
from ..support.feeds import REAL_FEEDS, ROOT, Site, ids_of, numbered, rss
from ..support.locks import write_lock
from ..support.scripts import complaints
from ..support.sqlite_files import read

SCRIPT = ROOT / "examples" / "feed_poller.py"


@pytest.fixture
def poller() -> Iterator[ModuleType]:
    """The example, as a module."""
    spec = importlib.util.spec_from_file_location("feed_poller", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["feed_poller"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["feed_poller"]


@dataclass
class Output:
    """What one run of the poller printed."""

    code: int
    keys: list[str]
    errors: str


Polling = Callable[..., Output]


@pytest.fixture
def poll(poller: ModuleType, path: Path, capsys: pytest.CaptureFixture[str]) -> Polling:
    """Run the poller from start to end, on one database; each run is a restart."""

    def run(*sources: str, options: tuple[str, ...] = ()) -> Output:
        code = poller.main(["--json", "--db", str(path), *options, *sources])
        printed = capsys.readouterr()
        keys = [json.loads(line)["key"] for line in printed.out.splitlines()]
        return Output(code, keys, printed.err)

    return run


class TestRealFeeds:
    """A year of the BBC's front page, seven weeks of a feed without any guid."""

    @pytest.mark.skipif(
        not REAL_FEEDS.is_dir(), reason=f"the real feeds are not in {REAL_FEEDS}"
    )
    @pytest.mark.parametrize("name", ["bbc-home", "nzherald-noguid"])
    @pytest.mark.timeout(600)
    def test_every_entry_once(
        self, site: Site, poll: Polling, name: str, figures: Callable[[str], None]
    ) -> None:
        """Snapshot by snapshot, with a restart at each, every entry comes once."""
        snapshots = sorted((REAL_FEEDS / name).glob("*.xml"))
        expected: list[str] = []
        printed: list[str] = []
        unusable = unchanged = 0
        for number, snapshot in enumerate(snapshots):
            body = snapshot.read_bytes()
            url = site.put(name, body)
            ids = ids_of(body)
            expected += ids or []
            output = poll(url)
            printed += output.keys
            assert output.code == (ids is None), snapshot
            unusable += ids is None
            if number % 10 == 0 and ids:
                again = poll(url)
                assert again.keys == []
                assert "unchanged 1" in again.errors
                unchanged += 1
        assert len(printed) == len(set(printed))
        assert set(map(html.unescape, printed)) == set(expected)
        twice = len(printed) - len(set(printed))
        missed = len(set(expected) - set(map(html.unescape, printed)))
        figures(
            f"{name}: {len(snapshots)} snapshots ({unusable} unusable),"
            f" {len(snapshots) + unchanged} starts, {len(expected)} entries,"
            f" {len(set(expected))} distinct, {len(printed)} printed, {twice} twice,"
            f" {missed} missed"
        )


class TestIdentity:
    """What makes an entry the same."""

    def test_id_link_digest(self, site: Site, poll: Polling) -> None:
        """The id, else the link, else a digest of title and content."""
        url = site.put(
            "feed",
            rss(
                "<guid>tag:1</guid><link>https://h/1</link>",
                "<guid> </guid><link>https://h/2</link>",
                "<title>No id</title><description>Text</description>",
                "<title>No id</title><description>Other text</description>",
            ),
        )
        keys = poll(url).keys
        assert keys[:2] == ["tag:1", "https://h/2"]
        assert [key[:7] for key in keys[2:]] == ["sha256:", "sha256:"]
        assert len(set(keys)) == 4
        assert poll(url).keys == []

    def test_edited_entry_stays_the_same(self, site: Site, poll: Polling) -> None:
        """A new title, text or date does not make an entry new."""
        url = site.put("feed", rss("<guid>1</guid><title>Before</title>"))
        assert poll(url).keys == ["1"]
        site.put("feed", rss("<guid>1</guid><title>After</title><pubDate>x</pubDate>"))
        assert poll(url).keys == []

    def test_ids_are_per_feed(self, site: Site, poll: Polling) -> None:
        """The same id in two feeds is two entries; the same feed twice is one feed."""
        urls = [site.put(name, numbered(range(3))) for name in ("one", "two")]
        output = poll(*urls, *urls)
        assert sorted(output.keys) == ["id 0", "id 0", "id 1", "id 1", "id 2", "id 2"]
        assert "feeds 2" in output.errors

    def test_twice_in_one_feed(self, site: Site, poll: Polling) -> None:
        """An entry that a feed lists twice is printed once."""
        output = poll(site.put("feed", rss(*["<guid>1</guid>"] * 3)))
        assert output.keys == ["1"]
        assert "entries 3 (new 1, duplicates 2)" in output.errors

    def test_long_ids_are_told_apart_by_digest(self, site: Site, poll: Polling) -> None:
        """Ids and URLs over the limits of the store are told apart by digest."""
        ids = ["x" * 3_000 + end for end in "ab"]
        url = site.put("f" * 300, rss(*(f"<guid>{id_}</guid>" for id_ in ids)))
        assert len(set(poll(url).keys)) == 2
        assert poll(url).keys == []

    @pytest.mark.parametrize(
        "poison", ["id\0x", "id&#0;x", "id&#55357;x", "id&#xDC00;"], ids=ascii
    )
    def test_invalid_id_spoils_no_other_entry(
        self, site: Site, poll: Polling, poison: str
    ) -> None:
        """An id that no store accepts spoils neither its feed nor the others."""
        bad = site.put("bad", rss(f"<guid>{poison}</guid>", "<guid>fine</guid>"))
        good = site.put("good", numbered(range(3)))
        output = poll(bad, good)
        assert {"id 0", "id 1", "id 2"} <= set(output.keys)
        assert "fine" in output.keys or f"{bad}: cannot be parsed" in output.errors
        assert poll(bad, good).keys == []

    def test_title_cannot_control_the_terminal(self, poller: ModuleType) -> None:
        """A title cannot control the terminal, nor break the line."""
        assert poller.clean("a\x1b[2Jb\n c\u202e") == "a[2Jb c"


BAD: dict[str, tuple[bytes, int, str]] = {
    "error page": (b"<html><body>Forbidden</body></html>", 403, "HTTP 403"),
    "error page with 200": (b"<html><body>Sorry</body></html>", 200, "not a feed"),
    "server error": (b"", 500, "HTTP 500"),
    "empty": (b"", 200, "empty answer"),
    "blank": (b" \n", 200, "empty answer"),
    "cut off": (numbered(range(9)).encode()[:200], 200, "cut off"),
    "cut off in a tag": (numbered(range(9)).encode()[:-40], 200, "cut off"),
    "json": (b'{"error": "quota"}', 200, "not a feed"),
    "not modified, though not asked": (b"", 304, "HTTP 304"),
}


class TestBadAnswers:
    """A feed that gives no feed is reported and skipped."""

    @pytest.mark.parametrize("case", BAD)
    def test_nothing_is_forgotten(self, site: Site, poll: Polling, case: str) -> None:
        """Others go on meanwhile, and afterwards nothing is new again."""
        body, status, reason = BAD[case]
        good, url = site.put("good", numbered(range(3))), site.put("bad", "")
        site.put("bad", numbered(range(10)), has_etag=False)
        assert len(poll(url).keys) == 10
        site.put("bad", body, status=status, has_etag=False)
        output = poll(url, good)
        assert output.keys == ["id 0", "id 1", "id 2"]
        assert output.code == 0
        assert f"{url}: {reason}" in output.errors
        assert "feeds 2 (unchanged 0, failed 1)" in output.errors
        site.put("bad", numbered(range(11)), has_etag=False)
        assert poll(url, good).keys == ["id 10"]

    def test_collapsed_feed(self, site: Site, poll: Polling) -> None:
        """A feed that lists one entry, or none, and then all again repeats nothing."""
        url = site.put("feed", numbered(range(54)))
        assert len(poll(url).keys) == 54
        for few in (range(1), range(0)):
            site.put("feed", numbered(few))
            assert poll(url).keys == []
        site.put("feed", numbered(range(54)))
        assert poll(url).keys == []

    def test_slow_and_gone(self, site: Site, poll: Polling, tmp_path: Path) -> None:
        """A time-out, a refused connection and a missing file are failures."""
        slow = site.put("slow", numbered(range(3)), delay=1.0)
        output = poll(
            slow, "http://127.0.0.1:1/", "http://..a/", "HTTP://", "ftp://127.0.0.1/",
            str(tmp_path / "missing.xml"), options=("--timeout", "0.2"),
        )  # fmt: skip
        assert output.code == 1
        assert "failed 6" in output.errors
        assert "TimeoutError" in output.errors
        assert "No such file" in output.errors

    def test_body_over_the_limit_is_a_failure(
        self,
        site: Site,
        poll: Polling,
        poller: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A body over the limit is a failure."""
        monkeypatch.setattr(poller, "MAX_BYTES", 10_000)
        assert "more than 10,000 bytes" in poll(site.put("f", b"x" * 20_000)).errors

    def test_slightly_broken(self, site: Site, poll: Polling) -> None:
        """A feed with an unknown entity is complete all the same, and read."""
        url = site.put("feed", rss("<guid>1</guid><title>a&nbsp;b & c</title>"))
        assert poll(url).keys == ["1"]

    def test_store_that_cannot_be_opened(
        self, site: Site, poller: ModuleType, path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """A broken store ends the run with its message; nothing is printed as new."""
        path.write_bytes(b"junk")
        url = site.put("feed", numbered(range(3)))
        assert poller.main(["--db", str(path), url]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "not a SQLite database" in printed.err

    async def test_store_that_fails_for_a_while(
        self,
        site: Site,
        path: Path,
        poller: ModuleType,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """With --every, a locked store costs a round; the next ones go on."""

        def impatient(target: str, *, ttl: timedelta) -> AsyncSeenStore:
            return AsyncSeenStore(SeenStoreConfig(target, timeout=0.1), ttl=ttl)

        shown: list[Any] = []
        errors = ""
        monkeypatch.setattr(poller, "AsyncSeenStore", impatient)
        monkeypatch.setattr(poller, "print_line", shown.append)
        url = site.put("feed", numbered(range(2)))
        options = poller.arguments(["--every", "0.02", "--db", str(path), url])
        polling = asyncio.create_task(poller.run(options))
        async with asyncio.timeout(120):
            while len(shown) < 2:
                await asyncio.sleep(0.01)
            with write_lock(path):
                site.put("feed", numbered(range(3)))
                while "the next round tries again" not in errors:
                    await asyncio.sleep(0.01)
                    errors += capsys.readouterr().err
            site.put("feed", numbered(range(4)))
            while shown[-1].key != "id 3":
                await asyncio.sleep(0.01)
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        assert "database is locked" in errors
        assert {entry.key for entry in shown} == {f"id {number}" for number in range(4)}

    def test_visits_that_cannot_be_saved(
        self, site: Site, poll: Polling, path: Path
    ) -> None:
        """Where the visits cannot be kept, the feed is read in full each time."""
        path.with_name("seen.db.http.json").mkdir()
        url = site.put("feed", numbered(range(2)))
        assert len(poll(url).keys) == 2
        assert poll(url).keys == []
        assert site.pages["feed"].answers == {200: 2}

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--concurrency", "0"), ("--concurrency", "1.5"), ("--every", "-1"),
            ("--every", "nan"), ("--ttl-days", "0"), ("--ttl-days", "nan"),
            ("--ttl-days", "1e9"), ("--timeout", "0"), ("--timeout", "soon"),
        ],
    )  # fmt: skip
    def test_invalid_number_is_refused(
        self,
        poller: ModuleType,
        option: str,
        value: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """An invalid number is refused with option, value and rule."""
        with pytest.raises(SystemExit):
            poller.main([option, value])
        message = capsys.readouterr().err
        assert f"argument {option}: must be a" in message
        assert f"not '{value}'" in message


class TestConditionalGet:
    """ETag and Last-Modified."""

    def test_unchanged_feed_is_not_downloaded(self, site: Site, poll: Polling) -> None:
        """An unchanged feed is not downloaded again, also after a restart."""
        url = site.put("feed", numbered(range(3)))
        for _ in range(3):
            output = poll(url)
        assert "unchanged 1" in output.errors
        assert site.pages["feed"].answers == {200: 1, 304: 2}

    def test_not_when_the_store_lost_its_memory(
        self, site: Site, poll: Polling, path: Path
    ) -> None:
        """With a new database everything is read and printed again."""
        url = site.put("feed", numbered(range(3)))
        poll(url)
        path.unlink()
        assert len(poll(url).keys) == 3

    def test_broken_file_only_costs_a_download(
        self, site: Site, poll: Polling, path: Path
    ) -> None:
        """A damaged file of visits is read as none."""
        url = site.put("feed", numbered(range(3)))
        poll(url)
        path.with_name("seen.db.http.json").write_text("{")
        assert poll(url).keys == []
        assert site.pages["feed"].answers == {200: 2}

    async def test_listed_entries_do_not_expire(
        self, site: Site, poller: ModuleType, path: Path, clock: Clock
    ) -> None:
        """What a feed lists for longer than the TTL is not new again."""
        url = site.put("feed", numbered(range(3)))
        shown: list[object] = []
        async with (
            AsyncSeenStore(path, ttl=DAY, clock=clock) as store,
            aiohttp.ClientSession() as session,
        ):
            visits = poller.Visits(path.with_name("visits"), keep=0.0)
            made = poller.Poller(store, session, visits, shown.append, print)
            for _ in range(5):
                await made.poll([url])
                clock.advance(DAY * 0.9)
            assert len(shown) == 3
            clock.advance(DAY)
            await made.poll([url])
            assert len(shown) == 6

    async def test_visits_grow_old(
        self, site: Site, poller: ModuleType, path: Path
    ) -> None:
        """After half the TTL an unchanged feed is read in full, for its marks."""
        url = site.put("feed", numbered(range(3)))
        async with AsyncSeenStore(path) as store, aiohttp.ClientSession() as session:
            visits = poller.Visits(path.with_name("visits"), keep=60.0)
            made = poller.Poller(store, session, visits, lambda _: None, print)
            await made.poll([url])
            assert (await made.poll([url])).unchanged == 1
            visits.keep = 0.0
            assert (await made.poll([url])).duplicates == 3


class TestProcess:
    """The script as a user starts it."""

    def run(self, path: Path, *args: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, SCRIPT, "--db", str(path), *args],
            capture_output=True, check=False, text=True, timeout=200,
        )  # fmt: skip

    def test_without_arguments(self, path: Path) -> None:
        """It polls the feeds that come with it; a second run prints nothing new."""
        first, second = self.run(path), self.run(path)
        assert len(first.stdout.splitlines()) == 6
        assert "feeds 3 (unchanged 0, failed 0)" in first.stderr
        assert "entries 7 (new 6, duplicates 1)" in first.stderr
        assert second.stdout == ""
        assert "entries 7 (new 0, duplicates 7)" in second.stderr

    @pytest.mark.timeout(600)
    @pytest.mark.slow
    def test_killed_poller_loses_no_entry(
        self, site: Site, path: Path, figures: Callable[[str], None]
    ) -> None:
        """A killed poller that runs again loses nothing and repeats one at most."""
        rng = random.Random(11)
        lost = repeated = kills = 0
        printed: Counter[str] = Counter()
        for round_ in range(8):
            url = site.put(f"feed {round_}".replace(" ", "-"), numbered(range(150)))
            with subprocess.Popen(
                [sys.executable, SCRIPT, "--json", "--db", str(path), url],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ) as process:  # fmt: skip
                assert process.stdout is not None
                lines = [
                    process.stdout.readline() for _ in range(rng.randrange(1, 140))
                ]
                process.kill()
                lines += process.stdout.read().splitlines()
            kills += process.wait() == -9
            lines += self.run(path, "--json", url).stdout.splitlines()
            keys = [json.loads(line)["key"] for line in lines]
            lost += len({f"id {number}" for number in range(150)} - set(keys))
            assert len(keys) <= 151
            repeated += len(keys) - 150
            printed.update(keys)
        assert kills > 4
        assert read(path, "SELECT count(*) FROM seen") == [(8 * 150,)]
        assert lost == 0
        assert repeated <= kills
        figures(
            f"poller killed {kills} times: {lost} entries lost, {repeated} repeated"
        )

    def test_reader_goes_away(self, site: Site, path: Path) -> None:
        """When its output is not wanted any more it ends; the rest comes next time."""
        url = site.put("feed", numbered(range(2_000)))
        with subprocess.Popen(
            [sys.executable, SCRIPT, "--json", "--db", path, url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert complaints(process.stderr.read(), "store_created") == ""
            assert process.wait(60) == 0
        ((marked,),) = read(path, "SELECT count(*) FROM seen")
        later = self.run(path, "--json", url).stdout.splitlines()
        keys = [json.loads(line)["key"] for line in later]
        assert isinstance(marked, int)
        assert 0 < marked < 2_000
        assert keys == [f"id {number}" for number in range(marked, 2_000)]

    def test_poor_terminal(self, site: Site, path: Path) -> None:
        """What standard output cannot encode is escaped."""
        url = site.put("feed", rss("<guid>1</guid><title>caf\u00e9</title>"))
        done = subprocess.run(
            [sys.executable, SCRIPT, "--db", path, url],
            capture_output=True, check=False, text=True, timeout=200,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )  # fmt: skip
        assert done.stdout == "T | caf\\xe9 | 1\n"

    def test_poller_polls_until_it_is_stopped(self, site: Site, path: Path) -> None:
        """With --every the poller polls again, and ends in order on a signal."""
        url = site.put("feed", numbered(range(1)))
        with subprocess.Popen(
            [sys.executable, SCRIPT, "--json", "--every", "0.05", "--db", path, url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for number in range(3):
                assert json.loads(process.stdout.readline())["key"] == f"id {number}"
                site.put("feed", numbered(range(number + 2)))
            assert json.loads(process.stdout.readline())["key"] == "id 3"
            # Not SIGINT: where the tests run in the background it may be ignored.
            process.terminate()
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
            assert process.wait(60) == 128 + signal.SIGTERM
        assert not path.with_name("seen.db-wal").exists()

    def test_help_describes_every_option(self, path: Path) -> None:
        """--help describes the program and its options."""
        text = self.run(path, "--help").stdout
        assert "print each new entry once" in text
        assert "examples/feeds" in text
        assert not path.exists()


async def test_parses_off_the_loop(
    site: Site, poller: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop goes on while a feed is parsed."""
    loop_thread = threading.get_ident()
    parsed_in = set()
    parse = poller.parse

    def note(*args: object) -> object:
        parsed_in.add(threading.get_ident())
        return parse(*args)

    monkeypatch.setattr(poller, "parse", note)
    url = site.put("feed", numbered(range(2)))
    async with AsyncSeenStore(path) as store, aiohttp.ClientSession() as session:
        visits = poller.Visits(path.with_name("visits"), keep=60.0)
        made = poller.Poller(store, session, visits, lambda _: None, print)
        assert (await made.poll([url])).new == 2
    assert len(parsed_in) == 1
    assert loop_thread not in parsed_in


async def test_concurrency_is_bounded(
    site: Site, poller: ModuleType, path: Path
) -> None:
    """Never more sources at the same time than asked for."""
    urls = [site.put(f"{n}", numbered(range(1)), delay=0.05) for n in range(12)]
    async with AsyncSeenStore(path) as store, aiohttp.ClientSession() as session:
        visits = poller.Visits(path.with_name("visits"), keep=60.0)
        made = poller.Poller(store, session, visits, lambda _: None, print, 3)
        assert (await made.poll(urls)).new == 12
    assert 1 < site.most_at_once <= 3


async def test_concurrent(site: Site, poller: ModuleType, path: Path) -> None:
    """Many feeds are polled at the same time, up to the limit."""
    urls = [site.put(f"{n}", numbered(range(2)), delay=0.2) for n in range(20)]
    shown: list[object] = []
    async with AsyncSeenStore(path) as store, aiohttp.ClientSession() as session:
        visits = poller.Visits(path.with_name("visits"), keep=60.0)
        made = poller.Poller(store, session, visits, shown.append, print, 20)
        started = asyncio.get_running_loop().time()
        summary = await made.poll(urls)
        took = asyncio.get_running_loop().time() - started
    assert (summary.feeds, summary.new, len(shown)) == (20, 40, 40)
    assert took < 20 * 0.2 / 2
