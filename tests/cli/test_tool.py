"""The habits of the tool: help, exit codes, what is said where, what is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import catalyst_seen
from catalyst_seen.cli._stores import configuration

from ..support.tool import PYTHON, Tool
from .conftest import open_store

LATE = ("rich", "aiohttp", "feedparser", "asyncpg", "redis", "structlog")


def test_version_and_help(on_file: Tool) -> None:
    """``--version``, ``--help``, and no arguments: to standard output, and no store."""
    version, shown, none = (
        on_file.run(*words) for words in (["--version"], ["--help"], [])
    )
    assert version.out == f"catalyst-seen {catalyst_seen.__version__}\n"
    assert "Examples:" in shown.out
    assert (version.code, shown.code, shown.err) == (0, 0, "")
    assert none.code == 2
    assert "Usage:" in none.out + none.err
    assert not list(on_file.folder.iterdir())


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["filte"], "filter"),
        (["seen"], "KEY"),
        (["seen", " "], "blank"),
        (["--store", "", "seen", "a"], "--store"),
        (["--store", "localhost:6379", "seen", "a"], "valkey://localhost:6379"),
        (["--store", "mysql://h/db", "seen", "a"], "mysql"),
        (["seen", "--ttl", "1d", "a"], "--ttl"),
    ],
)
def test_wrong_usage(on_file: Tool, words: list[str], fragment: str) -> None:
    """What is wrong with a command line is one line on stderr; the code is 2."""
    done = on_file.run(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("catalyst-seen: ")
    assert fragment in done.err


@pytest.mark.parametrize(
    ("url", "setting"), [("postgresql://h/d", "schema"), ("valkey://h", "prefix")]
)
def test_name_after_a_url(
    monkeypatch: pytest.MonkeyPatch, url: str, setting: str
) -> None:
    """The name after ``#`` is a setting; an option has its own, not the variable's."""
    monkeypatch.setenv("SEEN_STORE_URL", f"{url}#other")
    config = configuration(f"{url}#my%40bots", create=True)
    assert (config.url, getattr(config, setting)) == (url, "my@bots")
    assert getattr(configuration(None, create=True), setting) == "other"
    for address in (url, "seen.db"):
        config = configuration(address, create=True)
        assert (config.schema, config.prefix) == ("catalyst_seen", "seen")
    with pytest.raises(ValueError, match="%23") as caught:
        configuration(f"{url}#s3cret@127.0.0.1:1/0", create=True)
    assert "s3cret" not in str(caught.value)


def test_no_password_is_shown(on_file: Tool) -> None:
    """A server that does not answer is one line, without the password."""
    url = "postgresql://user:s3cret@127.0.0.1:9/db?connect_timeout=1"
    done = on_file.run("--store", url, "seen", "a", env={"SEEN_DB_PATH": ""})
    assert done.code in {2, 3}
    assert "s3cret" not in done.err
    assert done.err.count("\n") == 1


def test_only_what_is_needed_is_imported(on_file: Tool) -> None:
    """A command on a file imports neither drivers nor what draws tables."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    script = (
        "import sys; from catalyst_seen.cli import main; code = main(['seen', 'a']);"
        f" print(code, [name for name in {LATE} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, check=True, cwd=on_file.folder, text=True,
        env=on_file.variables(),
    )  # fmt: skip
    assert done.stdout == "0 []\n"


@pytest.mark.parametrize("store", ["seen.db", "valkey://127.0.0.1:9"])
def test_pysqlite3_is_imported_only_where_it_helps(on_file: Tool, store: str) -> None:
    """A good SQLite of Python is enough, and a server needs none."""
    script = (
        "import sys, sqlite3;"
        " sqlite3.sqlite_version_info = (3, 51, 3);"
        " from catalyst_seen.cli import main; main(['--store', 'STORE', 'seen', 'a']);"
        " print([name for name in sys.modules if name.startswith('pysqlite3')])"
    )
    if "://" in store:
        script = script.replace("(3, 51, 3)", "(3, 40, 1)")
    done = subprocess.run(
        [sys.executable, "-c", script.replace("STORE", store)],
        capture_output=True, check=True, cwd=on_file.folder, text=True,
        env={**on_file.variables(), "SEEN_DB_PATH": ""},
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_without_click(on_file: Tool) -> None:
    """Without the extra, the tool says what to install."""
    script = (
        "import sys; sys.modules['click'] = None; from catalyst_seen.cli import main;"
        " sys.exit(main(['seen', 'a']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, check=False, cwd=on_file.folder, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "catalyst-seen: click is not installed: pip install 'catalyst-seen[cli]'\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(on_file: Tool, shell: str) -> None:
    """The script of a shell completes the names of commands and of options."""
    assert "catalyst-seen" in on_file.run("completion", shell).out
    words = {"COMP_WORDS": "catalyst-seen se", "COMP_CWORD": "1"}
    if shell == "fish":
        words["COMP_CWORD"] = "se"
    env = {"_CATALYST_SEEN_COMPLETE": f"{shell}_complete", **words}
    assert "seen" in on_file.run(env=env).out


def test_store_is_shown_but_not_when_quiet(on_file: Tool) -> None:
    """Looking says on standard error where the store is; ``-q`` says nothing."""
    with open_store(on_file) as store:
        store.mark_seen("a")

    def stderr(*words: str) -> bytes:
        process = on_file.start(*words)
        return process.communicate()[1]

    assert os.fsencode(on_file.store) in stderr("seen", "a")
    assert stderr("seen", "-q", "a") == stderr("-q", "seen", "a") == b""


def test_environment_and_option(on_file: Tool) -> None:
    """``--store`` comes before the environment, in either place of the line."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    elsewhere = {"SEEN_DB_PATH": "nowhere.db"}
    assert on_file.run("seen", "a", env=elsewhere).code == 3
    for words in (
        ["--store", on_file.store, "seen"],
        ["seen", "--store", on_file.store],
    ):
        assert on_file.run(*words, "a", env=elsewhere).code == 0


def test_module(on_file: Tool) -> None:
    """``python -m catalyst_seen`` is the tool."""
    assert PYTHON[-2:] == ["-m", "catalyst_seen"]
    assert "catalyst-seen" in on_file.run("--version").out
