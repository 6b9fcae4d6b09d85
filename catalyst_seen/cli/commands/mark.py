"""``mark``: keys become seen."""

from __future__ import annotations

import time
from collections import Counter
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import click

from .._codes import Failure
from .._commands import command as declare
from .._output import progress
from .._records.key_lines import STDIN, all_keys
from .._records.lookup import chunks, find_many
from .._records.matching import Chosen, show, tell_ttl
from .._settings import Settings, pass_settings
from .._spoken import in_namespace, keys, quoted
from .._stores import opened
from .._values import DRY_RUN, NAMESPACE, TTL, instant, key, note, ttl_of

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Record

_UNSEEN = "unseen"
_ASKED, _TOLD = 100, 5
"""New keys that are looked for in other namespaces, and those that are said."""

_LOST = {"claimed": "claimed, and that claim is lost", "seen": "seen already"}


def _key_or_stdin(text: str) -> str:
    return text if text == STDIN else key(text).strip("\r\n")


@declare(
    "mark",
    examples=[
        ("catalyst-seen mark order-17 order-18", "these are handled"),
        (
            "catalyst-seen mark -n news --ttl never - < urls.txt",
            "so is every line of a file, for ever",
        ),
    ],
)
@NAMESPACE
@TTL
@click.option("--note", type=note, help="A text that is kept with each key.")
@click.option(
    "--ts", type=instant, metavar="WHEN",
    help="When they were seen: a date, or 3d for 3 days ago. Default: now.",
)  # fmt: skip
@DRY_RUN
@click.argument("words", metavar="KEY...", nargs=-1, required=True, type=_key_or_stdin)
@pass_settings
async def command(
    settings: Settings,
    /,
    *,
    namespace: str | None,
    words: tuple[str, ...],
    dry_run: bool,
    ttl: float | str | None,
    note: str | None,
    ts: float | None,
) -> None:
    """Mark keys as seen, in any state; - reads them from standard input.

    Each line is a key, without its line end; all are checked before the first is
    marked. A claim on a key is lost, and one that is seen already stays seen for
    another TTL. Without -n they are keys of the default namespace.
    """
    lasting = ttl_of(ttl)
    names = await all_keys(settings, words)
    async with opened(settings) as store:
        _refuse_expired(store, ts, lasting)
        found = await _before(store, namespace or "", names)
        if dry_run:
            show(settings, found)
        elif names:
            options = {"ts": ts, "ttl": lasting, "note": note}
            await _mark(settings, store, found, options)
        _report(settings, found, "would be marked" if dry_run else "marked")
        if ttl is None and not dry_run:
            await tell_ttl(settings, store, found)
        elsewhere = await _elsewhere(store, found) if namespace is None else []
    for record in elsewhere:
        settings.say(
            f"near: {quoted(record.key)} {in_namespace(record.namespace)} (another"
            f" namespace) is {record.state}, and is not changed: -n names it"
        )


def _refuse_expired(
    store: AsyncSeenStore, ts: float | None, ttl: float | EllipsisType | None
) -> None:
    """Raise if the keys would be unseen at once: the mark would have no effect."""
    length = store.cfg.ttl if isinstance(ttl, EllipsisType) else ttl
    if ts is not None and length is not None and ts + length <= time.time():
        raise Failure(
            "a TTL that counts from --ts is over, so that the keys would be unseen:"
            " pass a longer --ttl, or --ttl never"
        )


async def _before(
    store: AsyncSeenStore, namespace: str, names: list[str]
) -> list[Chosen]:
    """Return the keys with their state before they are marked."""
    pairs = [(namespace, name) for name in names]
    records = await find_many(store, pairs)
    states = [record.state if record else _UNSEEN for record in records]
    return [Chosen(*pair, state) for pair, state in zip(pairs, states, strict=True)]


async def _elsewhere(store: AsyncSeenStore, found: list[Chosen]) -> list[Record]:
    """Return the records in other namespaces of keys that are new in the default one.

    Whoever named no namespace may have meant one of these.
    """
    new = [one.key for one in found if one.state == _UNSEEN][:_ASKED]
    names = [name for name in await store.namespaces() if name] if new else []
    records = await find_many(store, [(name, key) for key in new for name in names])
    return [record for record in records if record][:_TOLD]


async def _mark(
    settings: Settings,
    store: AsyncSeenStore,
    found: list[Chosen],
    options: dict[str, Any],
) -> None:
    done = 0
    try:
        with progress(settings, "marking", len(found)) as advance:
            for chunk in chunks(found):
                names = [one.key for one in chunk]
                await store.mark_many(names, namespace=chunk[0].namespace, **options)
                done += len(chunk)
                advance(len(chunk))
    except BaseException:
        settings.say(f"ended after {done:,} of {keys(len(found))}: begin again")
        raise


def _report(settings: Settings, found: list[Chosen], what: str) -> None:
    before = Counter(one.state for one in found)
    before.pop(_UNSEEN, None)
    parts = [f"{len(found):,} {what}"]
    for state, count in before.items():
        verb = "was" if count == 1 else "were"
        parts.append(f"{count:,} {verb} {_LOST.get(state, state)}")
    settings.say(", ".join(parts))
