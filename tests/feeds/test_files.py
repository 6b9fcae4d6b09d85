"""Files as sources of listings."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from catalyst_seen import ConfigurationError
from catalyst_seen.feeds import Feed, Poller

from ..support.feeds import rss
from .conftest import MakePoller, Store

ONE = rss("<guid>1</guid><title>One</title>").encode()


class TestFiles:
    """Files are sources too."""

    @pytest.mark.parametrize("form", ["path", "uri", "tilde", "gzip"])
    async def test_read(
        self,
        poller: Poller,
        feeds: Store,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        form: str,
    ) -> None:
        """A path, with or without a tilde, and an address of file are read."""
        monkeypatch.setenv("HOME", str(tmp_path))
        file = tmp_path / "a feed.xml"
        file.write_bytes(gzip.compress(ONE) if form == "gzip" else ONE)
        source = {"uri": file.as_uri(), "tilde": "~/a feed.xml"}.get(form, str(file))
        assert (await poller.poll(source)).outcome == "listing"
        assert (await poller.poll(source)).outcome == "unchanged"
        assert await feeds.store.namespaces() == [str(file)]

    async def test_relative(
        self,
        poller: Poller,
        feeds: Store,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The namespace of a relative path is the absolute one."""
        monkeypatch.chdir(tmp_path)
        Path("f.xml").write_bytes(ONE)
        await poller.poll("f.xml")
        assert await feeds.store.namespaces() == [str(tmp_path / "f.xml")]

    async def test_missing(self, poller: Poller, tmp_path: Path) -> None:
        """A file that cannot be read is a failure, and comes when it is there."""
        file = tmp_path / "f.xml"
        poll = await poller.poll(str(file))
        assert (poll.outcome, poll.error) == ("failed", "No such file or directory")
        assert (await poller.poll(str(tmp_path))).error == "Is a directory"
        file.write_bytes(ONE)
        assert (await poller.poll(str(file))).outcome == "listing"

    async def test_too_large(self, make_poller: MakePoller, tmp_path: Path) -> None:
        """The limit is for files as well."""
        (tmp_path / "f").write_bytes(b" " * 2_000)
        async with make_poller(max_bytes=1_000) as poller:
            poll = await poller.poll(str(tmp_path / "f"))
        assert poll.error == "the file has more than 1,000 bytes"

    @pytest.mark.parametrize("source", ["", " ", "a\0b"])
    def test_nothing(self, source: str) -> None:
        """A text that names nothing is refused."""
        with pytest.raises(ConfigurationError):
            Feed(source)
