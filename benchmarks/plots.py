"""The figures as plots, in colours that are safe for colour-blind readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt

from .feeds import FIRST, LATER, UNCHANGED
from .load import TIME
from .measure import OURS, Measure, shown
from .timing import PERCENTILES
from .works.feeds import PLAIN
from .works.large import SIZES, at
from .works.purge import ONE_DELETE
from .works.servers import ASYNCPG, BACKENDS, FILTER
from .works.throughput import DISKCACHE, IDEMKIT, NAIVE, OLD, RAW, REDIS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .measure import Result

# Okabe and Ito's; our store is black in every plot.
_COLOURS = {
    OURS: "#000000",
    FILTER: "#777777",
    RAW: "#009e73",
    PLAIN: "#009e73",
    IDEMKIT: "#f0e442",
    NAIVE: "#d55e00",
    ONE_DELETE: "#d55e00",
    OLD: "#0072b2",
    DISKCACHE: "#cc79a7",
    REDIS: "#e69f00",
    f"{REDIS}, pipelined": "#56b4e9",
    ASYNCPG: "#0072b2",
    f"{ASYNCPG}, tuned": "#cc79a7",
}
_PHASES = (FIRST, LATER, UNCHANGED)
_BAR = 0.27  # the width of one of three adjacent bars
_BY_BACKEND = [f"{backend.name}-new-keys" for backend in BACKENDS]
_BY_TASKS = {1: "one-caller", 10: "tasks-10", 100: "new-keys", 1_000: "tasks-1000"}


def draw(results: Sequence[Result], folder: Path) -> None:
    """Draw every plot that has figures."""
    mpl.use("Agg")
    by_name = {result.work.name: result for result in results}
    if by_name.keys() >= set(_BY_TASKS.values()):
        _throughput_by_tasks(by_name, folder / "throughput_by_tasks.png")
    if by_name.keys() >= set(_BY_BACKEND):
        servers = [by_name[name] for name in _BY_BACKEND]
        _throughput_by_backend(servers, folder / "throughput_by_backend.png")
    if "feeds-peers" in by_name:
        _feeds(by_name["feeds-peers"], folder / "feeds.png")
    if "latency" in by_name:
        _latency(by_name["latency"], folder / "latency.png")
    if "large" in by_name:
        _cost_by_keys(by_name["large"], folder / "cost_by_keys.png")
    if "purge" in by_name:
        _purge_stalls(by_name["purge"], folder / "purge_stalls.png")


def _feeds(result: Result, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    phases = [one for one in result.work.measures if one.name in _PHASES]
    width = 0.9 / len(result.work.runs)
    for turn, name in enumerate(result.work.runs):
        axes.bar(
            [place + turn * width for place in range(len(phases))],
            [result.figure(phase, name) or 0 for phase in phases],
            width,
            color=_COLOURS[name],
            label=name,
        )
    centre = width * (len(result.work.runs) - 1) / 2
    axes.set_xticks(
        [place + centre for place in range(len(phases))],
        [phase.name for phase in phases],
    )
    axes.set(yscale="log", ylabel=f"items a second, {_title(result)}")
    _save(figure, axes, path)


def _title(result: Result) -> str:
    return result.note or result.work.title.partition(" of ")[0]


def _throughput_by_tasks(results: dict[str, Result], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name in results["new-keys"].work.runs:
        points = {
            tasks: _per_second(results[work], name) for tasks, work in _BY_TASKS.items()
        }
        _line(axes, name, {x: y for x, y in points.items() if y is not None})
    axes.set(xscale="log", yscale="log", xlabel="tasks (raw, pipelined: keys a batch)")
    axes.set_ylabel("check_and_mark of new keys a second")
    _save(figure, axes, path)


def _throughput_by_backend(results: Sequence[Result], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for place, result in enumerate(results):
        (measure,) = result.work.measures
        for turn, name in enumerate(result.work.runs):
            _, labels = axes.get_legend_handles_labels()
            bar = axes.bar(
                place + (turn - 1) * _BAR,
                result.figure(measure, name) or 0,
                _BAR,
                color=_COLOURS[name],
                label="" if name in labels else name,
            )
            ratio = result.ratio(measure, name)
            if name != OURS and ratio is not None:
                axes.bar_label(bar, [f"ours: {shown(ratio)} x"], fontsize="x-small")
    axes.set_xticks(range(len(results)), [result.work.backend for result in results])
    axes.set_ylabel("check_and_mark of new keys a second, 100 tasks")
    _save(figure, axes, path)


def _per_second(result: Result, contestant: str) -> float | None:
    """Return the throughput, also where the time of one operation was measured."""
    (measure,) = result.work.measures
    if contestant not in result.work.runs:
        return None
    figure = result.figure(measure, contestant)
    return 1e6 / figure if figure and measure.name == TIME else figure


def _latency(result: Result, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name in result.work.runs:
        figures = (result.figure(one, name) for one in result.work.measures)
        points = dict(zip(PERCENTILES, figures, strict=True))
        _line(axes, name, {x: y for x, y in points.items() if y is not None})
    axes.set(yscale="log", xlabel="percentile", ylabel="check_and_mark, 100 tasks (ms)")
    _save(figure, axes, path)


def _cost_by_keys(result: Result, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    points = {size: result.figure(Measure(at(size), "µs"), OURS) for size in SIZES}
    _line(axes, OURS, {x: y for x, y in points.items() if y is not None})
    axes.set(
        xscale="log", xlabel="keys stored", ylabel="check_and_mark, 100 tasks (µs)"
    )
    axes.set_ylim(bottom=0)
    _save(figure, axes, path)


def _purge_stalls(result: Result, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, rounds in result.rounds.items():
        if rounds:
            seconds, taken = zip(*sorted(rounds[-1].points), strict=True)
            axes.plot(seconds, taken, ".", ms=3, label=name, color=_COLOURS[name])
    axes.set(yscale="log", xlabel="seconds since the purge began")
    axes.set_ylabel("check_and_mark meanwhile (ms)")
    _save(figure, axes, path)


def _line(
    axes: Axes, name: str, points: Mapping[str, float] | Mapping[int, float]
) -> None:
    if points:
        width = 2.5 if name == OURS else 1.5
        style = "--" if name == RAW else "-"
        axes.plot(
            [*points.keys()],
            list(points.values()),
            marker="o",
            linestyle=style,
            linewidth=width,
            color=_COLOURS[name],
            label=name,
        )


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=144, bbox_inches="tight")
    plt.close(figure)
