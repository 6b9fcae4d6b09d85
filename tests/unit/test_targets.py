"""Targets that people mistype: what the error says, and what it hides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalyst_seen import AsyncSeenStore, ConfigurationError, SeenError, SeenStoreConfig
from catalyst_seen._targets import redacted

from ..support.targets import HAVE_SERVERS

HIDDEN = "s3cr3t"
HERE = f"u:{HIDDEN}@127.0.0.1:1"  # nobody listens there
LONG = "a" * 70


class TestPaths:
    """Texts that are no paths."""

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("localhost:6379", "valkey://localhost:6379?"),
            ("localhost:6379/0", "valkey://localhost:6379/0?"),
            ("db.internal:5432", "postgresql://db.internal:5432?"),
            ("[::1]:6379", "valkey://[::1]:6379?"),
            (f"u:{HIDDEN}@h:6379", "valkey://***@h:6379?"),
            (f"u:{HIDDEN}@h/0", "valkey://***@h/0?"),
            ("redis:/host", "redis://host?"),
            ("redis:host", "redis://host?"),
            (f"rediss:/u:{HIDDEN}@host", "rediss://***@host?"),
            ("valky:/host", "valkey://host?"),
            ("sqlite:/seen.db", "sqlite:///seen.db (relative)"),
            ("sqlite:seen.db", "sqlite:///seen.db (relative)"),
        ],
    )
    def test_address_is_no_path(self, text: str, meant: str) -> None:
        """What looks like an address is refused with the URL that it may mean."""
        with pytest.raises(ValueError, match="looks like something else") as caught:
            AsyncSeenStore(text)
        assert f"did you mean {meant}" in str(caught.value)
        assert HIDDEN not in str(caught.value)
        with pytest.raises(ValueError, match="looks like something else"):
            SeenStoreConfig(Path(text))

    @pytest.mark.skipif(os.name == "nt", reason="there it is a path")
    @pytest.mark.parametrize("text", [r"C:\data\seen.db", "C:/data/seen.db"])
    def test_drive_is_no_path_of_posix(self, text: str) -> None:
        """A path with a drive is refused elsewhere than on Windows."""
        with pytest.raises(ValueError, match="a path of Windows"):
            AsyncSeenStore(text)

    @pytest.mark.parametrize("name", ["localhost:6379", "redis:h", "~x"])
    def test_name_with_its_directory_is_a_path(self, tmp_path: Path, name: str) -> None:
        """A file that is called so is named with its directory."""
        assert AsyncSeenStore(tmp_path / name).location == str(tmp_path / name)
        assert Path(AsyncSeenStore(f"./{name}").location).name == name

    @pytest.mark.parametrize(
        "form", ["~/seen.db", "sqlite:///~/seen.db", Path("~/seen.db")]
    )
    def test_home_is_expanded(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: Any
    ) -> None:
        """``~`` is the home directory, in paths and in sqlite URLs."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert AsyncSeenStore(form).location == str(tmp_path / "seen.db")

    def test_home_is_expanded_in_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """``~`` is the home directory in ``SEEN_DB_PATH`` as well."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        monkeypatch.setenv("SEEN_DB_PATH", "~/seen.db")
        assert AsyncSeenStore().location == str(tmp_path / "seen.db")

    async def test_home_is_expanded_for_a_backup(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """``~`` is the home directory in the path of a backup."""
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        async with AsyncSeenStore(":memory:") as store:
            await store.backup("~/copy.db")
        assert (tmp_path / "copy.db").exists()

    @pytest.mark.parametrize(
        "form", ["~nobody-here/x.db", "sqlite:///~nobody-here/x.db"]
    )
    def test_unknown_home_is_refused(self, form: str) -> None:
        """The home of an unknown user is refused, not made as a directory."""
        with pytest.raises(ValueError, match="'~nobody-here', which has no home"):
            AsyncSeenStore(form)


class TestUrls:
    """URLs that no backend understands."""

    @pytest.mark.parametrize(
        ("url", "meant"),
        [
            (f"valky://u:{HIDDEN}@h", "valkey"),
            (f"reddis://u:{HIDDEN}@h", "redis"),
            ("sqlite+aiosqlite:///x.db", "sqlite"),
            (f"postgresql+asyncpg://u:{HIDDEN}@h/d", "postgresql"),
            (f"postgre://u:{HIDDEN}@h/d", "postgres"),
        ],
    )
    def test_unknown_scheme_is_corrected(self, url: str, meant: str) -> None:
        """The error has the URL without password, and the scheme that it may mean."""
        with pytest.raises(ConfigurationError) as caught:
            AsyncSeenStore(url)
        assert caught.value.setting == "url"
        assert redacted(url) in str(caught.value)
        assert f"did you mean {meant}://?" in str(caught.value)
        assert HIDDEN not in str(caught.value)
        assert "SEEN_STORE_URL" not in str(caught.value)

    @pytest.mark.parametrize("url", ["localhost:6379", "valky://h", "sqlite://a.db"])
    def test_variable_is_named_if_it_was_one(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        """An error about a URL from the environment names the variable and the URL."""
        monkeypatch.setenv("SEEN_STORE_URL", url)
        with pytest.raises(ConfigurationError) as caught:
            AsyncSeenStore()
        assert caught.value.setting == "SEEN_STORE_URL"
        assert url in str(caught.value)

    @pytest.mark.parametrize(
        "url", [f"u:{HIDDEN}@h", f"u:{HIDDEN}@h:6379/0", f"redis:/u:{HIDDEN}@h"]
    )
    def test_password_of_what_is_no_url_is_hidden(self, url: str) -> None:
        """A URL without its scheme is refused, and shown without its password."""
        with pytest.raises(ConfigurationError, match=r"is no URL: did you") as caught:
            AsyncSeenStore(SeenStoreConfig(url=url))
        assert HIDDEN not in str(caught.value)

    @pytest.mark.parametrize("url", [f"sqlite://u:{HIDDEN}@h/a.db", "sqlite://a.db"])
    def test_password_in_a_sqlite_url_is_hidden(self, url: str) -> None:
        """A sqlite URL with a host is refused, and shown without a password."""
        with pytest.raises(ConfigurationError, match="no host") as caught:
            AsyncSeenStore(url)
        assert HIDDEN not in str(caught.value)

    def test_password_in_a_path_variable_is_hidden(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A URL in the variable for paths is shown without its password."""
        monkeypatch.setenv("SEEN_DB_PATH", f"redis://u:{HIDDEN}@h")
        with pytest.raises(ConfigurationError, match="SEEN_DB_PATH") as caught:
            AsyncSeenStore()
        assert HIDDEN not in str(caught.value)

    @pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
    @pytest.mark.parametrize("scheme", ["postgresql", "valkey"])
    def test_number_sign_in_a_password_is_hidden(
        self, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        """A ``#`` in a password is no name after a URL; no part of it is shown."""
        url = f"{scheme}://u:p%40ss#{HIDDEN}:1@127.0.0.1:1/0"
        monkeypatch.setenv("SEEN_STORE_URL", url)
        errors = []
        made: list[Callable[[], object]] = [
            lambda: AsyncSeenStore(url),
            AsyncSeenStore,
            lambda: AsyncSeenStore(SeenStoreConfig(url=url)),
        ]
        for make in made:
            with pytest.raises((ConfigurationError, ValueError), match="%23") as caught:
                make()
            errors.append(shown(caught.value))
        assert HIDDEN not in "".join(errors)
        assert "SEEN_STORE_URL" in errors[1]

    @pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
    @pytest.mark.parametrize(
        ("url", "setting"),
        [
            ("postgresql://h/d", "schema"),
            ("VALKEY://h", "prefix"),
            ("rediss://h", "prefix"),
        ],
    )
    def test_name_after_a_url(
        self, monkeypatch: pytest.MonkeyPatch, url: str, setting: str
    ) -> None:
        """Environment and target read one grammar; a setting has its own name."""
        address = f"{url}#my%40bots"
        monkeypatch.setenv("SEEN_STORE_URL", address)
        for config in (
            SeenStoreConfig.from_env(),
            AsyncSeenStore(address).cfg,
            AsyncSeenStore().cfg,
        ):
            assert (config.url, getattr(config, setting)) == (url, "my@bots")
        with pytest.raises(ConfigurationError, match=rf"it is .*{setting}=\.\.\."):
            AsyncSeenStore(SeenStoreConfig(url=address))

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("redis://h:6379/0", "redis://h:6379/0"),
            (f"redis://u:{HIDDEN}@h", "redis://***@h"),
            (f"redis://:{HIDDEN}@h:1/0", "redis://***@h:1/0"),
            (f"redis://u:{HIDDEN}/x@h", "redis://***@h"),
            (f"redis://u:a@{HIDDEN}@h", "redis://***@h"),
            (f"redis://u:{HIDDEN}?x@h", "redis://***"),
            (f"redis://u:1#{HIDDEN}@h", "redis://***"),
            (f"redis://u:{HIDDEN}", "redis://u:***"),
            (f"redis://u:{HIDDEN}%40h/0", "redis://u:***/0"),
            (f"postgresql:///d?password={HIDDEN}", "postgresql:///d?***"),
            (f"postgresql://u@h/d?password=a@{HIDDEN}", "postgresql://***"),
            (f"u:{HIDDEN}@h", "***@h"),
            (f"redis:{HIDDEN}@h", "***@h"),
            (f"redis:/u:{HIDDEN}@h", "redis:/***@h"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://" + "h" * 200, "redis://" + "h" * 100 + "..."),
            ("/var/seen.db", "/var/seen.db"),
        ],
    )
    def test_secrets_are_hidden(self, text: str, shown: str) -> None:
        """User, password and options never appear; nor does an ambiguous rest."""
        assert redacted(text) == shown


