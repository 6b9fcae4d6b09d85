"""``filter`` that is killed, stopped, or not alone: nothing is lost."""

from __future__ import annotations

import random
import signal
import time

from ..support.tool import Tool

KILLS = 6


def test_nothing_is_lost_by_kills(tool: Tool) -> None:
    """Killed at any moment, and run again at once: in the end every line has passed.

    The ledger is a file that all runs append to. The last run waits for the lines of
    the one that was killed, and says so.
    """
    lines = [f"{number:06d}" for number in range(20_000)]
    (tool.folder / "in.txt").write_text("\n".join(lines) + "\n")
    ledger = tool.folder / "ledger.txt"
    rng = random.Random(17)
    for _ in range(KILLS):
        with ledger.open("ab") as out, (tool.folder / "in.txt").open("rb") as given:
            process = tool.start("filter", stdin=given, stdout=out)
            before = ledger.stat().st_size
            while process.poll() is None and ledger.stat().st_size == before:
                time.sleep(0.001)
            time.sleep(rng.random() / 20)
            process.kill()
            process.communicate()
    with ledger.open("ab") as out, (tool.folder / "in.txt").open("rb") as given:
        process = tool.start("filter", stdin=given, stdout=out)
        process.communicate()
    assert process.returncode == 0
    passed = ledger.read_text().splitlines()
    assert {*passed} == {*lines}
    assert len(passed) <= len(lines) + KILLS * 1_000  # at most a batch for each kill
    assert tool.run("filter", given="\n".join(lines)).out == ""


def test_two_at_once_share_the_lines(tool: Tool) -> None:
    """Two filters of the same lines pass each line once, between them."""
    lines = [f"{number:06d}" for number in range(5_000)]
    (tool.folder / "in.txt").write_text("\n".join(lines) + "\n")
    tool.run("filter")
    outputs = [tool.folder / f"out{number}" for number in range(2)]
    processes = []
    for output in outputs:
        with output.open("wb") as out, (tool.folder / "in.txt").open("rb") as given:
            processes.append(tool.start("filter", stdin=given, stdout=out))
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    passed = [line for output in outputs for line in output.read_text().splitlines()]
    assert sorted(passed) == lines


def test_stopped_for_longer_than_its_lease(on_file: Tool) -> None:
    """A filter that was stopped leaves a line to the one that has passed it."""
    with on_file.start("filter", bufsize=0) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(b"a\nb\n")
        assert first.stdout.read(2) == b"a\n"  # "b" waits for its reader
        first.send_signal(signal.SIGSTOP)
        second = on_file.run("filter", given="a\nb\n")  # it waits for the lease
        assert (second.code, second.out.splitlines()[-1:]) == (0, ["b"])
        assert "waits up to" in second.err
        first.send_signal(signal.SIGCONT)
        assert first.stdout.read(2) == b"b\n"
        first.stdin.close()
        assert first.wait() == 0
    assert on_file.run("filter", given="a\nb\n").out == ""


def test_slow_reader_keeps_its_lines(on_file: Tool) -> None:
    """While a reader takes its time, its lines are renewed: nobody else gets them."""
    with on_file.start("filter", bufsize=0) as slow:
        assert slow.stdin is not None
        assert slow.stdout is not None
        slow.stdin.write(b"a\nb\n")
        slow.stdin.close()
        assert slow.stdout.read(2) == b"a\n"
        other = on_file.run("filter", given="b\n")
        assert (other.code, other.out) == (4, "")
        assert "1 line in flight" in other.err
        assert slow.stdout.read(2) == b"b\n"
        assert slow.wait() == 0


def test_pipeline_on_one_store(on_file: Tool) -> None:
    """The second of two filters in a pipe waits for the first, and passes nothing."""
    done = on_file.shell("seq 3000 | catalyst-seen filter | catalyst-seen filter")
    assert (done.code, done.out) == (0, "")
