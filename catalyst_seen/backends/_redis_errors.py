"""What Redis's errors mean for a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from .._errors import StoreUnavailableError

if TYPE_CHECKING:
    from .._errors import SeenError

_SIGN_IN = "Check the user and the password, and what that user may do"
_ADVICE: dict[type[Exception], str] = {
    AuthenticationError: _SIGN_IN,
    AuthorizationError: _SIGN_IN,
    NoPermissionError: _SIGN_IN,
    ReadOnlyError: "It is a replica: name the primary",
    OutOfMemoryError: "Raise maxmemory; what is seen is still answered",
    MaxConnectionsError: "Give the pool more connections",
}
_ADVICE_BY_WORD = {
    "NOAUTH": _SIGN_IN,
    "WRONGPASS": _SIGN_IN,
    "ACL failure": _SIGN_IN,
    "MISCONF": "Redis cannot write to its disk; its log says why",
    "NOREPLICAS": "Too few replicas are connected to it",
    "DB index": "Name a database that the server has",
}
_BUG = ("user_script", "Error compiling", "Error running", "wrong number")


def refused(exc: Exception, location: str) -> SeenError:
    """Say in our words why Redis did not do something; a bug of ours is raised."""
    text = str(exc)
    if isinstance(exc, ResponseError) and text.startswith(_BUG):
        raise exc
    advice = "Nothing acknowledged is lost"
    for kind, what in _ADVICE.items():
        if isinstance(exc, kind):
            advice = what
    for word, what in _ADVICE_BY_WORD.items():
        if word in text:
            advice = what
    return StoreUnavailableError(location, f"{text} ({type(exc).__name__})", advice)
