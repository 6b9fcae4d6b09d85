"""``once``: a command that runs once for a key."""

from __future__ import annotations

import os
import signal

from ..support.tool import Tool, is_gone, pid_in
from .conftest import open_store

LONG = ("sh", "-c", "echo $$ > pid; exec sleep 60")


def test_runs_until_it_succeeds(tool: Tool) -> None:
    """The code is that of the command; after a success, nothing runs, quietly."""
    failed = tool.run("once", "k", "--", "sh", "-c", "cat; exit 3", given="in")
    assert (failed.code, failed.out, failed.err) == (3, "in", "")
    with open_store(tool) as store:
        record = store.get("k")
    assert record is not None
    assert record.error == "sh: exit code 3"
    assert tool.run("once", "--ttl", "never", "k", "--", "echo", "1").out == "1\n"
    again = tool.run("once", "k", "--", "echo", "1")
    assert (again.code, again.out, again.err) == (0, "", "")
    told = tool.run("once", "-v", "k", "--", "echo", "1")
    assert (told.out, "k is done since" in told.err) == ("", True)
    other = tool.run("once", "-n", "x", "k", "--", "sh", "-c", "kill -9 $$")
    assert other.code == 137


def test_errors(on_file: Tool) -> None:
    """Its own errors are 125, a command that cannot run is 126 or 127; one line."""
    (on_file.folder / "plain").write_text("echo")
    (on_file.folder / "not found").write_text("echo")
    (on_file.folder / "odd").write_text("echo")
    (on_file.folder / "odd").chmod(0o755)
    for code, words in (
        (127, ["k", "no-such-command"]),
        (126, ["k", "./plain"]),
        (126, ["k", "./not found"]),
        (126, ["k", "./odd"]),
        (125, ["k"]),
        (125, ["--lease", "7", "k", "true"]),
        (125, ["--store", "/proc/none/seen.db", "k", "true"]),
    ):
        done = on_file.run("once", *words)
        assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1)
    assert on_file.run("once", "k", "true").code == 0


def test_options_of_the_command(on_file: Tool) -> None:
    """What comes after KEY belongs to the command; options come before it."""
    for number, mark in enumerate(([], ["--"])):
        words = [
            "once",
            f"k{number}",
            *mark,
            "echo",
            "-n",
            "x",
            "--ttl",
            "1s",
            "--help",
        ]
        assert on_file.run(*words).out == "x --ttl 1s --help"
        assert on_file.run(*words).out == ""
    for words in (["once", "k", "-n", "x", "true"], ["once", "k", "--"]):
        assert on_file.run(*words).code == 125


def test_another_process_has_it(tool: Tool) -> None:
    """While it runs elsewhere, the code is 75; ``--wait`` waits for its end.

    A signal goes to the command; the key is given back, and the waiting call runs.
    """
    with tool.start("once", "k", "--", *LONG) as first:
        child = pid_in(tool)
        busy = tool.run("once", "k", "--", "echo", "1")
        assert (busy.code, busy.out) == (75, "")
        assert "another process has k since 20" in busy.err
        waiting = tool.start("once", "--wait", "1h", "k", "--", "echo", "2")
        first.send_signal(signal.SIGTERM)
        assert first.wait() == 143
        assert is_gone(child)
        out, _ = waiting.communicate()
        assert (waiting.returncode, out) == (0, b"2\n")


def test_held(on_file: Tool) -> None:
    """A key that is held runs nothing, and the advice is to resolve it."""
    with open_store(on_file) as store:
        store.claim("k").hold("why")
    done = on_file.run("once", "k", "--", "echo", "1")
    assert (done.code, done.out) == (75, "")
    assert "resolve" in done.err


def test_lease_is_renewed_and_lost(tool: Tool) -> None:
    """A lease is renewed while the command runs; if it is lost, that is code 125.

    The command is not ended for it.
    """
    script = "echo $$ > pid; until test -e go; do sleep 0.05; done; echo end"
    with tool.start("once", "--lease", "1s", "k", "--", "sh", "-c", script) as first:
        pid_in(tool)
        busy = tool.run("once", "--wait", "2s", "k", "true")
        assert busy.code == 75
        with open_store(tool) as store:
            store.mark_seen("k")
        (tool.folder / "go").touch()
        out, err = first.communicate()
    assert (first.returncode, out) == (125, b"end\n")
    assert b"not marked" in err


def test_stopped_for_longer_than_its_lease(on_file: Tool) -> None:
    """A process that was stopped does not confirm what another has taken."""
    with on_file.start("once", "--lease", "500ms", "k", "--", *LONG) as first:
        child = pid_in(on_file)
        first.send_signal(signal.SIGSTOP)
        second = on_file.run("once", "--wait", "1m", "k", "--", "echo", "2")
        assert (second.code, second.out) == (0, "2\n")
        first.send_signal(signal.SIGCONT)
        os.kill(child, signal.SIGKILL)
        first.communicate()
    assert first.returncode == 137
    assert on_file.run("once", "k", "--", "echo", "3").out == ""


def test_killed(on_file: Tool) -> None:
    """After ``kill -9`` the command is ended; the next call waits for the lease."""
    with on_file.start("once", "--lease", "2s", "k", "--", *LONG) as first:
        child = pid_in(on_file)
        first.kill()
    again = on_file.run("once", "--wait", "1m", "k", "--", "echo", "2")
    assert (again.code, again.out) == (0, "2\n")
    assert is_gone(child)


def test_at_a_terminal(on_file: Tool) -> None:
    """A Ctrl-C at the terminal reaches the command once."""
    script = "trap 'echo got; n=1' INT; echo ready; while [ -z $n ]; do sleep 0.1; done"
    script += "; sleep 0.3; exit 4"
    terminal = on_file.terminal("once", "k", "--", "bash", "-c", script)
    terminal.expect("ready")
    terminal.sendintr()
    terminal.expect("got")
    assert "got" not in terminal.read()
    terminal.close()
    assert terminal.exitstatus == 4
