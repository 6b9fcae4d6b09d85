"""The values of options and arguments, from their texts; and options of many commands.

Each function is the ``type=`` of an option: it raises ``click.BadParameter`` with what
is wrong, and what would be right.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from catalyst_seen import InvalidKeyError

from .._validation import (
    MAX_TIMESTAMP,
    YEAR_2000,
    check_key,
    check_namespace,
    check_note,
    check_prefix,
    seconds,
    timestamp,
)

if TYPE_CHECKING:
    from types import EllipsisType

NEVER = "never"


def duration(text: str) -> float:
    """Return the seconds of a duration with its unit, such as ``7d`` or ``1h30m``."""
    try:
        return seconds(text, "it")
    except ValueError:
        raise click.BadParameter(_no_duration(text)) from None


def duration_or_never(text: str) -> float | str:
    """Return the seconds of a duration, or ``NEVER``."""
    if text == NEVER:
        return text
    try:
        return seconds(text, "it")
    except ValueError:
        raise click.BadParameter(f"{_no_duration(text)}; or {NEVER}") from None


def _no_duration(text: str) -> str:
    hint = f": did you mean {text}s?" if text.isdecimal() else ""
    return f"{text!r} is not a time such as 90s, 15m, 1h30m, 7d{hint}"


def ttl_of(given: float | str | None) -> float | EllipsisType | None:
    """Return ``ttl=`` of a verb: ``...`` if none was given, ``None`` for never."""
    if given is None:
        return ...
    return None if isinstance(given, str) else given


def namespace(text: str) -> str:
    """Return the name of a namespace."""
    try:
        return check_namespace(text)
    except InvalidKeyError as exc:
        raise click.BadParameter(exc.problem) from None


def key(text: str) -> str:
    """Return a key, as it is stored."""
    try:
        return check_key(text, may_end_in_break=True)
    except InvalidKeyError as exc:
        raise click.BadParameter(exc.problem) from None


def prefix(text: str) -> str:
    """Return how keys begin, or a pattern of them."""
    try:
        return check_prefix(text)
    except InvalidKeyError as exc:
        raise click.BadParameter(exc.problem) from None


def note(text: str) -> str | None:
    """Return a note."""
    try:
        return check_note(text)
    except InvalidKeyError as exc:
        raise click.BadParameter(exc.problem) from None


def scope(name: str | None, *, has_all: bool) -> str | None:
    """Return the namespace of a change, by default the one without a name.

    ``None`` is every namespace, which has to be said.
    """
    if name is not None and has_all:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    return None if has_all else name or ""


def problem_of(name: str, text: str, note: str | None) -> str | None:
    """Return why a store would refuse a key in a namespace with a note, if it would."""
    try:
        check_namespace(name)
        check_key(text)
        check_note(note)
    except InvalidKeyError as exc:
        return exc.problem
    return None


def is_instant(seconds: float) -> bool:
    """Can seconds since 1970 be when a key was seen: not before 2000?"""
    return YEAR_2000 <= seconds < MAX_TIMESTAMP


def instant(text: str) -> float:
    """Return an instant in seconds since 1970.

    It is a date, with the time of this machine where it says no other; seconds since
    1970; or a time ago, such as ``3d``.
    """
    try:
        return timestamp(_instant(text), time.time)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not an instant such as 2026-11-28, 2026-11-28T06:30,"
            " 1795824000, or 3d for three days ago"
        ) from None


def _instant(text: str) -> float:
    if text.isdecimal():
        return float(text)
    try:
        return time.time() - seconds(text, "it")
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


NAMESPACE = click.option(
    "-n",
    "--namespace",
    type=namespace,
    metavar="NAME",
    help="The namespace of the keys.",
)
"""``-n NAME``; ``None`` if it is not given."""

ALL_NAMESPACES = click.option(
    "--all-namespaces", is_flag=True, help="The keys of every namespace."
)
"""``--all-namespaces``; pass it through ``scope`` with ``-n``."""

TTL = click.option(
    "--ttl",
    type=duration_or_never,
    metavar="TIME",
    help="How long a key is kept, such as 30d; or never. Default: SEEN_TTL_DAYS, or 7d;"
    " the TTL of your program is not known here.",
)
"""``--ttl TIME``; pass it through ``ttl_of``."""

DRY_RUN = click.option(
    "-d", "--dry-run", is_flag=True, help="Change nothing; show what would be done."
)

YES = click.option("-y", "--yes", is_flag=True, help="Ask nothing.")
