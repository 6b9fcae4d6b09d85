"""The example poller, as a user starts it, against a real server."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from ..support.feeds import ROOT, Site, numbered
from ..support.scripts import complaints

SCRIPT = ROOT / "examples" / "feed_poller.py"


def command(path: Path, *arguments: str) -> list[str]:
    """Word the command on a database."""
    return [sys.executable, str(SCRIPT), "--db", str(path), *arguments]


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(path, *arguments),
        capture_output=True, check=False, text=True, timeout=200,
    )  # fmt: skip


def titles(output: str) -> list[str]:
    """Return the titles that it printed."""
    return [line.split(" | ")[1] for line in output.splitlines()]


def test_it_is_short() -> None:
    """It has at most 60 lines."""
    assert len(SCRIPT.read_text().splitlines()) <= 60


def test_without_arguments(path: Path) -> None:
    """It polls the feeds that come with it; a second run prints nothing."""
    first, second = run(path), run(path)
    assert len(first.stdout.splitlines()) == 6
    summary = "3 polls, 0 failed; 6 new entries\n"
    assert complaints(first.stderr, "store_created") == summary
    assert (second.stdout, second.returncode) == ("", 0)


def test_first_run_does_not_flood(site: Site, path: Path) -> None:
    """Of a new feed the last entries are printed, and the others marked."""
    url = site.put("feed", numbered(range(1_404)))
    done = run(path, url)
    assert titles(done.stdout) == ["Title 1401", "Title 1402", "Title 1403"]
    assert "1401 entries are marked, not printed" in done.stderr
    other = site.put("other", numbered(range(5)))
    done = run(path, "--first", "0", other)
    assert (done.stdout, done.returncode) == ("", 0)
    assert "5 entries are marked, not printed" in done.stderr
    site.put("feed", numbered(range(1_406)))
    assert titles(run(path, url).stdout) == ["Title 1404", "Title 1405"]


def test_failed_feed_is_reported_once(site: Site, path: Path) -> None:
    """The others go on; the end is a failure only if every feed failed."""
    good = site.put("good", numbered(range(2)))
    bad = site.put("bad", "<!doctype html><p>no", status=503)
    done = run(path, bad, good)
    assert titles(done.stdout) == ["Title 0", "Title 1"]
    assert f"{bad}: HTTP 503" in done.stderr
    assert done.returncode == 0
    done = run(path, bad)
    assert (done.stderr, done.returncode) == ("1 polls, 1 failed; 0 new entries\n", 1)


def test_pending_entries_come_though_the_feed_fails(site: Site, path: Path) -> None:
    """What was not printed is printed although the feed is down or has moved on."""
    url = site.put("feed", numbered(range(1)))
    run(path, url)
    with SeenStore(path) as store:
        store.namespace(url).observe(["a"], key=str, note=lambda _: '{"key": "a"}')
    site.put("feed", "", status=500)
    assert titles(run(path, url).stdout) == [""]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_poller_loses_no_entry(
    site: Site, path: Path, figures: Callable[[str], None]
) -> None:
    """A killed poller that runs again loses nothing and repeats one at most."""
    chance = random.Random(11)
    repeated = kills = 0
    for number in range(6):
        url = site.put(f"feed-{number}", numbered(range(150)))
        with subprocess.Popen(
            command(path, "--first", "150", url), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(chance.randrange(1, 140))]
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        kills += process.wait() == -9
        with SeenStore(path) as store:
            records = store.records(state="claimed", namespace=url)
            claimed = [record.note for record in records]
        lines.append(run(path, url).stdout)
        printed = Counter(titles("".join(lines)))
        assert len(claimed) <= 1  # it comes when its lease is over
        missing = {f"Title {n}" for n in range(150)} - {*printed}
        assert len(missing) <= len(claimed)
        repeated += printed.total() - len(printed)
    assert kills > 3
    assert repeated <= kills
    figures(f"poller killed {kills} times: {repeated} entries repeated, none lost")


def test_reader_goes_away(site: Site, path: Path) -> None:
    """When its output is not wanted any more it ends; the rest comes next time."""
    url = site.put("feed", numbered(range(300)))
    with subprocess.Popen(
        command(path, "--first", "300", url),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.wait(60)
    with SeenStore(path) as store:
        seen = store.count()
        rest = len([*store.records(namespace=url)]) - seen
    assert seen
    assert rest > 0
    assert seen + rest == 300


def test_store_that_cannot_be_opened(site: Site, path: Path) -> None:
    """A broken store ends the run with its message; nothing is printed as new."""
    path.write_text("no database" * 100)
    done = run(path, site.put("feed", numbered(range(3))))
    assert done.stdout == ""
    assert done.stderr.startswith("feed_poller: ")
    assert "not a SQLite database" in done.stderr
    assert done.returncode == 1


def test_poller_polls_until_it_is_stopped(site: Site, path: Path) -> None:
    """With --every it polls again, until a signal."""
    url = site.put("feed", numbered(range(1)))
    with subprocess.Popen(
        command(path, "--every", "50ms", url), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for number in range(3):
            assert titles(process.stdout.readline()) == [f"Title {number}"]
            site.put("feed", numbered(range(number + 2)))
        process.terminate()
        process.wait(60)


def test_help_describes_every_option(path: Path) -> None:
    """--help describes the program and its options."""
    text = run(path, "--help").stdout
    assert "print each new entry once" in text
    for option in ("--every", "--first", "--db"):
        assert option in text
    assert not path.exists()
