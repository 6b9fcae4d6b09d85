"""Translation of redis-py's errors to the errors of the store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from ..._errors import OutcomeUnknownError, SchemaError, StoreUnavailableError
from .._retry import no_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._errors import StoreError

_SIGN_IN = "Check the user and the password, and what that user may do"
_ADVICE: dict[type[Exception], str] = {
    AuthenticationError: _SIGN_IN,
    AuthorizationError: _SIGN_IN,
    NoPermissionError: _SIGN_IN,
    ReadOnlyError: "It is a replica: name the primary",
    OutOfMemoryError: "Raise maxmemory; what is seen is still answered",
    MaxConnectionsError: "Give the pool more connections",
}
_ADVICE_BY_TEXT = {
    "NOAUTH": _SIGN_IN,
    "WRONGPASS": _SIGN_IN,
    "ACL failure": _SIGN_IN,
    "MISCONF": "Redis cannot write to its disk; its log says why",
    "NOREPLICAS": "Too few replicas are connected to it",
    "DB index": "Name a database that the server has",
}
_SCRIPT_ERRORS = ("user_script", "Error compiling", "Error running")


@contextmanager
def translated_errors(location: str) -> Iterator[None]:
    """Translate every error of redis-py; bugs and cancellation pass untouched."""
    try:
        with no_retry(location):
            yield
    except (RedisError, RedisClusterException) as exc:
        raise translate(exc, location) from exc


def translate(exc: Exception, location: str) -> StoreError:
    """Return the error of the store for an error of redis-py."""
    text = str(exc)
    cause = f"{text} ({type(exc).__name__})"
    if isinstance(exc, ResponseError) and text.startswith(_SCRIPT_ERRORS):
        return OutcomeUnknownError(
            location,
            f"{cause}: what came before in the batch is done, perhaps",
            "This is a bug of catalyst-seen: please report it",
        )
    return StoreUnavailableError(location, cause, advice(exc))


def advice(exc: Exception) -> str:
    """Return the remedy for an error of redis-py."""
    text = str(exc)
    for kind, remedy in _ADVICE.items():
        if isinstance(exc, kind):
            return remedy
    for part, remedy in _ADVICE_BY_TEXT.items():
        if part in text:
            return remedy
    return "Nothing acknowledged is lost"


def foreign_key(location: str, key: str) -> SchemaError:
    """Return the error of a key whose name another program has taken."""
    error = SchemaError(
        location,
        "a key of this call has the name of another program's key",
        "It is untouched; choose another prefix",
    )
    error.add_note(f"It is {key!r}.")  # not in the text: logs repeat that
    return error


def not_replicated(location: str, replicas: int, wanted: int) -> OutcomeUnknownError:
    """Return the error of a change that too few replicas have acknowledged."""
    return OutcomeUnknownError(
        location,
        f"{replicas} of {wanted} replicas have it",
        "Ask again when they are back; if the primary is lost before, it is",
    )
