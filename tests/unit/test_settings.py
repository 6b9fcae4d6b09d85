"""Settings without effect are refused, variables without effect are logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from catalyst_seen import AsyncSeenStore, ConfigurationError, SeenStore, SeenStoreConfig
from catalyst_seen.backends._settings import check_effective
from catalyst_seen.backends.memory import MemoryBackend

from ..support.clock import Clock
from ..support.targets import HAVE_SERVERS, PYSQLITE3

VALUES: dict[str, object] = {
    "wal_mode": False,
    "cache_size": 5,
    "synchronous": "FULL",
    "create": False,
    "sqlite": "pysqlite3",
    "file_mode": 0o644,
    "clock": Clock(),
    "prefix": "mine",
    "allow_eviction": True,
    "wait_replicas": 1,
    "schema": "mine",
}
EFFECTIVE = {
    "SQLite": {
        "wal_mode", "cache_size", "synchronous", "create", "sqlite", "file_mode",
        "clock",
    },
    "memory": {"clock"},
    "Redis": {"prefix", "allow_eviction", "wait_replicas"},
    "PostgreSQL": {"schema", "create"},
}  # fmt: skip
URLS = {"SQLite": "sqlite:///:memory:"}
if HAVE_SERVERS:
    URLS |= {"Redis": "redis://h", "PostgreSQL": "postgresql://h/d"}


@pytest.mark.parametrize("setting", VALUES)
@pytest.mark.parametrize("database", EFFECTIVE)
def test_setting_without_effect_is_refused(database: str, setting: str) -> None:
    """The error names setting, value, database, and where it has an effect."""
    config = SeenStoreConfig(**{setting: VALUES[setting]})  # type: ignore[arg-type]
    if setting in EFFECTIVE[database]:
        check_effective(config, database)
        return
    with pytest.raises(ConfigurationError) as caught:
        check_effective(config, database)
    assert caught.value.setting == setting
    problem = caught.value.problem
    assert f"has no effect on {database}, only on" in problem
    assert setting == "clock" or problem.startswith(repr(VALUES[setting]))
    assert all((name in problem) for name in EFFECTIVE if setting in EFFECTIVE[name])


@pytest.mark.parametrize("setting", VALUES)
@pytest.mark.parametrize("database", URLS)
def test_store_refuses_it(database: str, setting: str) -> None:
    """Every store on a database refuses what has no effect there, and nothing else."""
    if (database, setting) == ("SQLite", "sqlite") and not PYSQLITE3:
        pytest.skip("the library is an extra")
    settings: dict[str, Any] = {"url": URLS[database], setting: VALUES[setting]}
    if setting in EFFECTIVE[database]:
        AsyncSeenStore(SeenStoreConfig(**settings))
        return
    with pytest.raises(
        ConfigurationError, match=f"{setting}: .*no effect on {database}"
    ):
        AsyncSeenStore(SeenStoreConfig(**settings))


@pytest.mark.parametrize("database", URLS)
def test_default_value_is_accepted(database: str) -> None:
    """A default that code repeats asks for nothing, and is accepted."""
    AsyncSeenStore(
        SeenStoreConfig(
            url=URLS[database], wal_mode=True, wait_replicas=0, prefix="seen"
        )
    )


@pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
def test_clock_as_an_argument_is_refused() -> None:
    """The clock of a server cannot be replaced by an argument either."""
    with pytest.raises(ConfigurationError, match=r"clock: .*no effect on Redis"):
        AsyncSeenStore("redis://h", clock=Clock())


@pytest.mark.parametrize("kind", [AsyncSeenStore, SeenStore])
def test_clock_beside_a_backend_is_refused(kind: Callable[..., object]) -> None:
    """A backend that is ready has its own clock: another beside it has no effect."""
    with pytest.raises(ConfigurationError, match=r"clock: has no effect beside <"):
        kind(MemoryBackend(), clock=Clock())


@pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
def test_variable_without_effect_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may be meant for other programs: it is logged, not refused."""
    monkeypatch.setenv("SEEN_STORE_URL", "redis://h")
    monkeypatch.setenv("SQLITE_WAL_MODE", "0")
    monkeypatch.setenv("SQLITE_CACHE_SIZE", "10000")  # the default
    with capture_logs() as logs:
        AsyncSeenStore(on_error="raise", ttl="7d")
    assert logs == [
        {
            "event": "variable_ignored",
            "log_level": "warning",
            "variable": "SQLITE_WAL_MODE",
            "value": False,
            "backend": "Redis",
        }
    ]


def test_path_beside_a_url_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL counts: a path may be what somebody has changed after a move back."""
    monkeypatch.setenv("SEEN_DB_PATH", "back.db")
    with capture_logs() as logs:
        assert SeenStoreConfig.from_env().path == "back.db"
        assert logs == []
        monkeypatch.setenv("SEEN_STORE_URL", "redis://h")
        assert SeenStoreConfig.from_env().url == "redis://h"
    assert logs == [
        {
            "event": "variable_ignored",
            "log_level": "warning",
            "variable": "SEEN_DB_PATH",
            "value": "back.db",
            "because": "SEEN_STORE_URL takes precedence",
        }
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SEEN_TTL_DAY", "SEEN_TTL_DAYS"),
        ("SEEN_DBPATH", "SEEN_DB_PATH"),
        ("SEEN_STORE_URI", "SEEN_STORE_URL"),
        ("SEEN_X", None),
    ],
)
def test_unknown_variable_is_logged(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    """A ``SEEN_`` variable that nobody reads is logged with what it may mean."""
    monkeypatch.setenv(name, "secret")
    with capture_logs() as logs:
        SeenStoreConfig.from_env()
    assert logs == [
        {
            "event": "unknown_variable",
            "log_level": "warning",
            "variable": name,
            "did_you_mean": meant,
        }
    ]


def test_known_variables_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is read is not logged, nor one of another name."""
    for name, value in {
        "SEEN_DB_PATH": "a.db",
        "SEEN_TTL_DAYS": "1",
        "SEEN_STORE_CACHE_ENABLED": "1",
        "SEEN_STORE_CACHE_SIZE": "10",
        "FEATURE_PERSIST_SEEN": "1",
        "SEENX": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as logs:
        SeenStoreConfig.from_env()
    assert not logs
