"""``serve``: metrics and probes over HTTP, whatever becomes of the store."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from catalyst_seen import SeenStore, StoreUnavailableError

from ..faults.harness.disks import fill, small_disk
from ..support.locks import transaction
from ..support.servers import Valkey
from ..support.tool import Tool
from .conftest import open_store

_PATIENCE = 60.0


class Served:
    """A running ``serve``.

    Attributes:
        process: Its process.
        port: Its port.
        said: What it has said until it served.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it serves."""
        self.process = process
        self.said = b""
        assert process.stderr is not None
        while not (found := re.search(rb"http://\S+:(\d+)", self.said)):
            line = process.stderr.readline()
            assert line, self.said
            self.said += line
        self.port = int(found[1])

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Return status, content type and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], text

    def ready(self) -> tuple[int, str]:
        """Return the status and the text of the readiness."""
        status, _, text = self.get("/readyz")
        return status, text

    def until(self, status: int, text: str = "") -> None:
        """Wait until the readiness has a status, and a text."""
        deadline = time.monotonic() + _PATIENCE
        while (found := self.ready())[0] != status or text not in found[1]:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it; return what it has said since."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=_PATIENCE)
        assert self.process.returncode == 128 + number
        return err.decode()


@contextmanager
def serving(tool: Tool, *words: str) -> Iterator[Served]:
    """Serve the metrics of a store on a free port."""
    with tool.start("serve", "--port", "0", *words) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


def values(text: str) -> dict[str, float]:
    """Return the sums of the series of each name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_metrics(tool: Tool) -> None:
    """A scrape has what is in the database from the first time on."""
    with open_store(tool) as store:
        store.mark_many(["a", "b"], namespace="n")
        store.namespace("feed", first="all").observe(["x"])
        store.claim("c", lease=600)
    with serving(tool) as served:
        status, kind, text = served.get("/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        found = values(text)
        assert found["catalyst_seen_keys"] == 2
        assert found["catalyst_seen_source_pending"] == 1
        assert found["catalyst_seen_source_items_total"] == 1
        assert found["catalyst_seen_claims"] == 1
        _, kind, text = served.get("/metrics", Accept="application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        assert list(parse_openmetrics(text))
        assert served.ready() == (200, "ok\n")
        assert served.get("/livez")[::2] == (200, "ok\n")
        assert "/readyz" in served.get("/")[2]
        assert served.get("/other")[0] == 404
        assert served.end() == ""


def test_probes_leave_nothing(tool: Tool) -> None:
    """However often it is asked, the store has only what its programs have marked."""
    with open_store(tool) as store:
        store.mark_seen("a")
        with serving(tool) as served:
            for _ in range(20):
                assert served.ready()[0] == 200
        assert [record.key for record in store.records()] == ["a"]
        assert store.namespaces() == [""]


def test_store_that_comes_later(on_file: Tool) -> None:
    """It waits for a store, makes none, and says why it is not ready."""
    with serving(on_file) as served:
        status, text = served.ready()
        assert status == 503
        assert "there is no store" in text
        assert served.get("/metrics")[0] == 503
        assert served.get("/livez")[0] == 200
        assert not Path(on_file.folder, on_file.store).exists()
        with open_store(on_file) as store:
            store.mark_seen("a")
        served.until(200)
        assert values(served.get("/metrics")[2])["catalyst_seen_keys"] == 1
        assert served.end(signal.SIGINT).splitlines()[-1].endswith("ready")


def _full_disk(tool: Tool, stack: ExitStack) -> Callable[[], object]:
    folder = stack.enter_context(small_disk(tool.folder / "disk", "2m"))
    tool.store = str(folder / "seen.db")
    with open_store(tool) as store:
        store.mark_seen("a")

    def begin() -> object:
        filler = fill(folder)
        other = stack.enter_context(open_store(tool))
        with pytest.raises(StoreUnavailableError):
            other.mark_many(f"{number:0500}" for number in range(10_000))
        return filler.unlink

    return begin


def _held_lock(tool: Tool, stack: ExitStack) -> Callable[[], object]:
    def begin() -> object:
        locked = transaction(Path(tool.folder, tool.store), "BEGIN IMMEDIATE")
        held = stack.enter_context(ExitStack())
        held.enter_context(locked)
        return held.close

    return begin


def _gone(tool: Tool, _: ExitStack) -> Callable[[], object]:
    path = Path(tool.folder, tool.store)

    def begin() -> object:
        moved = path.rename(path.with_suffix(".moved"))
        return lambda: moved.rename(path)

    return begin


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (_full_disk, "No space left"),
        (_held_lock, "no answer within 0.2 seconds"),
        (_gone, "seen.db"),
    ],
)
def test_readiness_fails_and_recovers(
    on_file: Tool,
    fault: Callable[[Tool, ExitStack], Callable[[], Callable[[], object]]],
    reason: str,
) -> None:
    """It is not ready while a fault lasts, says why, and is ready again after it."""
    with ExitStack() as stack:
        with open_store(on_file) as store:
            store.mark_seen("a")
        begin = fault(on_file, stack)
        with serving(on_file, "--within", "200ms") as served:
            served.until(200)
            end = begin()
            served.until(503, reason)
            assert served.get("/livez")[0] == 200
            end()
            served.until(200)
            assert "not ready: " in served.end()


