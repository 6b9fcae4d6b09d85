"""``demo``: it really kills, it really fails, and it loses nothing."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen.cli._codes import Failure
from catalyst_seen.cli._demo import crew as crew_module
from catalyst_seen.cli._demo.crew import Crew
from catalyst_seen.cli._demo.figures import Moment, Outcome, outcome
from catalyst_seen.cli._demo.running import Plan, run
from catalyst_seen.cli._demo.site import FAILURES, Delivery, Site

from ..support.tool import Tool, wait_until_gone

ROOT = Path(__file__).parents[2]
SHORT = ("demo", "--seconds", "2", "--workers", "2")
WHILE_IT_RUNS = ("demo", "--seconds", "600", "--workers", "2")
LAST = Moment(1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """The tool, with a folder for temporary files that is otherwise empty."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return Tool(tmp_path, "none.db", {"TMPDIR": str(temporary)})


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in words]


def check_nothing_stays(tool: Tool, workers: list[int]) -> None:
    """Check that no worker and no file is left."""
    for pid in workers:
        wait_until_gone(pid)
    assert not list((tool.folder / "temporary").iterdir())
    assert [one.name for one in tool.folder.iterdir()] == ["temporary"]


def test_loses_nothing(tool: Tool) -> None:
    """Workers are killed, deliveries fail and are repeated, and each item arrives."""
    done = tool.run(*SHORT, "--json")
    assert done.code == 0, done.err
    (found,) = done.rows
    assert found["lost"] == found["pending"] == 0
    assert found["delivered"] == found["published"] >= 100
    assert found["kills"] > 0
    assert set(found["webhook_failures"]) == set(FAILURES)
    assert sum(found["webhook_failures"].values()) > 0
    assert found["retries"] > 0
    assert found["duplicates_refused"] > 0
    assert found["calls"] > found["delivered"]
    assert sum(found["delivered_again_because"].values()) == found["delivered_again"]
    assert not found["problems"]
    check_nothing_stays(tool, [])


def test_without_a_terminal(tool: Tool) -> None:
    """In a pipe there are plain lines, while it runs and in the end."""
    done = tool.run(*SHORT)
    assert done.code == 0, done.err
    lines = dict(line.strip().split(": ") for line in done.out.splitlines())
    assert lines["lost"] == "0"
    assert lines["delivered"] == lines["published"]
    assert int(lines["workers killed (SIGKILL)"]) > 0
    assert "\x1b" not in done.out + done.err
    assert " delivered, " in done.err
    assert "worker.py" in done.err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tool: Tool, number: signal.Signals) -> None:
    """``SIGINT`` and ``SIGTERM`` end it, its workers, and its folder."""
    with working(tool) as process:
        workers = children(process.pid)
        assert workers
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    check_nothing_stays(tool, workers)


def test_workers_do_not_outlive_it(tool: Tool) -> None:
    """If the demo itself is killed, its workers end as well."""
    with working(tool) as process:
        workers = children(process.pid)
        process.kill()
    for pid in workers:
        wait_until_gone(pid)


def working(tool: Tool) -> subprocess.Popen[bytes]:
    """Start it, and wait until something is delivered."""
    process = tool.start(*WHILE_IT_RUNS)
    assert process.stderr is not None
    for line in process.stderr:
        if b" delivered, " in line and b": 0 delivered" not in line:
            return process
    raise AssertionError(process.wait())


def test_terminal(tool: Tool) -> None:
    """A terminal gets a picture while it runs, and a table in the end."""
    with tool.terminal(*SHORT, size=(24, 80)) as shown:
        shown.expect("in flight")
        shown.expect("duplicates refused")
        shown.expect("╭")
        table = re.sub(r"\x1b\[[\d;]*m", "", shown.read())
    assert shown.exitstatus == 0
    assert re.search(r"│ lost +│ +0 │", table)
    assert re.search(r"│ delivered again +│ +[\d,]+ │", table)
    assert len(table.splitlines()) < 24
    check_nothing_stays(tool, [])


def test_ctrl_c_at_a_terminal(tool: Tool) -> None:
    """Ctrl-C ends the picture, gives the cursor back, and leaves no process."""
    with tool.terminal(*WHILE_IT_RUNS) as shown:
        shown.expect("kill -9")
        workers = children(shown.pid)
        shown.sendintr()
        rest = shown.read()
    assert shown.exitstatus == 128 + signal.SIGINT
    assert rest.rstrip().rpartition("\x1b[?25")[2].startswith("h")
    assert "Traceback" not in rest
    check_nothing_stays(tool, workers)


async def test_a_worker_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends by itself ends the demo, with what it has said."""
    monkeypatch.setattr(crew_module, "_MODULE", "no_such_module")

    class Screen:
        def show(self, now: Moment) -> None:
            """Show nothing."""

    with pytest.raises(Failure, match=r"exit code 1: .*no_such_module"):
        await run(Plan(2.0, 2), Screen())


def ended(
    folder: Path, deliveries: list[Delivery], unseen: list[str], **killed: Any
) -> Outcome:
    """Return the outcome of a demo with the items ``item-1`` and ``item-2``."""
    site = Site()
    site.publish(2)
    site.deliveries = deliveries
    site.delivered = {one.key for one in deliveries}
    crew = Crew(folder, 0, 1)
    crew.killed = {int(name.removeprefix("w")): when for name, when in killed.items()}
    return outcome(LAST, site, crew, unseen, [])


def test_what_is_lost_and_what_waits(tmp_path: Path) -> None:
    """What is marked and was not delivered is lost; without a mark it still waits."""
    first = Delivery("item-1", 1, is_answered=True, when=1.0)
    second = Delivery("item-2", 1, is_answered=True, when=1.0)
    lost = ended(tmp_path, [first], unseen=[])
    assert (lost.lost, lost.pending, bool(lost)) == (1, 0, False)
    waits = ended(tmp_path, [first], unseen=["item-2"])
    assert (waits.lost, waits.pending, bool(waits)) == (0, 1, False)
    whole = ended(tmp_path, [first, second], unseen=[])
    assert (whole.lost, whole.pending, bool(whole)) == (0, 0, True)


def test_why_an_item_came_again(tmp_path: Path) -> None:
    """A further delivery has the reason for which the one before was not confirmed."""

    def twice(*, is_answered: bool, **killed: float) -> Outcome:
        deliveries = [
            Delivery("item-1", 1, is_answered, when=1.0),
            Delivery("item-2", 1, is_answered=True, when=1.0),
            Delivery("item-1", 2, is_answered=True, when=4.0),
        ]
        return ended(tmp_path, deliveries, [], **killed)

    assert twice(is_answered=True, w1=2.0).repeated == {"killed": 1}
    assert twice(is_answered=True, w2=2.0).repeated == {"too_late": 1}
    assert twice(is_answered=True, w1=5.0).repeated == {"too_late": 1}
    assert twice(is_answered=False).repeated == {"answer_lost": 1}


def test_the_document_shows_the_worker() -> None:
    """The worker in the document is the one that runs."""
    worker = ROOT / "catalyst_seen" / "cli" / "_demo" / "worker.py"
    shown = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    assert f"```python\n{worker.read_text(encoding='utf-8')}```\n" in shown
