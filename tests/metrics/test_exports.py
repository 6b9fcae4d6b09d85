"""The exports to Prometheus and OpenTelemetry, and what they do not need."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest, openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families

from catalyst_seen import AsyncSeenStore, SeenStore
from catalyst_seen._metrics import MAX_NAMESPACES
from catalyst_seen.metrics import instrument, prometheus_collector
from catalyst_seen.metrics._table import METRICS

from ..support.waiting import until

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the name of a sample and its labels."""

MOVING = {"catalyst_seen_sample_age_seconds", "catalyst_seen_oldest_claim_age_seconds"}
"""They grow from one export to the next."""


def series(registry: CollectorRegistry) -> Series:
    """Return what a registry exports of stores, as Prometheus reads it."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(_own(sample.labels).items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("catalyst_seen_")
    }


def _own(labels: dict[str, str]) -> dict[str, str]:
    """Compare the bounds of ranges as numbers."""
    own = dict(labels)
    if "le" in own:
        own["le"] = str(float(own["le"]))
    return own


def registered(*stores: AsyncSeenStore | SeenStore) -> CollectorRegistry:
    """Return a registry with the metrics of stores."""
    registry = CollectorRegistry()
    registry.register(prometheus_collector(*stores))
    return registry


@contextmanager
def otel_exporter() -> Iterator[tuple[MeterProvider, CollectorRegistry]]:
    """Yield a provider of OpenTelemetry, and the registry that it exports to."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider(metric_readers=[reader])
    yield provider, registry
    provider.shutdown()


async def use(store: AsyncSeenStore) -> None:
    """Do some of everything, and wait until the sizes were read."""
    await store.check_and_mark_many(["a", "b", "a"], namespace='odd "name"\\\n'[:-1])
    await store.claim("c")
    await store.namespace("feed").observe(["x"])
    await until(lambda: store.metrics().sizes is not None)


async def test_prometheus_reads_it(path: Path) -> None:
    """Prometheus's own parsers read every metric, in both formats."""
    async with AsyncSeenStore(path) as store:
        await use(store)
        registry = registered(store)
        names = {name for name, _ in series(registry)}
        text = openmetrics.exposition.generate_latest(registry).decode()
        families = {family.name: family for family in parse_openmetrics(text)}
        for metric in METRICS:
            family = families[metric.base_name]
            assert family.documentation == metric.help
            found = {s.name.removeprefix(metric.base_name) for s in family.samples}
            assert not found or {f"{metric.base_name}{end}" for end in found} <= names
        labels = {label for _, pairs in series(registry) for label, _ in pairs}
        assert labels >= {"store", "namespace", "verb", "outcome", "state", "le"}


async def test_both_exports_agree(path: Path) -> None:
    """OpenTelemetry's exporter gives the same names, labels and values."""
    async with AsyncSeenStore(path) as store:
        await use(store)
        with otel_exporter() as (provider, registry):
            instrument(store, meter_provider=provider)
            theirs, ours = series(registry), series(registered(store))
        assert theirs.keys() == ours.keys()
        differing = {name for (name, _), value in theirs.items()
                     if value != ours[name, _]}  # fmt: skip
        assert differing <= MOVING


async def test_several_stores(path: Path) -> None:
    """The stores of a process are told apart, also two of one database."""
    with SeenStore(":memory:") as blocking:
        async with AsyncSeenStore(path) as one, AsyncSeenStore(path) as other:
            await one.mark_seen("a")
            await other.mark_many(["b", "c"])
            found = {
                dict(labels)["store"]: value
                for (name, labels), value in series(
                    registered(one, other, blocking)
                ).items()
                if name == "catalyst_seen_operations_total"
            }
            assert found == {str(path): 1, f"{path} #2": 2}


async def test_closed_stores(path: Path) -> None:
    """A scrape never fails: a closed store has its last values."""
    store = AsyncSeenStore(path)
    registry = registered(store)
    assert series(registry)
    async with store:
        await store.mark_seen("k")
    name = "catalyst_seen_operations_total"
    assert [v for (one, _), v in series(registry).items() if one == name] == [1]


async def test_many_sources(path: Path) -> None:
    """The first sources are exported by themselves, all others together."""
    async with AsyncSeenStore(path) as store:
        for number in range(MAX_NAMESPACES + 3):
            await store.namespace(f"n{number:04}", first="all").observe(["a"])
        await until(lambda: store.metrics().sizes is not None)
        found = {
            dict(labels)["namespace"]: value
            for (name, labels), value in series(registered(store)).items()
            if name == "catalyst_seen_source_pending"
        }
        assert len(found) == MAX_NAMESPACES + 1
        assert found["other"] == 3


def test_wrong_arguments() -> None:
    """What is not a store, and none at all, are refused."""
    for export in (prometheus_collector, instrument):
        with pytest.raises(TypeError, match="AsyncSeenStore or a SeenStore, not 'x'"):
            export("x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least one store"):
            export()


@pytest.mark.parametrize(
    ("export", "library", "extra"),
    [
        ("prometheus_collector", "prometheus_client", "prometheus"),
        ("instrument", "opentelemetry", "otel"),
    ],
)
def test_without_the_library(
    export: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its library, an export says what to install; the package imports."""
    program = f"""
import sys
sys.modules["{library}"] = None
import catalyst_seen.metrics
from catalyst_seen import ConfigurationError, SeenStore
try:
    catalyst_seen.metrics.{export}(SeenStore(":memory:"))
except ConfigurationError as exc:
    print(exc)
"""
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert f"pip install 'catalyst-seen[{extra}]'" in done.stdout


WORKER = """
import asyncio, os, sys
from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client import REGISTRY
from catalyst_seen import AsyncSeenStore
from catalyst_seen.metrics import prometheus_collector

async def main():
    async with AsyncSeenStore(sys.argv[1]) as store:
        REGISTRY.register(prometheus_collector(store))
        registry = CollectorRegistry()  # of this process alone
        registry.register(prometheus_collector(store))
        server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
        await store.mark_seen(sys.argv[2])
        Counter("mine", "A counter of the program").inc()
        print(server.server_port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""

COLLECT = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


async def test_multiprocess_mode(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this mode collectors are left out; a port for each process has them."""
    folder = tmp_path / "multiprocess"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, str(path), name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for name in "ab"
    ]  # fmt: skip
    found = []
    for worker in workers:
        assert worker.stdout is not None
        port = int(await worker.stdout.readline())
        found.append(await asyncio.to_thread(_scraped, port))
    together = await asyncio.to_thread(_collected)
    await asyncio.gather(*(worker.communicate(b"") for worker in workers))
    assert "mine_total 2.0" in together
    assert "catalyst_seen" not in together
    for text in found:
        assert 'outcome="done"' in text
        assert 'verb="mark"} 1.0' in text


def _collected() -> str:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], capture_output=True, check=True, text=True
    )
    return done.stdout


def _scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text: str = answer.read().decode()
    return text
