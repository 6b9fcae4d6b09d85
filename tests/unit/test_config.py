"""Settings, from code and from the environment."""

from __future__ import annotations

import dataclasses
import math
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError, SeenStoreConfig

from ..conftest import DAY, Clock


class TestDefaults:
    """What the old store promised."""

    def test_values(self) -> None:
        """The defaults are the inherited ones."""
        config = SeenStoreConfig()
        assert config.path == "data/seen_ids.sqlite"
        assert config.ttl_days == 7
        assert config.ttl == 7 * DAY
        assert (config.wal_mode, config.synchronous) == (True, "NORMAL")
        assert (config.cache_size, config.timeout) == (10_000, 30)
        assert config.on_error == "answer"

    def test_positional(self, path: Path) -> None:
        """Path and TTL come first, by position or by name."""
        assert SeenStoreConfig(path, 3) == SeenStoreConfig(path=path, ttl_days=3)

    def test_frozen(self) -> None:
        """A configuration does not change."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            SeenStoreConfig().path = "other"  # type: ignore[misc]

    def test_url_stays_out_of_repr(self) -> None:
        """A URL may hold a password, so repr does not show it."""
        config = SeenStoreConfig(url="redis://user:secret@host/0")
        assert "secret" not in repr(config)


class TestEnvironment:
    """from_env."""

    def test_nothing_set(self) -> None:
        """An empty environment is the defaults."""
        assert SeenStoreConfig.from_env() == SeenStoreConfig()

    def test_everything_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All six variables are read."""
        for name, value in {
            "SEEN_DB_PATH": "/var/other.db",
            "SEEN_TTL_DAYS": "0.5",
            "SEEN_STORE_URL": "sqlite:///seen.db",
            "SQLITE_WAL_MODE": "0",
            "SQLITE_CACHE_SIZE": "-2000",
            "SQLITE_SYNCHRONOUS": "full",
        }.items():
            monkeypatch.setenv(name, value)
        assert SeenStoreConfig.from_env() == SeenStoreConfig(
            path="/var/other.db",
            ttl_days=0.5,
            url="sqlite:///seen.db",
            wal_mode=False,
            cache_size=-2000,
            synchronous="FULL",
        )

    @pytest.mark.parametrize(("text", "word"), [("0", "OFF"), ("2", "FULL")])
    def test_synchronous_by_number(
        self, monkeypatch: pytest.MonkeyPatch, text: str, word: str
    ) -> None:
        """SQLite's own numbers are understood."""
        monkeypatch.setenv("SQLITE_SYNCHRONOUS", text)
        assert SeenStoreConfig.from_env().synchronous == word

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SEEN_DB_PATH", "sqlite:///seen.db"),
            ("SEEN_TTL_DAYS", "week"),
            ("SEEN_TTL_DAYS", "0"),
            ("SEEN_TTL_DAYS", "-1"),
            ("SEEN_TTL_DAYS", "nan"),
            ("SEEN_TTL_DAYS", "inf"),
            ("SQLITE_WAL_MODE", "maybe"),
            ("SQLITE_CACHE_SIZE", "lots"),
            ("SQLITE_CACHE_SIZE", "1.5"),
            ("SQLITE_SYNCHRONOUS", "SOMETIMES"),
            ("SQLITE_SYNCHRONOUS", "4"),
        ],
    )
    def test_bad_value_names_the_variable(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        """A bad value is refused with variable, value and rule, not replaced."""
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=f"{name}: '{value}'") as caught:
            SeenStoreConfig.from_env()
        assert caught.value.setting == name
        with pytest.raises(ConfigurationError, match=name):
            AsyncSeenStore()

    @pytest.mark.parametrize("url", ["seen.db", "redis:/host", "mysql://u:secret@h/d"])
    def test_bad_url_names_the_variable(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        """A URL that no backend takes is refused, and its password is not shown."""
        monkeypatch.setenv("SEEN_STORE_URL", url)
        with pytest.raises(ConfigurationError, match="SEEN_STORE_URL") as caught:
            AsyncSeenStore()
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "driver", "extra"),
        [
            ("redis://localhost", "redis", "redis"),
            ("valkeys+cluster://localhost", "redis", "redis"),
            ("postgresql://localhost/db", "asyncpg", "postgres"),
        ],
    )
    def test_missing_driver(
        self, monkeypatch: pytest.MonkeyPatch, url: str, driver: str, extra: str
    ) -> None:
        """Without its driver, a URL is refused with the extra that brings it."""
        for name in list(sys.modules):
            if name.startswith((driver, f"catalyst_seen.backends.{extra}")):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, driver, None)
        with pytest.raises(ConfigurationError, match=rf"catalyst-seen\[{extra}\]"):
            AsyncSeenStore(url)

    async def test_store_from_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A store without a target is where the environment says; directories too."""
        monkeypatch.chdir(tmp_path)
        async with AsyncSeenStore() as store:
            await store.mark_seen("k")
        assert (tmp_path / "data/seen_ids.sqlite").stat().st_size > 0
        monkeypatch.setenv("SEEN_DB_PATH", str(tmp_path / "a/b/other.db"))
        async with AsyncSeenStore() as store:
            assert not await store.is_seen("k")
        assert (tmp_path / "a/b/other.db").exists()


class TestRefused:
    """What a configuration does not take."""

    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({"path": ""}, ValueError),
            ({"path": " "}, ValueError),
            ({"path": "a\0b"}, ValueError),
            ({"path": b"seen.db"}, TypeError),
            ({"path": 1}, TypeError),
            ({"ttl_days": 0}, ValueError),
            ({"ttl_days": -1}, ValueError),
            ({"ttl_days": math.nan}, ValueError),
            ({"ttl_days": math.inf}, ValueError),
            ({"ttl_days": True}, TypeError),
            ({"ttl_days": "7"}, TypeError),
            ({"cache_size": 1.5}, TypeError),
            ({"cache_size": True}, TypeError),
            ({"synchronous": "normal"}, ValueError),
            ({"file_mode": 0o400}, ValueError),
            ({"file_mode": 600}, ValueError),
            ({"file_mode": "0600"}, TypeError),
            ({"file_mode": True}, TypeError),
            ({"timeout": 0}, ValueError),
            ({"timeout": None}, TypeError),
            ({"timeout": 3_000_000}, ValueError),
            ({"timeout": timedelta(seconds=3)}, TypeError),
            ({"cache_size": 10**30}, ValueError),
            ({"wal_mode": "off"}, TypeError),
            ({"url": 123}, TypeError),
            ({"path": "sqlite:///seen.db"}, ValueError),
            ({"path": "a\ud800.db"}, ValueError),
            ({"ttl_days": 1e-30}, ValueError),
            ({"purge_interval": 0}, ValueError),
            ({"purge_interval": "60"}, TypeError),
            ({"on_error": "ignore"}, ValueError),
            ({"clock": 0}, TypeError),
            ({"prefix": ""}, ValueError),
            ({"prefix": "a:b"}, ValueError),
            ({"prefix": 1}, TypeError),
            ({"schema": 'a"b'}, ValueError),
            ({"schema": "a b"}, ValueError),
            ({"schema": "é" * 32}, ValueError),
            ({"schema": "a\ud800"}, ValueError),
            ({"allow_eviction": 1}, TypeError),
            ({"wait_replicas": -1}, ValueError),
            ({"wait_replicas": True}, TypeError),
        ],
        ids=str,
    )
    def test_settings(self, settings: dict[str, Any], error: type[Exception]) -> None:
        """A bad setting is refused when the configuration is made, by name."""
        (name,) = settings
        with pytest.raises(error, match=name if name != "path" else None):
            SeenStoreConfig(**settings)

    @pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf])
    def test_store_ttl(self, ttl: float) -> None:
        """A store's own TTL follows the same rule."""
        with pytest.raises(ValueError, match="ttl"):
            AsyncSeenStore(ttl=ttl)


