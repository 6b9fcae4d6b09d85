"""``feeds``."""

from __future__ import annotations

import time
from functools import partial

from catalyst_seen import SeenStore

from ..support.feeds import Site, numbered
from ..support.tool import Tool
from .conftest import open_store


def test_health(tool: Tool, site: Site) -> None:
    """There is a row for each source that was polled, with or without success."""
    good = site.put("good", numbered(range(3)))
    bad = site.put("bad", "", status=500)
    tool.run("watch", "--once", "--first", "1", good, bad)
    with open_store(tool) as store:
        store.mark_seen("no source", namespace="other")
    done = tool.run("feeds")
    assert done.code == 0
    rows = {row["source"]: row for row in done.rows}
    assert list(rows) == sorted([good, bad])
    healthy = rows[good]
    assert healthy.pop("last_poll").endswith("Z")
    assert healthy == {
        "source": good, "state": "ok", "listed": 3, "pending": 0, "held": 0,
        "new": 1, "failed": 0, "error": None,
    }  # fmt: skip
    broken = rows[bad]
    assert (broken["state"], broken["last_poll"], broken["failed"]) == (
        "failing", None, 1,
    )  # fmt: skip
    assert "HTTP 500" in broken["error"]


def test_unhealthy(tool: Tool, site: Site) -> None:
    """Only what is broken or has held entries is shown, and the exit code is 1."""
    good = site.put("good", numbered(range(1)))
    tool.run("watch", "--once", good)
    done = tool.run("feeds", "--unhealthy")
    assert (done.code, done.out) == (0, "")
    site.put("good", numbered(range(2)))
    tool.run("watch", "--once", "--max-attempts", "1", "--exec", "false", good)
    done = tool.run("feeds", "--unhealthy")
    assert (done.code, [row["held"] for row in done.rows]) == (1, [1])
    assert "1 held: catalyst-seen held shows why" in done.err
    assert tool.run("feeds", "--unhealthy", "-n", good).code == 1
    done = tool.run("feeds", "-n", "missing")
    assert (done.code, done.out) == (1, "")
    assert "no feed was polled in the namespace 'missing'" in done.err


def test_quiet(on_file: Tool) -> None:
    """A feed without a poll for 90 days is quiet, with what to do about it."""
    for name, days in (("old", 91), ("young", 89)):
        then = time.time() - days * 86_400
        with SeenStore(on_file.store, clock=partial(float, then)) as store:
            store.namespace(name).observe(["a"], key=str)
    done = on_file.run("feeds")
    assert [row["state"] for row in done.rows] == ["quiet", "ok"]
    assert "1 not polled for 90 days" in done.err
    assert "catalyst-seen clear -n NAME" in done.err


def test_waiting(on_file: Tool) -> None:
    """A feed is unhealthy if an entry has waited for a day, and not before."""
    for name, days in (("old", 1.1), ("young", 0.9)):
        then = time.time() - days * 86_400
        with SeenStore(on_file.store, clock=partial(float, then)) as store:
            store.namespace(name, first="all").observe(["a"], key=str)
    done = on_file.run("feeds", "--unhealthy")
    assert done.code == 1
    assert [(row["source"], row["state"]) for row in done.rows] == [("old", "waiting")]
    assert "1 with entries that have waited for a day" in done.err


def test_no_store_and_no_feeds(on_file: Tool) -> None:
    """Looking creates no store; a store without feeds says how to get one."""
    assert on_file.run("feeds").code == 3
    with open_store(on_file):
        pass
    done = on_file.run("feeds")
    assert (done.code, done.out) == (0, "")
    assert "no feed was polled: catalyst-seen watch polls one" in done.err
