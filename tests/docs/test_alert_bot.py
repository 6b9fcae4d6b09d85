"""The alert bot: real snapshots, a webhook that fails, and a bot that is killed."""

from __future__ import annotations

import html
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from ..support.feeds import REAL_FEEDS, ROOT, Site, ids_of, numbered
from ..support.figures import Figures
from ..support.sqlite_files import read

SCRIPT = ROOT / "examples" / "alert_bot.py"

Bot = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the webhook notes what it has taken."""
    return tmp_path / "deliveries"


@pytest.fixture
def command(path: Path, log: Path) -> list[str]:
    """Start the bot so, with its own webhook; sources and options follow."""
    return [
        sys.executable, str(SCRIPT), "--db", str(path), "--log", str(log),
        "--timeout", "0.2", "--pause", "0.005",
    ]  # fmt: skip


@pytest.fixture
def bot(command: list[str]) -> Bot:
    """Run the bot from start to end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            capture_output=True, check=False, text=True, timeout=200,
        )  # fmt: skip

    return run


def delivered(log: Path) -> Counter[str]:
    """Count how often the webhook took each entry."""
    *lines, _ = log.read_text().split("\n") if log.exists() else [""]
    return Counter(json.loads(line)["key"] for line in lines)  # not one half written


@pytest.mark.skipif(
    not REAL_FEEDS.is_dir(), reason=f"the real feeds are not in {REAL_FEEDS}"
)
@pytest.mark.timeout(900)
def test_real_snapshots(
    command: list[str], bot: Bot, path: Path, log: Path, figures: Figures
) -> None:
    """A year of the BBC, 20 % failures, three restarts: every entry is delivered."""
    folder = REAL_FEEDS / "bbc-home"
    snapshots = sorted(folder.glob("*.xml"))
    ids = [ids_of(snapshot.read_bytes()) or [] for snapshot in snapshots]
    expected = {id_ for some in ids for id_ in some}
    replay = ("--replay", str(folder), "--failures", "0.2", "--late", "0.01")
    ends = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    for number, end in enumerate(ends, start=1):
        with subprocess.Popen([*command, *replay]) as process:
            while process.poll() is None:
                if delivered(log).total() > len(expected) * number // 4:
                    process.send_signal(end)
                    break
                time.sleep(0.05)
        assert process.returncode in {-end, 128 + end}
    done = bot(*replay)
    assert done.returncode == 0, done.stderr
    found = re.search(
        r"delivered (\d+) \(retried (\d+)\), attempts refused (\d+), unanswered (\d+);"
        r" not delivered 0, in other hands 0",
        done.stderr,
    )
    assert found
    assert 0 < int(found[2]) < int(found[1]) < len(expected)
    taken = delivered(log)
    missed = expected - {html.unescape(key) for key in taken}
    (retried,) = read(path, "SELECT count(*) FROM seen WHERE attempt > 1")[0]
    figures(
        f"alert bot: {len(snapshots)} BBC snapshots, {len(ends)} restarts, entries"
        f" {len(expected)}, delivered {len(taken)}, missed {len(missed)}, retried"
        f" {retried}, taken again {taken.total() - len(taken)} (answered late, or"
        " killed before the confirm)"
    )
    assert not missed
    assert len(taken) == len(expected)


@pytest.mark.slow
def test_each_once(bot: Bot, site: Site, log: Path) -> None:
    """A webhook that takes everything gets each entry once, over many runs."""
    for last in (3, 5, 5):
        url = site.put("feed", numbered(range(last)))
        done = bot("--failures", "0", "--late", "0", "--timeout", "30", url)
        assert done.returncode == 0, done.stderr
    assert delivered(log) == {f"id {number}": 1 for number in range(5)}
    assert "delivered 0 (retried 0)" in done.stderr
    assert "remembered in" in done.stderr


@pytest.mark.slow
def test_webhook_is_down(bot: Bot, site: Site, log: Path) -> None:
    """What could not be delivered is not seen: the next run delivers it."""
    url = site.put("feed", numbered(range(5)))
    done = bot(
        "--webhook", "http://127.0.0.1:9/", "--attempts", "1", "--timeout", "30", url
    )
    assert done.returncode == 1
    assert "attempts refused 5" in done.stderr
    done = bot(
        "--failures", "1", "--late", "0", "--attempts", "2", "--timeout", "30", url
    )
    assert done.returncode == 1
    assert "attempts refused 10, unanswered 0; not delivered 5" in done.stderr
    done = bot("--failures", "0", "--late", "0", "--timeout", "30", url)
    assert done.returncode == 0
    assert "delivered 5 (retried 5)" in done.stderr
    assert delivered(log).total() == 5


