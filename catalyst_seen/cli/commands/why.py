"""``why``: everything that a store knows of a key."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .._codes import Code
from .._commands import command as declare
from .._notes import entry_of, shortened
from .._output import counted, is_for_person, rfc3339, write_block, write_json
from .._records.answers import Answer, answer_for, expiry_of
from .._records.history import history_of
from .._records.lookup import find, names_of
from .._records.near import IN_NOTE, find_near, tell
from .._records.whole import source_of
from .._settings import Settings, pass_settings
from .._spoken import called, in_namespace, quoted, when
from .._stores import opened
from .._values import NAMESPACE, key

if TYPE_CHECKING:
    from catalyst_seen import Record, Source

    from .._records.near import Near

_INSTANTS = {
    "first_seen", "last_seen", "expires_at", "until", "first_poll", "last_poll",
}  # fmt: skip
_OF_SOURCE = ("polls", "first_poll", "last_poll", "listed", "pending", "held", "error")


@declare(
    "why",
    examples=[
        ("catalyst-seen why order-17", "show what is known, in every namespace"),
        (
            "catalyst-seen why -n news https://example.org/1 --json",
            "the same of one namespace, for a program",
        ),
    ],
)
@NAMESPACE
@click.argument("keyword", metavar="KEY", type=key)
@pass_settings
async def command(settings: Settings, namespace: str | None, keyword: str) -> None:
    """Show everything that the store knows of a key, and what follows.

    Without -n it looks in every namespace. For a key of a source it says what happened:
    marked without being handled, delivered, or left out. It changes nothing: the
    answers of check_and_mark and claim are predicted from the state of the key. KEY may
    be a part of the note of one key, such as the title of an entry; entries of a
    baseline have none. For a key that is unseen, it names keys that are near: in
    another case, namespace or spelling.

    Exit code: 0 if the key is known, 1 if it is unseen.
    """
    async with opened(settings) as store:
        names = await names_of(store, namespace)
        records = await find(store, keyword, names)
        now = time.time()
        for record in records:
            source = await source_of(store, record.namespace)
            _show(settings, record, source, now)
        if not records:
            found, examined = await find_near(settings, store, keyword, namespace)
            if (near := _named_by_note(found, namespace)) is not None:
                settings.say(f"{quoted(keyword)} is in the note of one key")
                source = await source_of(store, near.namespace)
                _show(settings, near, source, now)
                return
            settings.code = Code.NO
            _tell_unseen(settings, keyword, namespace, len(names))
            tell(settings, found, examined)
            if not found and await store.sources():
                settings.say(
                    "an entry of a baseline or an import has no title here: look for"
                    " its key, which catalyst-seen test URL shows"
                )
        elif namespace is None:
            where = counted(len(records), "namespace")
            settings.say(f"known in {where} of {len(names):,}")


def _named_by_note(found: list[Near], namespace: str | None) -> Record | None:
    """Return the only near key, if its note is what was named; ``None`` otherwise."""
    if len(found) != 1 or found[0].reason != IN_NOTE:
        return None
    record = found[0].record
    return record if namespace in {None, record.namespace} else None


def _tell_unseen(
    settings: Settings, keyword: str, namespace: str | None, count: int
) -> None:
    where = f"in each of the {count:,} namespaces"
    if namespace is not None:
        where = in_namespace(namespace)
    elif count == 1:
        where = "in the only namespace"
    elif not count:
        where = "(the store has no keys)"
    reason = answer_for(None, 0, has_source=False).because
    settings.say(f"{quoted(keyword)} is unseen {where}")
    settings.say(f"check_and_mark would answer NEW: {reason}")


def _show(
    settings: Settings, record: Record, source: Source | None, now: float
) -> None:
    answer = answer_for(record, now, has_source=source is not None)
    if not is_for_person(settings):
        write_json(_data(record, source, answer))
        return
    write_block(
        {
            **_state(record, source, now),
            **_note(record),
            "last error": record.error or "",
            "source": _spoken(source, now) if source else "",
            **_what_happened(record, source, answer),
            "claim": _claim(answer),
        }
    )
    click.echo()


def _state(record: Record, source: Source | None, now: float) -> dict[str, str]:
    is_claimed = record.state == "claimed"
    until = when(record.until, now) if record.until is not None else ""
    return {
        "key": record.key,
        "namespace": record.namespace or called(""),
        "state": record.state,
        "first seen": when(record.first_seen, now),
        "last seen": when(record.last_seen, now),
        "lease until" if is_claimed else "claimable from": until,
        "attempts": str(record.attempt or ""),
        "expires": expiry_of(record, now, has_source=source is not None),
    }


def _note(record: Record) -> dict[str, str]:
    if not record.note:
        return {}
    entry = entry_of(record.note)
    if entry is None:
        return {"note": shortened(record.note)}
    return {name: str(entry.get(name, "")) for name in ("title", "link")}


def _what_happened(
    record: Record, source: Source | None, answer: Answer
) -> dict[str, str]:
    """Return the reason of the state; the keys of a source are claimed only."""
    if source is not None:
        return {"what happened": history_of(record, source, answer)}
    told = f"would answer {answer.verdict.name}, because {answer.because}"
    return {"check_and_mark": told}


def _claim(answer: Answer) -> str:
    attempt = f", as attempt {answer.attempt}" if answer.attempt else ""
    return f"would answer {answer.verdict.name}{attempt}"


def _spoken(source: Source, now: float) -> str:
    """Return what is known of a source, in a sentence."""
    last = when(source.last_poll, now) if source.last_poll is not None else "never"
    failed = f"; the last poll failed: {source.error}" if source.error else ""
    polls = counted(source.polls, "poll")
    return (
        f"{polls}, the last one {last}; {source.listed:,} listed,"
        f" {source.pending:,} pending, {source.held:,} held{failed}"
    )


def _data(record: Record, source: Source | None, answer: Answer) -> dict[str, Any]:
    """Return everything of a record, for a program."""
    verdict = {"verdict": answer.verdict.value, "retry_after": answer.retry_after}
    return {
        **_dated(asdict(record)),
        "source": _source_data(source) if source else None,
        "what_happened": history_of(record, source, answer) if source else None,
        "check_and_mark": {**verdict, "because": answer.because},
        "claim": {**verdict, "attempt": answer.attempt},
    }


def _source_data(source: Source) -> dict[str, Any]:
    return _dated({name: getattr(source, name) for name in _OF_SOURCE})


def _dated(data: dict[str, Any]) -> dict[str, Any]:
    """Return data whose instants are texts."""
    return {
        name: rfc3339(value) if name in _INSTANTS and value is not None else value
        for name, value in data.items()
    }
