"""``filter``: what passes, and what is marked."""

from __future__ import annotations

import os
import signal
import socket

import pexpect
import pytest

from ..support.tool import SMALL_FILES, Tool
from .conftest import open_store

LINES = "a\nb\nc\n"


def seen(tool: Tool, *keys: str, namespace: str = "") -> list[bool]:
    """Return of each key whether it is seen."""
    with open_store(tool) as store:
        return [store.is_seen(key, namespace=namespace) for key in keys]


def test_new_lines_pass_once(tool: Tool) -> None:
    """A line passes the first time, in order; what is seen, repeated or blank does not.

    Namespaces are separate, and a last line without an end gets one.
    """
    first = tool.run("filter", given="b\na\n\n  \nb\nc")
    assert (first.code, first.out, first.err) == (0, "b\na\nc\n", "")
    again = tool.run("filter", given="a\nd\nc\n")
    assert (again.code, again.out) == (0, "d\n")
    assert tool.run("filter", "-n", "x", "--ttl", "never", given="a").out == "a\n"
    with open_store(tool) as store:
        record = store.get("a", namespace="x")
    assert record is not None
    assert (record.state, record.expires_at) == ("seen", None)


def test_looking_marks_nothing(tool: Tool) -> None:
    """``-d`` passes what is new, ``-v`` what is seen; neither marks."""
    assert tool.run("filter", given="a\n").out == "a\n"
    assert tool.run("filter", "-d", given="a\nb\nb\n").out == "b\n"
    assert tool.run("filter", "-v", given="a\nb\na\n").out == "a\na\n"
    assert tool.run("filter", "-d", "-c", given="a\nb\nc\n").out == "2\n"
    assert seen(tool, "a", "b") == [True, False]


def test_only_marking(tool: Tool) -> None:
    """``-q`` and ``-c`` only mark; the code of ``-q`` says whether any is new."""
    silent = tool.run("filter", "-q", given=LINES)
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    assert tool.run("filter", "-q", given=LINES).code == 1
    assert tool.run("filter", "-c", given="c\nd\ne\n").out == "2\n"
    assert tool.run("filter", given="a\nd\ne\n").out == ""
    assert tool.run("filter", "-q", "-v", given="").code == 2


def test_keys(on_file: Tool) -> None:
    """A pointer or an expression finds the key; the whole line passes.

    A line without a key neither passes nor is marked, and there is a message.
    """
    events = '{"id": 1, "u": {"n/m": "Ann"}}\n{"id": 1.0}\n{"id": 1}\n[]\n{"id": ""}\n'
    done = on_file.run("filter", "--key", "/id", given=events)
    assert (done.code, done.out) == (4, "".join(events.splitlines(keepends=True)[:2]))
    assert done.err == "catalyst-seen: not handled: 2 lines without a key, such as []\n"
    named = on_file.run("filter", "--key", "/u/n~1m", given=events)
    assert named.out == events.splitlines(keepends=True)[0]
    assert seen(on_file, "1", "1.0", "Ann") == [True, True, True]
    log = "10:00 id=x1 a\n10:01 id=x1 b\n10:02 id=X1 c\n"
    found = on_file.run("filter", "-i", "--key", r"id=(\w+)", given=log)
    assert (found.code, found.out) == (0, log.splitlines(keepends=True)[0])
    assert on_file.run("filter", "--trim", given=" x1 \nx2\n").out == "x2\n"
    wrong = on_file.run("filter", "--key", "(", given=log)
    assert wrong.code == 2
    assert len(wrong.err.splitlines()) == 1


def test_bytes_pass_unchanged(on_file: Tool) -> None:
    """NUL, bytes that are no text, CR, and very long lines pass byte for byte, once.

    CRLF and LF are the same line; no other two lines are.
    """
    lines = [
        b"caf\xe9", b"caf\xe8", b"a\0b", b"a\0c", b"\rx", b"x\r\r", b"crlf\r",
        b"y" * 100_000, b"y" * 100_001, "ü".encode(), b"\xed\xa0\x80", b" lead",
    ]  # fmt: skip
    given = b"\n".join([*lines, b"crlf", b""])
    expected = b"\n".join([*lines, b""])
    for wanted in (expected, b""):
        with on_file.start("filter") as process:
            out, err = process.communicate(given)
        assert (process.returncode, out) == (0, wanted), err