@pytest.mark.slow
def test_late_answers(bot: Bot, site: Site, log: Path) -> None:
    """An answer after the timeout is a failure: it is sent again, as it must be."""
    url = site.put("feed", numbered(range(2)))
    done = bot("--failures", "0", "--late", "1", "--attempts", "2", url)
    assert done.returncode == 1
    assert "unanswered 4; not delivered 2" in done.stderr
    assert delivered(log) == {"id 0": 2, "id 1": 2}


@pytest.mark.slow
def test_claims_of_a_killed_bot(bot: Bot, site: Site, path: Path, log: Path) -> None:
    """What was in flight when a bot was killed is waited for, and delivered."""
    url = site.put("feed", numbered(range(3)))
    with SeenStore(path) as store:
        store.claim_many(
            [f"id {number}" for number in range(3)], namespace=url, lease=1
        )
        done = bot("--failures", "0", "--late", "0", "--timeout", "60", url)
    assert "delivered 3 (retried 3)" in done.stderr
    assert delivered(log).total() == 3


@pytest.mark.slow
def test_in_other_hands(bot: Bot, site: Site, path: Path, log: Path) -> None:
    """What another bot has, or is held, is not taken for delivered."""
    url = site.put("feed", numbered(range(3)))
    with SeenStore(path) as store:
        store.claim_many(["id 0"], namespace=url, lease=60)
        store.claim_many(["id 1"], namespace=url, lease=0.1, on_abandoned="hold")
        done = bot("--failures", "0", "--late", "0", url)
    assert done.returncode == 1
    assert "delivered 1 (retried 0)" in done.stderr
    assert "in other hands 2" in done.stderr
    assert delivered(log) == {"id 2": 1}


@pytest.mark.slow
def test_no_answer(bot: Bot, site: Site) -> None:
    """A webhook that ends the connection may have taken the alert: nobody knows."""
    url = site.put("feed", numbered(range(1)))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        done = bot("--webhook", address, "--attempts", "2", url)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert "refused 0, unanswered 2; not delivered 1" in done.stderr
    assert "nobody knows, after 2 attempts" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
def test_bad_sources(bot: Bot, site: Site, log: Path) -> None:
    """A source that is no feed is reported; the others are delivered."""
    good = site.put("good", numbered(range(2)))
    bad = site.put("bad", "<html>", status=500)
    done = bot(
        "--failures", "0", "--late", "0", "--timeout", "30", bad, "nowhere.xml", good
    )
    assert done.returncode == 0
    assert "polls 3 (unusable 2), entries delivered 2" in done.stderr
    assert delivered(log).keys() == {"id 0", "id 1"}


@pytest.mark.slow
def test_bot_polls_until_it_is_stopped(
    command: list[str], site: Site, path: Path, log: Path
) -> None:
    """With --every the bot polls again, and ends in order on a signal."""
    url = site.put("feed", numbered(range(1)))
    process = subprocess.Popen(
        [*command, "--every", "0.05", url], stderr=subprocess.DEVNULL
    )
    for number in range(2, 5):
        deadline = time.monotonic() + 120
        while len(delivered(log)) < number - 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        site.put("feed", numbered(range(number)))
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert len(delivered(log)) >= 3
    assert not path.with_name("seen.db-wal").exists()
    assert read(path, "SELECT 1 FROM seen WHERE on_abandoned > ''") == []


@pytest.mark.slow
def test_command_line(bot: Bot, tmp_path: Path) -> None:
    """Bad options are refused in words; --help says what it does."""
    for options, message in {
        ("--failures", "2"): "must be between 0 and 1",
        ("--webhook", "nonsense"): "must begin with http",
        ("--replay", str(tmp_path)): "no \\*.xml file",
    }.items():
        done = bot(*options)
        assert done.returncode == 2
        assert re.search(message, done.stderr)
    assert "at least once" in bot("--help").stdout
