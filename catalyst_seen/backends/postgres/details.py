"""The parts of statements that concern details: notes, last errors, and their ends.

``has_detail`` of a row says whether its detail counts: a detail beside a row without it
is garbage, which the next note or error overwrites. A detail is written under the lock
of its row. That of a key which was observed has more in it than the note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .shapes import Shape


def text_of(row: str, condition: str, column: str = "note") -> str:
    """Return the expression of a row's note, or of another text of its detail.

    It is read under a condition.
    """
    return f"""CASE WHEN {row}.has_detail AND ({condition}) THEN (
        SELECT detail.{column} FROM {{schema}}.detail AS detail
        WHERE detail.namespace = {row}.namespace AND detail.key = {row}.key) END"""  # noqa: S608


def noted(shape: Shape) -> str:
    """Return the CTEs that write notes.

    "noted" is for rows without a detail that counts. Of the inserts that met a
    concurrent one ("lost"), only a Mark had its effect.
    """
    is_written = "note <> ''"
    lost = ""
    if shape.may_insert:
        lost = "lost AS MATERIALIZED (SELECT * FROM inserted WHERE NOT is_new),"
        is_written = f"""CASE WHEN is_insert AND EXISTS (
                    SELECT FROM lost WHERE lost.namespace = decision.namespace
                        AND lost.key = decision.key)
                THEN verb = 'mark' ELSE {is_written} END"""
    return f"""{lost} noted AS (
        INSERT INTO {{schema}}.detail (namespace, key, note)
        SELECT namespace, key, nullif(note, '') FROM decision
        WHERE is_change AND note IS NOT NULL AND is_undetailed AND {is_written}
        ON CONFLICT (namespace, key) DO UPDATE
        SET (note, alias, digest, last_error) = ROW (excluded.note, NULL, NULL, NULL)
    ),
    renoted AS (
        INSERT INTO {{schema}}.detail (namespace, key, note)
        SELECT namespace, key, nullif(note, '') FROM decision
        WHERE is_change AND note IS NOT NULL AND NOT is_undetailed
        ON CONFLICT (namespace, key) DO UPDATE SET note = excluded.note
    )"""  # noqa: S608


# As "noted" and "renoted"; no operation has both a note and an error.
FAILED = """failed AS (
        INSERT INTO {schema}.detail (namespace, key, last_error)
        SELECT namespace, key, error FROM decision
        WHERE is_change AND error IS NOT NULL AND is_undetailed
        ON CONFLICT (namespace, key) DO UPDATE
        SET (note, alias, digest, last_error)
            = ROW (NULL, NULL, NULL, excluded.last_error)
    ),
    refailed AS (
        INSERT INTO {schema}.detail (namespace, key, last_error)
        SELECT namespace, key, error FROM decision
        WHERE is_change AND error IS NOT NULL AND NOT is_undetailed
        ON CONFLICT (namespace, key) DO UPDATE SET last_error = excluded.last_error
    )"""


def delete_details(rows: str, condition: str) -> str:
    """Return the CTE that deletes the details of some rows, whose locks are held."""
    return f"""undetailed AS (
        DELETE FROM {{schema}}.detail WHERE ctid = ANY (ARRAY(
            SELECT found.ctid
            FROM (SELECT namespace, key FROM {rows} WHERE {condition}) AS gone
            CROSS JOIN LATERAL (
                SELECT detail.ctid FROM {{schema}}.detail AS detail
                WHERE detail.namespace = gone.namespace AND detail.key = gone.key
            ) AS found
        ))
    )"""  # noqa: S608


READ_NOTES = """SELECT detail.note
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (name, key, position)
    LEFT JOIN {schema}.namespace AS names ON names.name = wanted.name
    LEFT JOIN {schema}.detail AS detail
        ON detail.namespace = names.id AND detail.key = wanted.key
    ORDER BY position"""
