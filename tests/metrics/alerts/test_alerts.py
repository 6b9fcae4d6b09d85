"""Each alert fires by its real fault, and no other one does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ...support.promtool import RULES, Firing, alerts, check_firing, promtool
from . import faults
from .watched import Watched

FAULTS: dict[Callable[[Path], Awaitable[Watched]], list[Firing]] = {
    faults.program_gone: [Firing("ScrapeMissing", job=None, instance=None)],
    faults.store_gone: [Firing("StoreMissing", instance=None)],
    faults.server_gone: [
        Firing("Alarm"),
        Firing("CallsFail", error="unavailable"),
        Firing("Retries"),
        Firing("SampleStale"),
        Firing("Slow"),
    ],
    faults.answer_lost: [Firing("OutcomeUnknown", error="unknown")],
    faults.full_disk: [
        Firing("Alarm"),
        Firing("CallsFail", error="unavailable"),
        Firing("CheckpointsFail"),
    ],
    faults.slow_database: [Firing("Slow"), Firing("Waits")],
    faults.locked_purges: [
        Firing("Alarm"),
        Firing("PurgeFails"),
        Firing("PurgeOverdue"),
    ],
    faults.pinned_log: [Firing("LogLarge")],
    faults.lost_lease: [Firing("LeasesLost")],
    faults.held_key: [Firing("Held", instance=None)],
    faults.released_key: [Firing("ReleasedOld", instance=None)],
    faults.killed_worker: [Firing("Abandoned", instance=None)],
    faults.hung_work: [Firing("ClaimOld", instance=None)],
    faults.unhandled_item: [Firing("PendingOld", instance=None)],
    faults.poller_gone: [Firing("SourceNotPolled", instance=None, namespace="feed")],
    faults.failing_source: [Firing("SourceFails", instance=None, namespace="site")],
    faults.nothing_new: [Firing("NothingNew", instance=None)],
    faults.new_ids: [Firing("Flood", instance=None, namespace="feed")],
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_fires(
    fault: Callable[[Path], Awaitable[Watched]], tmp_path: Path
) -> None:
    """A fault fires its alerts, with their labels, and the time before it none."""
    one = await fault(tmp_path)
    assert one.quiet
    location = one.store.location
    check_firing(tmp_path, one.history, FAULTS[fault], quiet=one.quiet, store=location)


def test_all_fire() -> None:
    """No alert is without a fault that fires it."""
    fired = {one.name for firing in FAULTS.values() for one in firing}
    assert fired == {*alerts()}


def test_texts() -> None:
    """The texts of an alert use only labels that it has when it fires."""
    for one in (one for firing in FAULTS.values() for one in firing):
        texts = " ".join(alerts()[one.name]["annotations"].values())
        labels = {*one.labels, "store"} if one.labels else set()
        assert {*re.findall(r"\$labels\.(\w+)", texts)} <= labels, one.name


def test_commands() -> None:
    """A command that changes a key names its namespace; resolve, the decision.

    What marks it names the TTL, which the tool does not know.
    """
    command = re.compile(r"`catalyst-seen ((?:mark|forget|resolve)\b.*?)`")
    found = 0
    for alert in alerts().values():
        text = " ".join(alert["annotations"]["description"].split())
        for line in command.findall(text):
            found += 1
            assert " -n NAMESPACE KEY" in line
            has_decision = " --handled" in line or " --again" in line
            assert line.startswith("resolve") == has_decision
            assert line.startswith("forget") != line.endswith(" --ttl TTL")
    assert found == 7


def test_rules() -> None:
    """Prometheus accepts the rules, and their templates."""
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(RULES))