@pytest.mark.skipif(not HAVE_SERVERS, reason="the drivers are extras")
class TestServerUrls:
    """URLs that a driver refuses, or fails on."""

    @pytest.mark.parametrize(
        "url",
        [
            f"redis+cluster://u:{HIDDEN}@/0",
            f"redis+cluster://{HERE}/7",
            f"redis+cluster://{HERE}?nonsense=1",
            f"redis+cluster://{HERE}?socket_timeout=x",
            f"redis+cluster://{HERE}?path=x",
            f"redis://u:{HIDDEN}@h:99999/0",
            f"redis://u:{HIDDEN}@h:0/0",
            f"redis://u:{HIDDEN}@h:port/0",
            f"redis://u:{HIDDEN}@{LONG}.example/0",
            f"redis://u:{HIDDEN}@a..b/0",
            f"redis://u:{HIDDEN}@h h/0",
            f"redis://u:{HIDDEN}@[::1/0",
            f"redis://u:{HIDDEN}@::1:6379/0",
            f"redis://u:{HIDDEN}@[no-address]:1/0",
            f"redis://u:{HIDDEN}",
            f"redis://u:{HIDDEN}/x@127.0.0.1:1/0",
            f"redis://{HERE}/name",
            f"redis://{HERE}/0?ssl=true",
            f"redis://{HERE}/0?nonsense=1",
            f"redis://{HERE}/0?protocol=9",
            f"redis://{HERE}/0?db=x",
            f"redis://{HERE}/0?max_connections=-1",
            f"redis://{HERE}/0?retry=3",
            f"redis://{HERE}/0?retry_on_error=x",
            f"redis://{HERE}/0?connection_class=x",
            f"rediss://{HERE}/0?ssl_cert_reqs=bogus",
            f"postgresql://u:{HIDDEN}@127.0.0.1:99999/db",
            f"postgresql://u:{HIDDEN}@{LONG}.example/db",
            f"postgresql://u:{HIDDEN}@/db?host={LONG}.example",
            f"postgresql://u:{HIDDEN}@/db?port=99999&host=127.0.0.1",
            f"postgresql://u:{HIDDEN}@/db?port=abc",
            f"postgresql://u:{HIDDEN}@[::1/db",
            f"postgresql://u:{HIDDEN}@::1:5432/db",
            f"postgresql://u:{HIDDEN}@,/db",
            f"postgresql://u:{HIDDEN}@\ud800/db",
            f"postgresql://u:{HIDDEN}/x@h/db",
            f"postgresql://{HERE}/db?sslmode=bogus",
            f"postgresql://{HERE}/db?target_session_attrs=bogus",
            f"postgresql://{HERE}/db?sslmode=require&ssl_min_protocol_version=bogus",
        ],
        ids=lambda url: ascii(url.replace(HIDDEN, "")[:60]),
    )
    async def test_bad_url_is_a_configuration_error(self, url: str) -> None:
        """Never a raw exception: the error has the URL and no part of the password."""
        with pytest.raises(ConfigurationError) as caught:
            async with AsyncSeenStore(SeenStoreConfig(url=url, timeout=0.1)):
                pass
        assert caught.value.setting == "url"
        assert url.partition("://")[0] in str(caught.value)
        assert HIDDEN not in shown(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://{HERE}/99999999999999999999",
            f"redis://u:%zz{HIDDEN}@127.0.0.1:1/0",
            f"redis://{HERE}/0?socket_timeout=-1",
            f"redis://{HERE}/0?encoding=nope",
            f"rediss://{HERE}/0?ssl_ca_certs=/nowhere",
            f"redis+cluster://{HERE}?port=99999",
            f"redis+unix:///nowhere.sock?password={HIDDEN}",
            f"postgresql://{HERE}/a%00b",
            f"postgresql://{HERE}/db?nonsense=1",
            f"postgresql://u:%zz{HIDDEN}@127.0.0.1:1/db",
            f"postgresql://{HERE}/db?sslmode=require&sslrootcert=/nowhere",
            f"postgresql://u:{HIDDEN}@%2Fnowhere/db",
        ],
        ids=lambda url: ascii(url.replace(HIDDEN, "")[:60]),
    )
    async def test_odd_url_is_an_error_of_the_store(self, url: str) -> None:
        """A URL that only the server could judge fails as its server does."""
        with pytest.raises(SeenError) as caught:
            async with AsyncSeenStore(SeenStoreConfig(url=url, timeout=0.1)):
                pass
        assert HIDDEN not in shown(caught.value)

    async def test_variable_is_named_when_opening_fails(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An error that only the open finds names the variable as well."""
        monkeypatch.setenv(
            "SEEN_STORE_URL", f"postgresql://u:{HIDDEN}@/db?host={LONG}.example"
        )
        store = AsyncSeenStore()
        with pytest.raises(ConfigurationError) as caught:
            await store.open()
        assert caught.value.setting == "SEEN_STORE_URL"

    def test_unknown_option_is_named(self) -> None:
        """The error of an option that redis-py does not know names the option."""
        with pytest.raises(ConfigurationError, match="has no option 'socket_timout'"):
            AsyncSeenStore(f"redis://{HERE}/0?socket_timout=1")


def shown(error: BaseException | None) -> str:
    """All that a traceback shows of an error."""
    text = ""
    while error is not None:
        text += f"{error!r} {error}"
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)
    return text
