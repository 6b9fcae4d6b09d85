"""Servers and the ends of who uses them: the tests, and stores that nobody closed."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from catalyst_seen import SeenStore

from ..support import guardian
from ..support.feeds import ROOT
from ..support.scripts import Run
from ..support.targets import SERVERS, Target
from ..support.unclosed import CODES, LEAKS

SCRIPT = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    from tests.support.servers import Postgres, Valkey
    valkey, postgres = Valkey().start(), Postgres().start()
    postgres.execute("SELECT 1")
    postgres.pause()
    for server in (valkey, postgres):
        print(server.pid, server.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_killed_tests_leave_no_server(run_script: Run) -> None:
    """Tests that are killed leave no server and no folder, even of a paused one."""
    done = run_script(SCRIPT, str(ROOT))
    assert done.returncode == -signal.SIGKILL, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for pid, folder in lines:
        assert not guardian.is_running(int(pid))
        assert not Path(folder).exists()


@pytest.mark.slow
def test_killed_server_restarts_on_its_port() -> None:
    """A server that was killed restarts on its port with its durable data."""
    from ..support.servers import Postgres, Valkey

    with Valkey(appendonly="yes", appendfsync="always") as valkey:
        with valkey.client() as client:
            client.set("k", "kept")
        url, pid = valkey.url, valkey.pid
        valkey.kill()
        valkey.start()
        assert (valkey.url, valkey.pid == pid) == (url, False)
        with valkey.client() as client:
            assert client.get("k") == "kept"
    with Postgres() as postgres:
        postgres.execute("CREATE TABLE t AS SELECT 'kept' AS k")
        postgres.kill()
        postgres.start()
        assert postgres.execute("SELECT k FROM t") == [[("kept",)]]
        assert "ready to accept connections" in postgres.log
    assert not guardian.is_running(pid)


@pytest.mark.parametrize("shared", SERVERS, indirect=True)
@pytest.mark.parametrize("shape", ["global", "local", "exception"])
@pytest.mark.parametrize("twin", ["", "blocking "], ids=["asyncio", "blocking"])
@pytest.mark.slow
def test_unclosed_store_on_server_lets_process_exit(
    shared: Target, run_script: Run, shape: str, twin: str
) -> None:
    """A process with an unclosed store on a server exits by itself."""
    url = str(shared.settings.url)
    script = (
        "import asyncio, sys\n"
        "from catalyst_seen import AsyncSeenStore, SeenStore\n"
        "path = sys.argv[1]\n" + textwrap.dedent(LEAKS[twin + shape])
    )
    done = run_script(script, url)
    assert done.returncode == CODES.get(shape, 0), done.stderr
    with SeenStore(url) as store:
        assert store.forget("k")
