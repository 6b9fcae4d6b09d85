"""Scrapes of real stores, and the time series that they would be in Prometheus.

A few scrapes stand for hours: what came between two of them comes again in every step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from catalyst_seen import AsyncSeenStore
from catalyst_seen.metrics import prometheus_collector

JOB, INSTANCE = "bot", "host:9464"
Key = tuple[str, frozenset[tuple[str, str]]]
"""The name of a series, and its labels."""

_DURATION = "catalyst_seen_sample_duration_seconds"


@dataclass(frozen=True)
class Scrape:
    """What a store exported.

    Attributes:
        at: When, by the clock of the store.
        samples: The values.
        grows: The names of those that only grow.
    """

    at: float = 0.0
    samples: dict[Key, float] = field(default_factory=dict)
    grows: frozenset[str] = frozenset()

    @property
    def duration(self) -> float | None:
        """How long the last sample took: another one takes another time."""
        found = (
            value for (name, _), value in self.samples.items() if name == _DURATION
        )
        return next(found, None)


def scrape(
    *stores: AsyncSeenStore,
    clock: Callable[[], float] = time.time,
    instance: str = INSTANCE,
) -> Scrape:
    """Scrape stores, as Prometheus would."""
    registry = CollectorRegistry()
    registry.register(prometheus_collector(*stores))
    text = generate_latest(registry).decode()
    target = {("job", JOB), ("instance", instance)}
    samples: dict[Key, float] = {}
    grows = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset({*sample.labels.items(), *target})
            samples[sample.name, labels] = sample.value
            if family.type in {"counter", "histogram"}:
                grows.add(sample.name)
    return Scrape(clock(), samples, frozenset(grows))


class History:
    """The series of a store: steps of equal length, filled from its scrapes.

    Attributes:
        step: Seconds of a step.
        steps: How many there are.
    """

    def __init__(self, step: int) -> None:
        """Begin at the time 0, as Prometheus's tests do."""
        self.step = step
        self.steps = 0
        self._last = Scrape()
        self._values: dict[Key, float] = {}
        self._parts: dict[Key, list[str]] = {}

    @property
    def now(self) -> int:
        """The time of the last step."""
        return self.step * (self.steps - 1)

    def begin(self, scrape: Scrape) -> None:
        """Take a scrape as the state before the next phase."""
        self._last = scrape

    def add(
        self, scrape: Scrape, steps: int = 1, *, growing: Collection[str] = ()
    ) -> None:
        """Add a phase, in each step of which the same comes as since the last scrape.

        Counters grow in each step by what they grew. A timestamp that was renewed is so
        in each step, and so is a sample; one that was not gets older. Other gauges stay
        as they are now.

        Args:
            scrape: The state in this phase.
            steps: How long it takes.
            growing: Gauges that grow in each step by what they grew.
        """
        for key in self._parts.keys() - scrape.samples.keys():
            if self._values.pop(key, None) is not None:
                self._parts[key].append("stale")
                self._parts[key] += [f"_x{steps - 1}"] if steps > 1 else []
            else:
                self._parts[key].append(f"_x{steps}")
        for key, value in scrape.samples.items():
            parts = self._parts.setdefault(
                key, [f"_x{self.steps}"] if self.steps else []
            )
            first, growth = self._course(key, value, scrape, growing)
            parts.append(f"{first:.6f}{growth:+.6f}x{steps - 1}")
            self._values[key] = first + growth * (steps - 1)
        self.steps += steps
        self._last = scrape

    def _course(
        self, key: Key, value: float, scrape: Scrape, growing: Collection[str]
    ) -> tuple[float, float]:
        """Return the value in the first step of a phase, and its growth in each."""
        name, _ = key
        before = self._last.samples.get(key)
        current = self._values.get(key, before or 0.0)
        if name in scrape.grows or name in growing:
            growth = value - (before or 0.0)
            if growth < 0:  # another process: its counters begin anew
                return value, 0.0
            return current + growth, growth
        if name.endswith("_timestamp_seconds"):
            if value == before and key in self._values:
                return current, 0.0
            age = value - scrape.at
            return self.step * self.steps + age, self.step * (value != before)
        if name.endswith("_age_seconds") and scrape.duration == self._last.duration:
            return current + self.step, self.step
        return value, 0.0

    def series(self) -> Iterator[dict[str, str]]:
        """Yield the series in the notation of Prometheus's tests."""
        for (name, labels), parts in self._parts.items():
            yield {"series": written(name, dict(labels)), "values": " ".join(parts)}


def written(name: str, labels: dict[str, str]) -> str:
    """Write the name and the labels of a series."""
    pairs = ", ".join(f"{label}={quoted(value)}" for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def quoted(value: str) -> str:
    """Write the value of a label."""
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'
