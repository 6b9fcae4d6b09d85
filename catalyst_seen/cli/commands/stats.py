"""``stats``: the numbers of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._commands import command as declare
from .._output import Rows, is_for_person, write_json
from .._settings import Settings, pass_settings
from .._stores import address_of, opened
from .._values import NAMESPACE

if TYPE_CHECKING:
    from catalyst_seen import StoreStats


@declare(
    "stats",
    examples=[
        ("catalyst-seen stats", "show the numbers of the store"),
        ("catalyst-seen stats -n news --json", "those of a namespace, as an object"),
    ],
)
@NAMESPACE
@pass_settings
async def command(settings: Settings, namespace: str | None) -> None:
    """Show how many keys there are, and what room they take.

    In a pipe it is one JSON object; keys_by_namespace is in that only. The command
    namespaces counts every state.
    """
    async with opened(settings) as store:
        stats = await store.stats(namespace=namespace)
        location = address_of(store)
        names = {*await store.namespaces()}
        names |= {source.namespace for source in await store.sources()}
    if namespace is not None:
        names &= {namespace}
    data = {"location": location, **_numbers(stats, len(names))}
    if not is_for_person(settings):
        by_name = dict(stats.keys_by_namespace)
        write_json({**data, "keys_by_namespace": by_name, "alarms": [*stats.alarms]})
        return
    with Rows(settings, {"name": "text", "value": "text"}) as rows:
        for name, value in data.items():
            rows.add(name=name.replace("_", " "), value=_shown(value))
        for alarm in stats.alarms:
            rows.add(name="ALARM", value=alarm)


def _numbers(stats: StoreStats, namespaces: int) -> dict[str, Any]:
    """Return what is true of the database; counters of this process would be zeros."""
    return {
        "engine": stats.engine,
        "keys": stats.keys,
        "namespaces": namespaces,
        "claimed": stats.claimed,
        "released": stats.released,
        **{f"abandoned_{name}": count for name, count in stats.abandoned.items()},
        "file_bytes": stats.file_bytes,
        "wal_bytes": stats.wal_bytes,
        "free_pages": stats.free_pages,
    }


def _shown(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"
