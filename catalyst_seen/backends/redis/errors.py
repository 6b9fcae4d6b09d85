"""What Redis's errors mean for a store."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from ..._errors import OutcomeUnknownError, StoreUnavailableError

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
_OF_THE_SCRIPT = ("user_script", "Error compiling", "Error running")


def refused(exc: Exception, location: str) -> StoreUnavailableError:
    """Say in our words why Redis did not do something."""
    text = str(exc)
    said = f"{text} ({type(exc).__name__})"
    if isinstance(exc, ResponseError) and text.startswith(_OF_THE_SCRIPT):
        return OutcomeUnknownError(
            location,
            f"{said}: what came before in the batch is done, perhaps",
            "This is a bug of catalyst-seen: please report it",
        )
    return StoreUnavailableError(location, said, advice(exc))


def advice(exc: Exception) -> str:
    """Say what helps."""
    text = str(exc)
    for kind, what in _ADVICE.items():
        if isinstance(exc, kind):
            return what
    for word, what in _ADVICE_BY_WORD.items():
        if word in text:
            return what
    return "Nothing acknowledged is lost"
