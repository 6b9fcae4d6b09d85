"""Translation of the errors of PostgreSQL and asyncpg."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from ..._errors import ConfigurationError, StoreUnavailableError
from .._retry import TransientError
from .dsn import SETTING, invalid_url, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGN_IN = (
    "Check the user and the password, which are in the URL, in PGPASSWORD (also if it"
    " is empty) or in the passfile, and the server's pg_hba.conf"
)
LOCKED = (
    "Another transaction holds the key's row: find it in pg_stat_activity, or raise"
    " timeout"
)
_ADVICE = {
    "08P01": "If there is a pooler between, make a pool of your own and give that",
    "25006": "It is a replica, or set to read only: name the primary",
    "25P02": "Roll your transaction back: a statement in it has failed before",
    "28000": _SIGN_IN,
    "28P01": _SIGN_IN,
    "3D000": "Create the database, or name one that is there",
    "3F000": "The schema was dropped while the store was open: open it again",
    "40001": "Roll your transaction back, and try it again",
    "42501": (
        "Let the owner execute GRANT USAGE ON SCHEMA {schema} TO ... and GRANT SELECT,"
        " INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO ..., with the user"
        " of the store; if there are no tables, or those of an earlier release, let the"
        " owner open the store once before"
    ),
    "42P01": "The table was dropped while the store was open: open it again",
    "53100": "Free some space; the store then works again by itself",
    "53200": "Give the server more memory; nothing acknowledged is lost",
    "53300": "Raise the server's max_connections, or give stores one pool of yours",
    "55P03": LOCKED,
    "57014": "Somebody cancelled it, or statement_timeout did; nothing was stored",
}
_ROLLED_BACK = {"40P01"}
"""Deadlock: nothing was applied, and another attempt is likely to succeed."""

_CONNECTION_ENDED = {"25P03", "57P01", "57P02", "57P03", "57P05"}
_BUG_CLASSES = ("22", "42", "26", "34")
"""Classes of SQLSTATE that blame the statement, not the database."""


@contextmanager
def translate_errors(
    location: str, *, maybe_applied: bool, connection: asyncpg.Connection | None = None
) -> Iterator[None]:
    """Translate the errors of the database. Bugs pass through untouched.

    Args:
        location: The address of the database.
        maybe_applied: Whether the server may have applied a request whose connection
            was lost.
        connection: The connection in use; ``None`` while it is established.

    Raises:
        TransientError: Another attempt may succeed; ``_retry`` makes it.
        StoreUnavailableError: A retry would not help.
        ConfigurationError: asyncpg or PostgreSQL rejects the URL.
    """
    try:
        yield
    except (OSError, asyncpg.InternalClientError) as exc:
        # asyncpg raises InternalClientError if the server has just disconnected.
        raise TransientError(exc, maybe_applied=maybe_applied) from exc
    except asyncpg.PostgresError as exc:
        code = exc.sqlstate or ""
        if code.startswith(_BUG_CLASSES) and code not in _ADVICE:
            if connection is not None:
                raise
            raise ConfigurationError(SETTING, f"PostgreSQL says: {exc}") from exc
        raise _translate(exc, code, location, maybe_applied=maybe_applied) from exc
    except asyncpg.exceptions.ClientConfigurationError:
        raise invalid_url(location) from None
    except asyncpg.InterfaceError as exc:
        if connection is None or not _is_lost(connection):
            raise
        raise TransientError(exc, maybe_applied=maybe_applied) from exc


def is_locked(exc: StoreUnavailableError) -> bool:
    """Did a wait for the lock of another transaction end in vain?"""
    return isinstance(exc.__cause__, asyncpg.LockNotAvailableError)


@contextmanager
def retry_locked() -> Iterator[None]:
    """Raise a lock timeout as transient, so that the channel retries the request.

    Raises:
        TransientError: Nothing was changed.
    """
    try:
        yield
    except StoreUnavailableError as exc:
        if not is_locked(exc) or exc.__cause__ is None:
            raise
        raise TransientError(
            exc.__cause__, maybe_applied=False, advice=exc.advice
        ) from exc


def _translate(
    exc: asyncpg.PostgresError, code: str, location: str, *, maybe_applied: bool
) -> TransientError | StoreUnavailableError:
    if code in _ROLLED_BACK:
        return TransientError(exc, maybe_applied=False)
    if code in _CONNECTION_ENDED or (code.startswith("08") and code not in _ADVICE):
        return TransientError(exc, maybe_applied=maybe_applied)
    advice = _ADVICE.get(code, "Nothing acknowledged is lost")
    message = exc.args[0]  # str(exc) has the detail as well, which may quote a row
    return StoreUnavailableError(
        location,
        f"{message} ({type(exc).__name__})",
        advice.format(schema=schema_of(location)),
    )


def _is_lost(connection: asyncpg.Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # a lost connection is back in its pool
        return True
