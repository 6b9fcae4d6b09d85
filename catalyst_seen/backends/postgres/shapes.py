"""What a batch sends: arrays of parameters, and the queries that read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS: Mapping[str | None, Sequence[str]] = {
    "is_seen": (),
    "get": (),
    "mark": ("ttl", "ts"),
    "check_and_mark": ("token", "ttl"),
    "refresh": ("ttl",),
    "forget": (),
    "claim": ("token", "lease", "ttl", "policy"),
    "renew": ("token", "lease", "ttl", "policy"),
    "confirm": ("token", "ttl"),
    "release": ("token", "lease", "ttl"),
    "release_uncounted": ("token", "lease", "ttl"),
    "hold": ("token", "policy"),
    "resolve": ("lease", "ttl"),
    "resolve_handled": ("ttl",),
    None: ("verb", "token", "lease", "ttl", "policy", "ts"),
}
"""What a batch sends of its operations; ``None`` is a batch of different verbs.

``$1`` has the keys, and ``$2`` the names of the namespaces, sorted. These columns are
the arrays from ``$3`` on, with one element per key, or one for all operations. A batch
with a note has the column "note" as well, one with an error "error", and one of several
namespaces "place", that of an operation's namespace in ``$2``; last comes an array that
says of each name whether it may be inserted. ``lease`` is the number of seconds from
now to ``lease_until``: a lease, or the delay of a release.
"""

_TYPES = {
    "verb": "text",
    "token": "text",
    "lease": "float8",
    "ttl": "float8",
    "policy": "text",
    "ts": "float8",
    "note": "text",
    "error": "text",
    "place": "int",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the statement of a batch depends on: a narrow one is a faster one.

    Attributes:
        verb: The verb of all operations; ``None`` if there are several.
        is_noted: Does an operation have a note?
        has_places: Are there several namespaces?
        may_insert: May an operation insert a row, and the name of its namespace?
        has_error: Does an operation have an error?
    """

    verb: str | None
    is_noted: bool = False
    has_places: bool = False
    may_insert: bool = False
    has_error: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the operations that are sent."""
        return (
            *COLUMNS[self.verb],
            *(("note",) if self.is_noted else ()),
            *(("error",) if self.has_error else ()),
            *(("place",) if self.has_places else ()),
        )


def names(shape: Shape) -> str:
    """Return the CTEs that end with "names", the ids of the namespaces."""
    if not shape.has_places:
        stored = "(SELECT id FROM {schema}.namespace WHERE name = ($2::text[])[1])"
        if not shape.may_insert:
            return f"names AS MATERIALIZED (SELECT {stored} AS id)"
        # The no-op update returns the id of a name that a concurrent batch inserts.
        return f"""made AS (
        INSERT INTO {{schema}}.namespace AS existing (name)
        SELECT ($2::text[])[1] WHERE {stored} IS NULL
        ON CONFLICT (name) DO UPDATE SET polls = existing.polls
        RETURNING id
    ),
    names AS MATERIALIZED (SELECT coalesce({stored}, (SELECT id FROM made)) AS id)"""  # noqa: S608
    is_allowed = f"${3 + len(shape.columns)}::boolean[]"
    wanted = f"""wanted AS MATERIALIZED (
        SELECT wanted.name, wanted.is_allowed, stored.id
        FROM unnest($2::text[], {is_allowed}) AS wanted (name, is_allowed)
        LEFT JOIN {{schema}}.namespace AS stored ON stored.name = wanted.name
    )"""  # noqa: S608
    ids = 'array_agg(id ORDER BY name COLLATE "C") AS ids'
    if not shape.may_insert:
        return f"{wanted}, names AS MATERIALIZED (SELECT {ids} FROM wanted)"  # noqa: S608
    return f"""{wanted},
    made AS (
        INSERT INTO {{schema}}.namespace AS existing (name)
        SELECT name FROM wanted WHERE id IS NULL AND is_allowed
        ON CONFLICT (name) DO UPDATE SET polls = existing.polls
        RETURNING id, name
    ),
    names AS MATERIALIZED (
        SELECT {ids} FROM (
            SELECT id, name FROM wanted WHERE id IS NOT NULL OR NOT is_allowed
            UNION ALL SELECT id, name FROM made
        ) AS known
    )"""  # noqa: S608


def requested(shape: Shape) -> str:
    """Return the query of the operations, one a row."""
    sent = {column: number for number, column in enumerate(shape.columns, start=3)}

    def value(column: str) -> str:
        if column in sent:
            number = sent[column]
            return (
                f"CASE WHEN cardinality(${number}) = 1 THEN (${number})[1]"
                f" ELSE operation.{column} END"
            )
        return f"'{shape.verb}'" if column == "verb" else "NULL"

    columns = (*COLUMNS[None], "note", "error")
    values = ", ".join(
        f"{value(column)}::{_TYPES[column]} AS {column}" for column in columns
    )
    namespace = "(SELECT id FROM names)"
    if shape.has_places:
        namespace = f"(SELECT ids FROM names)[{value('place')}]"  # noqa: S608
    arrays = ["$1::text[]", *(f"${sent[name]}::{_TYPES[name]}[]" for name in sent)]
    return f"""SELECT now, position, operation.key, {namespace} AS namespace, {values}
        FROM clock CROSS JOIN unnest({", ".join(arrays)})
            WITH ORDINALITY AS operation ({", ".join(["key", *sent])}, position)"""  # noqa: S608
