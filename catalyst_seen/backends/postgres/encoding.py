"""Operations become the parameters of a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Hold,
    IsSeen,
    Mark,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
)
from .shapes import COLUMNS, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


class Names:
    """The namespaces of a batch, which each of its statements resolves anew.

    Its first statement that writes inserts those that are missing, of all statements:
    else a batch would insert a name while it has locked rows, and another one might
    wait for these rows after it has inserted the same name.

    Attributes:
        all: Their names, in the order of the collation "C".
        places: The place of each name among them, from 1.
        is_allowed: Whether each may be inserted.
    """

    def __init__(self, operations: Sequence[Operation[object]]) -> None:
        self.all: list[str] = sorted({one.namespace for one in operations})
        self.places: dict[str, int] = {
            name: place for place, name in enumerate(self.all, start=1)
        }
        inserting: Collection[str] = ()
        if len(self.all) > 1:
            inserting = {one.namespace for one in operations if _may_insert(one)}
        self.is_allowed: list[bool] = [name in inserting for name in self.all]


def encode(
    keys: Sequence[str],
    operations: Sequence[Operation[object]],
    mark_tokens: Sequence[str | None],
    owners: Sequence[int] | None,
    names: Names,
    *,
    tokens: Sequence[str | None] | None,
) -> tuple[Shape, list[Sequence[object]]]:
    """Return the shape and the parameters of a statement.

    A value that all operations share is sent once, and a shared verb is a part of the
    statement: to encode one value per key would dominate the time that asyncpg takes.

    Args:
        keys: The keys, in the order in which their rows are locked.
        operations: What is done to them, each to one key or to many, in the order of
            the first one of these.
        mark_tokens: The token of each operation that marks a key.
        owners: The index of the operation on each key, unless each has one.
        tokens: The token of each key, if that is not the one of its operation.
        names: The namespaces of the whole batch.
    """
    verbs, *values, notes = zip(*map(_encode_one, operations, mark_tokens), strict=True)
    columns = {"verb": verbs, **dict(zip(_SENT, values, strict=True)), "note": notes}
    if not _ENDING.isdisjoint(verbs):
        columns["error"] = tuple(getattr(one, "error", None) for one in operations)
    has_places = len(names.all) > 1
    if has_places:
        columns["place"] = tuple(names.places[one.namespace] for one in operations)
    shape = Shape(
        verbs[0] if not has_places and _is_uniform(verbs) else None,
        is_noted=notes.count(None) < len(notes),
        has_places=has_places,
        may_insert=any(names.is_allowed) or not _INSERTING.isdisjoint(verbs),
        has_error=any(one is not None for one in columns.get("error", ())),
    )
    parameters: list[Sequence[object]] = [keys, names.all]
    for name in shape.columns:
        column = columns[name]
        if name == "token" and tokens is not None and owners is not None:
            own = zip(tokens, owners, strict=True)
            parameters.append([token or column[owner] for token, owner in own])
        elif _is_uniform(column):
            parameters.append(column[:1])
        elif owners is None:
            parameters.append(column)
        else:
            parameters.append([column[owner] for owner in owners])
    if has_places:
        parameters.append(names.is_allowed)
    return shape, parameters


def _may_insert(operation: Operation[object]) -> bool:
    return operation.verb in _INSERTING


def _is_uniform(column: Sequence[object]) -> bool:
    return column.count(column[0]) == len(column)


def _encode_one(operation: Operation[object], mark_token: str | None) -> _Encoded:
    return _ENCODERS[type(operation)](operation, mark_token)


_Encoded = tuple[
    str,
    str | None,
    float | None,
    float | None,
    str | None,
    float | None,
    str | None,
]
"""Verb, token, lease, TTL, policy, ts and note; see ``shapes.COLUMNS``."""

_SENT = COLUMNS[None][1:]
_INSERTING = frozenset({Mark.verb, CheckAndMark.verb, Acquire.verb})
"""The verbs that may insert a row."""
_UNCOUNTED = "release_uncounted"
_ENDING = frozenset({Release.verb, _UNCOUNTED, Hold.verb})
"""The verbs that may have an error."""


def _encode_lease(claim: Acquire | Renew) -> _Encoded:
    """Encode an operation that starts a lease; the row of a held key never expires."""
    ttl = None if claim.on_abandoned == "hold" else claim.ttl
    note = claim.note if isinstance(claim, Acquire) else None
    return claim.verb, claim.token, claim.lease, ttl, claim.on_abandoned, None, note


def _encode_release(release: Release) -> _Encoded:
    verb = release.verb if release.is_counted else _UNCOUNTED
    return verb, release.token, release.delay, release.ttl, None, None, None


def _encode_resolve(resolve: Resolve) -> _Encoded:
    if resolve.is_handled:
        return "resolve_handled", None, None, resolve.ttl, None, None, None
    return "resolve", None, 0.0, resolve.ttl, None, None, None


_ENCODERS: dict[type[Operation[Any]], Callable[[Any, str | None], _Encoded]] = {
    IsSeen: lambda one, _: (one.verb, None, None, None, None, None, None),
    Get: lambda one, _: (one.verb, None, None, None, None, None, None),
    Mark: lambda one, _: (one.verb, None, None, one.ttl, None, one.ts, one.note),
    CheckAndMark: lambda one, token: (
        one.verb, token, None, one.ttl, None, None, one.note,
    ),
    Refresh: lambda one, _: (one.verb, None, None, one.ttl, None, None, None),
    Forget: lambda one, _: (one.verb, None, None, None, None, None, None),
    Acquire: lambda one, _: _encode_lease(one),
    Renew: lambda one, _: _encode_lease(one),
    Confirm: lambda one, _: (
        one.verb, one.token, None, one.ttl, None, None, one.note,
    ),
    Release: lambda one, _: _encode_release(one),
    Hold: lambda one, _: (one.verb, one.token, None, None, "hold", None, None),
    Resolve: lambda one, _: _encode_resolve(one),
}  # fmt: skip
