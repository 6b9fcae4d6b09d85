"""What PostgreSQL's and asyncpg's errors mean for a store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from ..._errors import ConfigurationError, StoreUnavailableError
from .._retry import TransientError
from .dsn import SETTING, bad_url

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGN_IN = "Check the user and the password in the URL, and the server's pg_hba.conf"
_RAISE_TIMEOUT = "find it in pg_stat_activity, or raise timeout"
_ADVICE = {
    "08P01": "If there is a pooler between, make a pool of your own and give that",
    "25006": "It is a replica, or set to read only: name the primary",
    "25P02": "Roll your transaction back: a statement in it has failed before",
    "28000": _SIGN_IN,
    "28P01": _SIGN_IN,
    "3D000": "Create the database, or name one that is there",
    "3F000": "The schema was dropped while the store was open: open it again",
    "40001": "Roll your transaction back, and try it again",
    "42501": "Grant that to the store's user, or let another one create the schema",
    "42P01": "The table was dropped while the store was open: open it again",
    "53100": "Free some space; the store then works again by itself",
    "53200": "Give the server more memory; nothing acknowledged is lost",
    "53300": "Raise the server's max_connections, or give stores one pool of yours",
    "55P03": f"Another transaction holds the key's row: {_RAISE_TIMEOUT}",
    "57014": "Somebody cancelled it, or statement_timeout did; nothing was stored",
}
_NEVER_DONE = {"40P01"}
"""Rolled back, but better luck is likely."""

_ENDED = {"25P03", "57P01", "57P02", "57P03", "57P05"}
_BUGS = ("22", "42", "26", "34")
"""Classes of what PostgreSQL says of its caller, not of the database."""


@contextmanager
def translated(
    location: str, *, maybe_applied: bool, connection: asyncpg.Connection | None = None
) -> Iterator[None]:
    """Say in our words what asyncpg says of the database. Bugs pass untouched.

    Args:
        location: Where the store is.
        was_sent: May the server have carried something out if the connection is lost?
        connection: The one that is used; ``None`` if it is being made.

    Raises:
        Broken: Another attempt may succeed.
        StoreUnavailableError: None would.
        ConfigurationError: asyncpg or PostgreSQL can make nothing of the URL.
    """
    try:
        yield
    except (OSError, asyncpg.InternalClientError) as exc:
        # The latter as well if the server ended the connection just now.
        raise TransientError(exc, maybe_applied=maybe_applied) from exc
    except asyncpg.PostgresError as exc:
        code = exc.sqlstate or ""
        if code.startswith(_BUGS) and code not in _ADVICE:
            if connection is not None:
                raise
            raise ConfigurationError(SETTING, f"PostgreSQL says: {exc}") from exc
        raise _meant(exc, code, location, maybe_applied=maybe_applied) from exc
    except asyncpg.exceptions.ClientConfigurationError:
        raise bad_url() from None
    except asyncpg.InterfaceError as exc:
        if connection is None or not _is_lost(connection):
            raise
        raise TransientError(exc, maybe_applied=maybe_applied) from exc


def _meant(
    exc: asyncpg.PostgresError, code: str, location: str, *, maybe_applied: bool
) -> TransientError | StoreUnavailableError:
    if code in _NEVER_DONE:
        return TransientError(exc, maybe_applied=False)
    if code in _ENDED or (code.startswith("08") and code not in _ADVICE):
        return TransientError(exc, maybe_applied=maybe_applied)
    advice = _ADVICE.get(code, "Nothing acknowledged is lost")
    return StoreUnavailableError(location, f"{exc} ({type(exc).__name__})", advice)


def _is_lost(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # it was lost, and so went back to its pool
        return True