class TestTargets:
    """A path, a URL, a configuration."""

    @pytest.mark.parametrize(
        "name",
        ["plain.db", "with space.db", "q?mode=ro", "h#ash", "file:x.db", "%20.db", "é"],
    )
    async def test_path_is_literal(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        """A path names exactly the file that it spells, also when opened again."""
        monkeypatch.chdir(tmp_path)
        for expected in (True, False):
            async with AsyncSeenStore(name) as store:
                assert bool(await store.check_and_mark("k")) is expected
        assert [entry.name for entry in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("sqlite:///relative.db", "relative.db"),
            ("SQLITE:///a/b.db", "a/b.db"),
            ("sqlite:///with%20space.db", "with space.db"),
        ],
    )
    async def test_relative_url(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, name: str
    ) -> None:
        """Three slashes begin a relative path."""
        monkeypatch.chdir(tmp_path)
        async with AsyncSeenStore(url) as store:
            await store.mark_seen("k")
            assert store.location == str(tmp_path / name)
        assert (tmp_path / name).exists()

    async def test_absolute_url(self, path: Path) -> None:
        """Four slashes begin an absolute path."""
        async with AsyncSeenStore(f"sqlite:///{path}") as store:
            assert store.location == str(path)

    @pytest.mark.parametrize("url", ["sqlite:///a%00b.db", "sqlite:///%20"])
    def test_bad_path_in_a_url(self, url: str) -> None:
        """What no path can be is refused in a URL as well."""
        with pytest.raises(ConfigurationError, match="path must name a file"):
            AsyncSeenStore(url)

    @pytest.mark.parametrize("target", [123, b"seen.db"])
    def test_no_target(self, target: Any) -> None:
        """Anything else is refused, with what it may be."""
        with pytest.raises(TypeError, match="path, a URL or a SeenStoreConfig, not"):
            AsyncSeenStore(target)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_memory_url(self, url: str) -> None:
        """A sqlite URL without a path is in memory."""
        assert AsyncSeenStore(url).location == ":memory:"

    @pytest.mark.parametrize(
        "url", ["sqlite://host/a.db", "sqlite:///a.db?mode=ro", "sqlite:///a.db#x"]
    )
    def test_url_with_more(self, url: str) -> None:
        """A host or options are refused, not ignored."""
        with pytest.raises(ConfigurationError, match="no host and no options"):
            AsyncSeenStore(url)

    async def test_arguments_go_before_the_configuration(self, clock: Clock) -> None:
        """TTL and the other settings of the call win over the configuration's."""
        config = SeenStoreConfig(":memory:", ttl_days=1, purge_interval=None)
        ttl = timedelta(seconds=10)
        async with AsyncSeenStore(config, ttl=ttl, clock=clock) as store:
            await store.mark_seen("k")
            clock.advance(10)
            assert not await store.is_seen("k")