def test_endless_line(on_file: Tool) -> None:
    """A line of any length takes bounded memory, and only its own place."""
    script = (
        "ulimit -v 1500000; { echo a; head -c 300000000 /dev/zero; echo; echo b; }"
        " | catalyst-seen filter"
    )
    done = on_file.shell(script)
    assert (done.code, done.out) == (4, "a\nb\n")
    assert "1 line longer than 16 MiB" in done.err


def test_lines_pass_as_they_come(tool: Tool) -> None:
    """A line passes while the input goes on, and is marked when it has been read."""
    with tool.start("filter", bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"a\n", b"b\n"):
            process.stdin.write(line)
            assert process.stdout.read(2) == line
        process.stdin.close()
        assert process.wait() == 0
    assert seen(tool, "a", "b") == [True, True]


def test_what_is_not_read_is_not_marked(tool: Tool) -> None:
    """A reader that ends leaves what it has not read: it passes again. It is quiet."""
    given = "".join(f"line {number}\n" for number in range(30_000))
    (tool.folder / "in.txt").write_text(given)
    with (
        (tool.folder / "in.txt").open() as lines,
        tool.start("filter", stdin=lines, bufsize=0) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(7) == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read().count(b"\n") <= 1  # where the store is
    assert process.returncode == 141
    rest = tool.run("filter", given=given)
    assert (rest.code, rest.out) == (0, given.removeprefix("line 0\n"))


def test_head(tool: Tool) -> None:
    """``filter | head -1`` loses nothing but what ``head`` has read."""
    (tool.folder / "in.txt").write_text("".join(f"{n}\n" for n in range(100_000)))
    done = tool.shell("catalyst-seen filter < in.txt | head -1; echo ${PIPESTATUS[0]}")
    assert done.out == "0\n141\n"
    assert done.err == ""
    left = tool.run("filter", "-d", "-c", given=(tool.folder / "in.txt").read_bytes())
    assert int(left.out) > 80_000


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
def test_full_disk(on_file: Tool, target: str) -> None:
    """What cannot be written is not marked: one line of error, code 4."""
    to = ">&-" if target == "closed" else f"> {target}"
    done = on_file.shell(f"printf 'a\\nb\\n' | catalyst-seen filter {to}")
    assert done.code == 4
    assert len(done.err.splitlines()) == 1
    assert on_file.run("filter", given="a\nb\n").out == "a\nb\n"


def test_file_that_becomes_full(on_valkey: Tool) -> None:
    """Every line is in a file whole or not at all, and is marked if it is there."""
    given = "".join(f"{number:09d}\n" for number in range(3_000))
    (on_valkey.folder / "in.txt").write_text(given)
    done = on_valkey.shell(f"{SMALL_FILES}; catalyst-seen filter < in.txt >> out.txt")
    out = (on_valkey.folder / "out.txt").read_text()
    assert (done.code, len(done.err.splitlines())) == (4, 1)
    assert given.startswith(out)
    assert out.endswith("\n")
    assert on_valkey.run("filter", given=given).out == given.removeprefix(out)


def test_socket(tool: Tool) -> None:
    """Over a socket, too, a line is marked when the other side has read it."""
    ours, theirs = socket.socketpair()
    with ours, tool.start("filter", stdout=theirs) as process:
        theirs.close()
        assert process.stdin is not None
        process.stdin.write(b"a\n")
        process.stdin.close()
        assert ours.recv(100) == b"a\n"
        assert process.wait() == 0
    assert seen(tool, "a") == [True]


def test_interrupt(tool: Tool) -> None:
    """Ctrl-C gives back what nobody has read, and ends with 130."""
    with tool.start("filter", bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        assert process.stdout.read(2) == b"a\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 130
    assert tool.run("filter", given="a\nb\n").out == "b\n"


def test_held(on_file: Tool) -> None:
    """A line that is held does not pass: a person decides; code 4."""
    with open_store(on_file) as store:
        store.claim("a").hold("why")
    done = on_file.run("filter", given="a\nb\n")
    assert (done.code, done.out) == (4, "b\n")
    assert "1 line held" in done.err


def test_help_at_a_terminal(on_file: Tool) -> None:
    """At a terminal it says that it waits for lines."""
    terminal = on_file.terminal("filter")
    terminal.expect("Ctrl-D")
    terminal.sendline("hello")
    terminal.expect("hello\r\n.*hello\r\n")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert seen(on_file, "hello") == [True]
