"""What programs that used the old synchronous store call works."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, SeenStore, SeenStoreConfig, should_filter

CYCLES = 30


class TestConstruction:
    """The arguments of the old store."""

    def test_config_is_the_target(self, path: Path) -> None:
        """``config=`` is the target by its old name."""
        config = SeenStoreConfig(path=path, ttl_days=7)
        with SeenStore(config=config) as store:
            assert store.location == str(path)
        assert AsyncSeenStore(config=config).location == str(path)

    def test_config_none_is_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        """``config=None`` means the environment variables, as no argument does."""
        monkeypatch.setenv("SEEN_DB_PATH", str(path))
        with SeenStore(config=None) as store:
            assert store.location == str(path)

    def test_target_and_config_are_refused(self, path: Path) -> None:
        """Two targets are refused: one of them would be ignored."""
        with pytest.raises(TypeError, match="config is the target by its old name"):
            SeenStore(path, config=SeenStoreConfig(path))

    @pytest.mark.parametrize("kind", [SeenStore, AsyncSeenStore])
    def test_cfg_is_the_configuration(self, path: Path, kind: Any) -> None:
        """``store.cfg`` has the path and the days, as they were given."""
        store = kind(SeenStoreConfig(path=path, ttl_days=3, cache_enabled=True))
        assert store.cfg.path == path
        assert store.cfg.ttl_days == 3
        if isinstance(store, SeenStore):
            store.close()

    def test_cfg_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        """``store.cfg`` has the settings from the environment as well."""
        monkeypatch.setenv("SEEN_DB_PATH", str(path))
        monkeypatch.setenv("SEEN_TTL_DAYS", "3")
        with SeenStore() as store:
            assert str(store.cfg.path) == str(path)
            assert store.cfg.ttl_days == 3


class TestCache:
    """The old store's cache of keys is the cache of recent keys."""

    def test_statistics_have_the_old_names(self, path: Path) -> None:
        """Hits, misses and sizes are counted under their old names."""
        with SeenStore(SeenStoreConfig(path=path, recent_keys=100)) as store:
            assert store.get_cache_stats() == {
                "enabled": True,
                "size": 0,
                "max_size": 100,
                "hits": 0,
                "misses": 0,
                "hit_rate_percent": 0,
            }
            assert not store.is_seen("a")
            store.mark_seen("a")
            for _ in range(3):
                assert store.is_seen("a")
            statistics = store.get_cache_stats()
        assert (statistics["size"], statistics["hits"]) == (1, 3)
        assert (statistics["misses"], statistics["hit_rate_percent"]) == (1, 75)

    async def test_statistics_of_the_twin(self, path: Path) -> None:
        """The asynchronous store has the same statistics, without an await."""
        async with AsyncSeenStore(path) as store:
            await store.mark_seen("a")
            assert await store.is_seen("a")
            assert store.get_cache_stats()["hits"] == 1

    @pytest.mark.parametrize(
        "settings",
        [{"cache_enabled": False}, {"recent_keys": 0}, {"recent_staleness": 0}],
        ids=str,
    )
    def test_cache_is_disabled(self, path: Path, settings: dict[str, Any]) -> None:
        """A disabled cache says so, and every lookup reaches the database."""
        with SeenStore(SeenStoreConfig(path=path, **settings)) as store:
            store.mark_seen("a")
            assert store.is_seen("a")
            assert store.is_seen("a")
            assert store.get_cache_stats() == {"enabled": False}
            assert store.stats().operations["is_seen"] == 2

    @pytest.mark.parametrize("text", ["0", "false", "no"])
    def test_variable_disables_it(
        self, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """``SEEN_STORE_CACHE_ENABLED`` switches the cache off."""
        monkeypatch.setenv("SEEN_STORE_CACHE_ENABLED", text)
        assert not SeenStoreConfig.from_env().cache_enabled

    def test_variable_limits_it(
        self, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        """``SEEN_STORE_CACHE_SIZE`` is a number of keys, and not of SQLite's pages."""
        monkeypatch.setenv("SEEN_STORE_CACHE_SIZE", "500")
        monkeypatch.setenv("SEEN_DB_PATH", str(path))
        with SeenStore() as store:
            assert store.cfg.recent_keys == 500
            assert store.cfg.cache_size == 10_000
            assert store.get_cache_stats()["max_size"] == 500

    @pytest.mark.parametrize("text", ["many", "1.5", "-1"])
    def test_bad_size_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """A bad size is refused with the name of its variable."""
        monkeypatch.setenv("SEEN_STORE_CACHE_SIZE", text)
        with pytest.raises(ValueError, match=f"SEEN_STORE_CACHE_SIZE: '{text}'"):
            SeenStoreConfig.from_env()


class TestVerbs:
    """The verbs of the old store, with their old arguments and answers."""

    def test_old_verbs(self, path: Path) -> None:
        """Mark, look, filter, purge and cleanup work as they are called there."""
        with SeenStore(SeenStoreConfig(path=path, ttl_days=7)) as store:
            assert store.is_seen("a") is False
            store.mark_seen("a")
            assert store.is_seen("a") is True
            store.mark_seen("b", 1_700_000_000)
            assert store.is_seen("b") is False  # its seven days are over
            assert should_filter("c", store) is False
            assert should_filter("c", store) is True
            store.purge_expired()
            assert store.cleanup_old_entries(days_old=30) == 0
        store.close()


@pytest.mark.filterwarnings("ignore:.*was never closed:ResourceWarning")
class TestStorePerCycle:
    """A bot that opens a store in each of its cycles, and never closes it."""

    @pytest.mark.usefixtures("nothing_left")
    def test_nothing_leaks(self, path: Path) -> None:
        """No thread and no descriptor is left after any number of cycles."""
        for number in range(CYCLES):
            cycle(path, number)
        gc.collect()

    def test_marks_are_kept(self, path: Path) -> None:
        """Every cycle knows what an earlier one marked."""
        for number in range(3):
            cycle(path, number)
        with SeenStore(SeenStoreConfig(path=path)) as store:
            assert store.count() == 3


def cycle(path: Path, number: int) -> None:
    """Open a store, use it, and drop it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        store = SeenStore(config=SeenStoreConfig(path=path, ttl_days=7))
        assert store.is_seen("never") is False
        store.mark_seen(str(number))
        del store
