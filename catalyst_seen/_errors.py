"""The errors, as a tree.

::

    SeenError
    ├── ConfigurationError (ValueError)   a setting, a variable or a URL is wrong
    ├── InvalidKeyError (ValueError)      no backend could keep this key faithfully
    ├── LeaseLostError                    the claim is not, or no longer, the caller's
    ├── StoreClosedError (RuntimeError)   not open, or not in this loop or process
    ├── SchemaError                       a newer schema, or not a store at all
    └── StoreUnavailableError             it cannot answer now; later it may
        └── OutcomeUnknownError           it failed at the commit: stored or not

An argument of the wrong type is a plain ``TypeError``, one out of range a plain
``ValueError``. Every message is built from attributes that the caller can read, and
says what to do next.
"""

from __future__ import annotations


class SeenError(Exception):
    """Root of every error that catalyst-seen raises on its own account."""


class ConfigurationError(SeenError, ValueError):
    """A setting cannot be used.

    Attributes:
        setting: Name of the setting, environment variable or argument.
        problem: What is wrong with it and what is allowed.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}"


class InvalidKeyError(SeenError, ValueError):
    """A key or namespace is refused before any I/O.

    Attributes:
        argument: Which argument, with its place in a batch: ``"key"``, ``"keys[3]"``.
        problem: The value (shortened) and the rule it breaks.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}"


class LeaseLostError(SeenError):
    """A claim was to be confirmed or renewed that the caller does not own, or no more.

    The record is as the others left it; nothing was changed.

    Attributes:
        key: The key.
        namespace: Its namespace.
        attempt: Which attempt at the key the claim was.
        problem: Why it is not owned, as far as the claim can know, and what helps.
    """

    def __init__(self, key: str, namespace: str, attempt: int, problem: str) -> None:
        super().__init__(key, namespace, attempt, problem)
        self.key = key
        self.namespace = namespace
        self.attempt = attempt
        self.problem = problem

    def __str__(self) -> str:
        where = f" in namespace {self.namespace!r}" if self.namespace else ""
        return f"claim on {self.key!r}{where}, attempt {self.attempt}: {self.problem}"


class StoreClosedError(SeenError, RuntimeError):
    """The store is not open where it was used.

    Attributes:
        problem: Never opened, closed, or opened in another event loop or process, and
            what to do.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _LocatedError(SeenError):
    """An error of one store: where, why, and what helps."""

    def __init__(self, location: str, cause: str, advice: str) -> None:
        super().__init__(location, cause, advice)
        self.location = location
        self.cause = cause
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.location}: {self.cause}. {self.advice}"


class SchemaError(_LocatedError):
    """What lies at the location is not a store this version can use; it is untouched.

    Attributes:
        location: Path of the database.
        cause: What was found there.
        advice: What to do next.
    """


class StoreUnavailableError(_LocatedError):
    """The store cannot answer now. Nothing acknowledged is lost.

    Attributes:
        location: Path of the database.
        cause: What the database said, with its error name.
        advice: What to do next.
    """


class OutcomeUnknownError(StoreUnavailableError):
    """An I/O error came while committing: the change may be stored or not.

    Ask again (``get``, ``check_and_mark``, ``Claim.confirm``) to learn which.
    """