def test_file_that_was_replaced(on_file: Tool) -> None:
    """Another file in the place of the store's is opened."""
    path = Path(on_file.folder, on_file.store)
    with open_store(on_file) as store:
        store.mark_many(["a", "b"])
        store.backup(path.with_suffix(".copy"))
        store.forget("b")
    with serving(on_file, "--within", "1s") as served:
        served.until(200)
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        path.with_suffix(".copy").replace(path)
        deadline = time.monotonic() + _PATIENCE
        while values(served.get("/metrics")[2]).get("catalyst_seen_keys") != 2:
            assert time.monotonic() < deadline
            served.ready()
        assert served.ready() == (200, "ok\n")


def test_server_that_is_gone(on_file: Tool) -> None:
    """A server that is not there yet, ends, and comes back."""
    with Valkey(appendonly="yes") as server:
        tool = Tool(on_file.folder, server.url)
        server.kill()
        with serving(tool, "--within", "300ms") as served:
            served.until(503, str(server.port))
            server.start()
            served.until(200)
            server.kill()
            served.until(503)
            server.start()
            served.until(200)
            served.end()


def test_it_ends_at_once(on_file: Tool) -> None:
    """A scraper that hangs, and a probe that waits, do not delay its end."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    path = Path(on_file.folder, on_file.store)
    with serving(on_file, "--within", "50s") as served, ExitStack() as stack:
        for _ in range(50):
            hanging = socket.create_connection(("127.0.0.1", served.port))
            stack.enter_context(hanging)
            hanging.sendall(b"GET /metrics HTTP/1.1\r\n")
        stack.enter_context(transaction(path, "BEGIN IMMEDIATE"))
        waiting = socket.create_connection(("127.0.0.1", served.port))
        stack.enter_context(waiting)
        waiting.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert served.get("/livez")[0] == 200
        served.end()


def test_what_cannot_be_served(on_file: Tool) -> None:
    """A port in use, and an address of another machine, are said in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = on_file.run("serve", "--port", port)
    assert done.code == 2
    assert f"127.0.0.1 port {port}" in done.err
    assert done.err.count("\n") == 1
    done = on_file.run("serve", "--host", "192.0.2.1")
    assert (done.code, done.err.count("\n")) == (2, 1)
    with serving(on_file, "--host", "0.0.0.0") as served:  # noqa: S104 - it is said
        assert served.process.stderr is not None
        assert b"other machines may reach it" in served.process.stderr.readline()


def test_hostile_requests(on_file: Tool) -> None:
    """What is no request of a scraper is refused, and it goes on."""
    with open_store(on_file) as store:
        store.mark_seen("a")
    with serving(on_file) as served:
        for request in (
            b"\x00\x01\x02\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nX: " + b"b" * 100_000 + b"\r\n\r\n",
            b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(request)
                assert connection.recv(100).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
        assert served.ready() == (200, "ok\n")


def test_without_the_extra(on_file: Tool) -> None:
    """Without its packages it says what to install."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None;"
        "from catalyst_seen.cli import main; main(['serve'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, check=False, cwd=on_file.folder, text=True,
    )  # fmt: skip
    assert "pip install 'catalyst-seen[serve]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_store_is_used_beside(on_file: Tool) -> None:
    """It serves a store that a program has open, and takes nothing from it."""
    with SeenStore(Path(on_file.folder, on_file.store)) as store:
        assert store.check_and_mark("a")
        with serving(on_file) as served:
            served.until(200)
            assert store.check_and_mark("b")
            assert not store.check_and_mark("a")
