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

from ..support.clock import DAY, Clock


class TestDefaults:
    """Defaults and construction of a configuration."""

    def test_defaults_are_inherited(self) -> None:
        """The defaults are those of the old store."""
        config = SeenStoreConfig()
        assert config.path == "data/seen_ids.sqlite"
        assert config.ttl_days == 7
        assert config.ttl == 7 * DAY
        assert (config.wal_mode, config.synchronous) == (True, "NORMAL")
        assert (config.cache_size, config.timeout) == (10_000, 30)
        assert config.on_error == "answer"

    def test_path_and_ttl_are_positional(self, path: Path) -> None:
        """Path and TTL come first, by position or by name."""
        assert SeenStoreConfig(path, 3) == SeenStoreConfig(path=path, ttl_days=3)

    def test_config_is_immutable(self) -> None:
        """A configuration is immutable."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            SeenStoreConfig().path = "other"  # type: ignore[misc]

    def test_url_stays_out_of_repr(self) -> None:
        """A URL may hold a password, so repr does not show it."""
        config = SeenStoreConfig(url="redis://user:secret@host/0")
        assert "secret" not in repr(config)


class TestEnvironment:
    """Settings from the environment."""

    def test_empty_environment_is_default(self) -> None:
        """An empty environment means the defaults."""
        assert SeenStoreConfig.from_env() == SeenStoreConfig()

    def test_all_variables_are_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def test_synchronous_accepts_numbers(
        self, monkeypatch: pytest.MonkeyPatch, text: str, word: str
    ) -> None:
        """SQLite's numbers of the modes are accepted."""
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
        """A URL without a backend is refused; its password is not shown."""
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
    def test_missing_driver_names_the_extra(
        self, monkeypatch: pytest.MonkeyPatch, url: str, driver: str, extra: str
    ) -> None:
        """A URL whose driver is missing is refused with the name of the extra."""
        for name in list(sys.modules):
            if name.startswith((driver, f"catalyst_seen.backends.{extra}")):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, driver, None)
        with pytest.raises(ConfigurationError, match=rf"catalyst-seen\[{extra}\]"):
            AsyncSeenStore(url)

    async def test_store_uses_path_from_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A store without a target uses the environment, and creates directories."""
        monkeypatch.chdir(tmp_path)
        async with AsyncSeenStore() as store:
            await store.mark_seen("k")
        assert (tmp_path / "data/seen_ids.sqlite").stat().st_size > 0
        monkeypatch.setenv("SEEN_DB_PATH", str(tmp_path / "a/b/other.db"))
        async with AsyncSeenStore() as store:
            assert not await store.is_seen("k")
        assert (tmp_path / "a/b/other.db").exists()


class TestRefused:
    """Invalid settings."""

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
            ({"timeout": timedelta(days=30)}, ValueError),
            ({"timeout": "30"}, ValueError),
            ({"cache_size": 10**30}, ValueError),
            ({"wal_mode": "off"}, TypeError),
            ({"url": 123}, TypeError),
            ({"path": "sqlite:///seen.db"}, ValueError),
            ({"path": "a\ud800.db"}, ValueError),
            ({"ttl_days": 1e-30}, ValueError),
            ({"purge_interval": 0}, ValueError),
            ({"purge_interval": "60"}, ValueError),
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
    def test_bad_setting_is_refused_by_name(
        self, settings: dict[str, Any], error: type[Exception]
    ) -> None:
        """A bad setting is refused on construction; the error names the setting."""
        (name,) = settings
        with pytest.raises(error, match=name if name != "path" else None):
            SeenStoreConfig(**settings)

    @pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf])
    def test_bad_store_ttl_is_refused(self, ttl: float) -> None:
        """The TTL of a store follows the same rule."""
        with pytest.raises(ValueError, match="ttl"):
            AsyncSeenStore(ttl=ttl)


class TestTargets:
    """Targets of a store: a path, a URL, a configuration."""

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
    async def test_three_slashes_are_relative(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, name: str
    ) -> None:
        """Three slashes begin a relative path."""
        monkeypatch.chdir(tmp_path)
        async with AsyncSeenStore(url) as store:
            await store.mark_seen("k")
            assert store.location == str(tmp_path / name)
        assert (tmp_path / name).exists()

    async def test_four_slashes_are_absolute(self, path: Path) -> None:
        """Four slashes begin an absolute path."""
        async with AsyncSeenStore(f"sqlite:///{path}") as store:
            assert store.location == str(path)

    @pytest.mark.parametrize("url", ["sqlite:///a%00b.db", "sqlite:///%20"])
    def test_bad_path_in_url_is_refused(self, url: str) -> None:
        """An invalid path is refused in a URL as well."""
        with pytest.raises(ConfigurationError, match="path must name a file"):
            AsyncSeenStore(url)

    @pytest.mark.parametrize("target", [123, b"seen.db"])
    def test_other_target_types_are_refused(self, target: Any) -> None:
        """A target of another type is refused, and the error names the allowed ones."""
        with pytest.raises(TypeError, match="path, a URL or a SeenStoreConfig, not"):
            AsyncSeenStore(target)

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
    def test_url_without_path_is_memory(self, url: str) -> None:
        """A sqlite URL without a path is in memory."""
        assert AsyncSeenStore(url).location == ":memory:"

    @pytest.mark.parametrize(
        "url", ["sqlite://host/a.db", "sqlite:///a.db?mode=ro", "sqlite:///a.db#x"]
    )
    def test_url_with_host_or_options_is_refused(self, url: str) -> None:
        """A host or options in a sqlite URL are refused, not ignored."""
        with pytest.raises(ConfigurationError, match="no host and no options"):
            AsyncSeenStore(url)

    async def test_arguments_override_configuration(self, clock: Clock) -> None:
        """Arguments of the store take precedence over its configuration."""
        config = SeenStoreConfig(":memory:", ttl_days=1, purge_interval=None)
        ttl = timedelta(seconds=10)
        async with AsyncSeenStore(config, ttl=ttl, clock=clock) as store:
            await store.mark_seen("k")
            clock.advance(10)
            assert not await store.is_seen("k")
