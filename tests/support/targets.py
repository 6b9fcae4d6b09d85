"""The backends that the contract runs on, and what they do differently."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen._tuning import Tuning
from catalyst_seen.backends._registry import _FACTORIES
from catalyst_seen.backends.memory import MemoryBackend
from catalyst_seen.backends.sqlite.driver import connect

if TYPE_CHECKING:
    from .servers import Postgres, Valkey, ValkeyCluster

HAVE_SERVERS = all(map(importlib.util.find_spec, ("redis", "asyncpg")))
"""Are the extras installed? Without them there is only SQLite to test."""

PYSQLITE3 = ["pysqlite3"] if importlib.util.find_spec("pysqlite3") else []
"""A file with the SQLite of the extra ``sqlite``, where that is installed."""

SERVERS = ["valkey", "cluster", "postgres"] if HAVE_SERVERS else []
SQLITE = ["file", "memory"]
SHARED = ["file", *SERVERS]
LOCAL = [*SQLITE, *PYSQLITE3, "reference"]
"""The backends whose time is that of the setting ``clock``."""

TARGETS = [*LOCAL, *SERVERS]

Pair = tuple[AsyncSeenStore, AsyncSeenStore]
"""Two stores at one place."""

_AT_ONCE = 20  # schemas that are dropped by one connection
_PERSISTENT = {"appendonly": "yes", "appendfsync": "no"}  # else stores warn


@dataclass(frozen=True)
class Target:
    """An empty place on a backend, that nobody else uses.

    Attributes:
        name: One of ``TARGETS``.
        base: How a store gets there, by the server's own clock.
        location: How its location ends, for people.
        engine: How the name of its software begins.
        wipe: Removes every row of every store there, as another program would.
    """

    name: str
    base: SeenStoreConfig
    location: str
    engine: str
    wipe: Callable[[], object]
    places: Places

    def config(self, **changes: Any) -> SeenStoreConfig:
        """Settings of a store at this place."""
        return replace(self.settings, **changes)

    @property
    def settings(self) -> SeenStoreConfig:
        """The settings of a store at this place, by the clock of the test."""
        clock = self.places.server_time
        if clock is not None and not self.is_server:
            return replace(self.base, clock=clock)
        return replace(self.base, tuning=Tuning(server_time=clock))

    @property
    def is_server(self) -> bool:
        """Is it one, with a clock of its own, and no file here?"""
        return self.name in SERVERS

    @property
    def expires_by_itself(self) -> bool:
        """Does what has expired go without anybody's doing?"""
        return self.name in {"valkey", "cluster"}

    @property
    def has_size(self) -> bool:
        """Can it tell how much room its rows take on the disk?"""
        return self.is_file or self.name == "postgres"

    @property
    def is_file(self) -> bool:
        """Is it a file, with a write-ahead log?"""
        return self.name in {"file", "pysqlite3"}

    @property
    def is_all_or_nothing(self) -> bool:
        """Is a batch stored whole or not at all? Each key is, everywhere."""
        return not self.expires_by_itself

    def removed(self, expired: int) -> int:
        """Of so many rows that have expired, those that the store has to remove."""
        return 0 if self.expires_by_itself else expired


class Places:
    """Makes targets. A server starts when the first one on it is asked for."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._numbers = itertools.count()
        self._schemas: list[str] = []  # nobody needs them any more
        self.server_time: Callable[[], float] | None = None

    def close(self) -> None:
        """End the servers."""
        self._running.close()

    @cached_property
    def valkey(self) -> Valkey:
        """The server that tests share."""
        from .servers import Valkey

        return self._running.enter_context(Valkey(**_PERSISTENT))

    @cached_property
    def cluster(self) -> ValkeyCluster:
        """The cluster that tests share."""
        from .servers import ValkeyCluster

        return self._running.enter_context(ValkeyCluster(**_PERSISTENT))

    @cached_property
    def postgres(self) -> Postgres:
        """The server that tests share."""
        from .servers import Postgres

        return self._running.enter_context(Postgres())

    @contextmanager
    def target(self, name: str, path: Path) -> Iterator[Target]:
        """Make an empty place on a backend; clear it afterwards.

        Args:
            name: One of ``TARGETS``.
            path: Where a file may be.
        """
        if name in {*SQLITE, *PYSQLITE3}:
            place = ":memory:" if name == "memory" else path
            settings = SeenStoreConfig(
                place, sqlite="pysqlite3" if name == "pysqlite3" else "stdlib"
            )
            wipe = partial(_wipe_file, path, settings.sqlite)
            yield Target(name, settings, str(place), "SQLite 3.", wipe, self)
        elif name == "reference":
            with self._reference() as target:
                yield target
        elif name == "postgres":
            with self._postgres() as target:
                yield target
        else:
            with self._valkey(name) as target:
                yield target

    @contextmanager
    def _reference(self) -> Iterator[Target]:
        """Give ``MemoryBackend`` a URL, which only these tests know.

        So a target is a configuration on every backend, and a store that is made from
        it gets a backend of its own, with all the settings of that store.
        """
        with patch.dict(
            _FACTORIES, reference=lambda _, config, __: MemoryBackend(config)
        ):
            settings = SeenStoreConfig(url="reference://")
            yield Target("reference", settings, "memory", "Python dict", _alone, self)

    @contextmanager
    def _valkey(self, name: str) -> Iterator[Target]:
        server = self.valkey if name == "valkey" else self.cluster
        prefix = f"Test-{next(self._numbers)}"
        settings = SeenStoreConfig(url=server.url, prefix=prefix)
        port = server.url.rpartition(":")[2]
        yield Target(name, settings, port, "Valkey 9.", server.clear, self)
        server.clear()

    @contextmanager
    def _postgres(self) -> Iterator[Target]:
        server = self.postgres
        schema = f"Test-{next(self._numbers)}"
        settings = SeenStoreConfig(url=server.url, schema=schema)
        wipe = partial(server.execute, f'DELETE FROM "{schema}".seen')
        location = f":{server.port}/"
        yield Target("postgres", settings, location, "PostgreSQL 18.", wipe, self)
        self._schemas.append(schema)
        if len(self._schemas) == _AT_ONCE:
            drop = 'DROP SCHEMA IF EXISTS "{}" CASCADE'
            server.execute(*map(drop.format, self._schemas))
            self._schemas.clear()


def _alone() -> None:
    raise AssertionError("no other program can reach a dict")


def _wipe_file(path: Path, library: str) -> None:
    """Wipe it with the library of the store: another would drop its locks."""
    with closing(connect(str(path), is_uri=False, library=library)) as db:
        db.execute("DELETE FROM seen")
