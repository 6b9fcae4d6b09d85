"""``each``: a command for each new line."""

from __future__ import annotations

import signal
import time

import pytest

from ..support.tool import Tool, is_gone, pid_in, wait_until_gone
from .conftest import open_store

FAILS_ON_2 = "echo out $0; test $0 != 2"


def test_marks_what_succeeds(tool: Tool) -> None:
    """A line is marked when its command ends with 0; the next run takes what failed.

    ``why`` it failed is kept; a line that is seen runs nothing.
    """
    done = tool.run("each", "--", "sh", "-c", FAILS_ON_2, given="1\n2\n3\n")
    assert (done.code, done.out) == (4, "out 1\nout 2\nout 3\n")
    assert done.err == "catalyst-seen: failed: 2: exit code 1\n"
    with open_store(tool) as store:
        record = store.get("2")
    assert record is not None
    assert (record.state, record.error) == ("released", "exit code 1")
    again = tool.run("each", "--", "echo", "<{}>", "{}", given="1\n2\n3\n")
    assert (again.code, again.out, again.err) == (0, "<2> 2\n", "")


def test_outputs_are_not_mixed(on_file: Tool) -> None:
    """Of commands that run at once, each output is written whole."""
    script = "echo begin $0; sleep 0.05; seq 3000; echo end $0"
    given = "".join(f"{number}\n" for number in range(8))
    done = on_file.run("each", "-j", "4", "--", "sh", "-c", script, given=given)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 8 * 3002
    for start in range(0, len(lines), 3002):
        name = lines[start].removeprefix("begin ")
        assert lines[start + 3001] == f"end {name}"


def test_arguments(on_file: Tool) -> None:
    """No shell reads a line; ``--stdin`` gives it as the input, else empty."""
    evil = "; echo $HOME `id` *\n"
    assert on_file.run("each", "--", "echo", given=evil).out == evil
    assert on_file.run("each", "--stdin", "-n", "x", "cat", given=evil).out == evil
    assert on_file.run("each", "-n", "y", "--", "cat", "-", given="-\n").out == ""
    odd = on_file.run("each", "-n", "z", "--", "echo", given=b"a\0b\n" + b"x" * 200_000)
    assert (odd.code, odd.out, len(odd.err.splitlines())) == (4, "", 2)


def test_options_of_the_command(on_file: Tool) -> None:
    """What comes after the command belongs to it, with or without ``--``."""
    given = "a\n"
    for number, mark in enumerate(([], ["--"])):
        words = [
            "each",
            "-n",
            str(number),
            *mark,
            "echo",
            "-n",
            "x",
            "-j",
            "4",
            "--help",
        ]
        assert on_file.run(*words, given=given).out == "x -j 4 --help a"


def test_command_not_found(on_file: Tool) -> None:
    """A command that is not there is an error of usage, before anything is claimed."""
    done = on_file.run("each", "--", "no-such-command", given="a\n")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert not list(on_file.folder.iterdir())


def test_retries_and_timeout(on_file: Tool) -> None:
    """``--retries`` runs a command again; ``--timeout`` ends it, with its children."""
    (on_file.folder / "n").write_text("")
    script = "echo >> n; test $(wc -l < n) = 2"
    done = on_file.run("each", "--retries", "1", "--", "sh", "-c", script, given="a\n")
    assert (done.code, done.err) == (0, "")
    slow = on_file.run(
        "each", "--timeout", "200ms", "--", "sh", "-c", "sleep 60 | cat", given="b\n"
    )
    assert slow.code == 4
    assert slow.err.startswith("catalyst-seen: failed: b: ended after ")


def test_later(on_file: Tool) -> None:
    """A command that ends with 75 is put off: later runs leave it until its time."""
    done = on_file.run("each", "--later", "1h", "--", "sh", "-c", "exit 75", given="a")
    assert (done.code, done.out) == (4, "")
    again = on_file.run("each", "--", "echo", given="a\nb\n")
    assert (again.code, again.out) == (4, "b\n")
    with open_store(on_file) as store:
        record = store.get("a")
    assert record is not None
    assert record.until is not None
    assert record.until > time.time() + 3000


def test_output_that_fails(on_file: Tool) -> None:
    """A command that has ended well never runs again, whatever its output came to.

    Once the output fails, no further command begins.
    """
    each = "seq 5 | catalyst-seen each -- sh -c 'echo $0 >> ran; echo done'"
    full = on_file.shell(f"{each} > /dev/full")
    assert (full.code, len(full.err.splitlines())) == (4, 1)
    assert on_file.shell(f"{each} >&-").code == 4
    ended = on_file.shell(f"{each} | true; echo $PIPESTATUS")
    assert ended.err == ""
    assert on_file.shell(each).code == 0
    assert (on_file.folder / "ran").read_text().split() == ["1", "2", "3", "4", "5"]


def test_no_reader(on_file: Tool) -> None:
    """Without a reader of the output, no command begins; nor if it is closed."""
    script = "echo $0 >> ran"
    with on_file.start("each", "--", "sh", "-c", script, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"a\n")
        process.stdin.close()
        assert process.wait() == 141
    closed = on_file.shell(f"echo a | catalyst-seen each -- sh -c '{script}' >&-")
    assert (closed.code, len(closed.err.splitlines())) == (4, 1)
    assert not (on_file.folder / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(tool: Tool, number: signal.Signals) -> None:
    """A signal ends the commands and gives their lines back; code 128 + n."""
    script = "echo $$ > pid; exec sleep 60"
    with tool.start("each", "--", "sh", "-c", script, bufsize=0) as process:
        assert process.stdin is not None
        process.stdin.write(b"a\nb\n")
        child = pid_in(tool)
        process.send_signal(number)
        assert process.wait() == 128 + number
    assert is_gone(child)
    assert tool.run("each", "--", "echo", given="a\nb\n").out == "a\nb\n"


def test_killed(on_file: Tool) -> None:
    """After ``kill -9`` the system ends the command; the line waits its lease."""
    script = "echo $$ > pid; exec sleep 60"
    words = ("each", "--lease", "2s", "--", "sh", "-c", script)
    with on_file.start(*words, bufsize=0) as process:
        assert process.stdin is not None
        process.stdin.write(b"a\n")
        child = pid_in(on_file)
        process.kill()
    wait_until_gone(child)
    again = on_file.run("each", "--", "echo", given="a\n")
    assert (again.code, again.out) == (0, "a\n")
