"""``seen``."""

from __future__ import annotations

from ..support.tool import Tool
from .conftest import open_store


def test_seen(tool: Tool) -> None:
    """The exit code says whether a key is seen in a namespace."""
    with open_store(tool) as store:
        store.mark_seen("a")
        store.mark_seen("b", namespace="news")
    codes = [
        tool.run("seen", *words).code
        for words in (["a"], ["b"], ["-n", "news", "b"], ["-n", "news", "a"])
    ]
    assert codes == [0, 1, 0, 1]


def test_no_store(on_file: Tool) -> None:
    """Looking never creates a store: there is an error, and no file."""
    done = on_file.run("seen", "a")
    assert (done.code, done.out) == (3, "")
    assert len(done.err.splitlines()) == 1
    assert on_file.store in done.err
    assert not list(on_file.folder.iterdir())
