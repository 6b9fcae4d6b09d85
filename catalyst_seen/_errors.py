"""The tree of the errors.

::

    SeenError
    ├── ConfigurationError (ValueError)   a setting, a variable or a URL is wrong
    ├── InvalidKeyError (ValueError)      a key that some backend cannot store
    ├── LeaseLostError                    the claim is not, or no longer, the caller's
    ├── ClaimNotOwnedError                a block ran, or was to run, without the claim
    ├── StoreClosedError (RuntimeError)   not open, or not in this loop or process
    ├── SchemaError                       a newer schema, or not a store at all
    └── StoreError                        the database failed
        ├── StoreUnavailableError         nothing was done; a later call may succeed
        └── OutcomeUnknownError           the change may be stored or not

"Nothing was done" and "nobody knows" are siblings, so that a handler of the one never
catches the other by accident: after the first a program repeats the call, after the
second it reads the key first. ``except StoreError`` handles both.

An argument of the wrong type raises a plain ``TypeError``, one out of range a plain
``ValueError``. Every message is built from attributes that the caller can read, and
includes the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._verdict import Verdict


class SeenError(Exception):
    """The base class of all errors of catalyst-seen."""


class ConfigurationError(SeenError, ValueError):
    """A setting cannot be used.

    Attributes:
        setting: Name of the setting, environment variable or argument.
        problem: The rule that the value breaks, and the allowed values.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(setting, problem)
        self.setting = setting
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.setting}: {self.problem}"


class InvalidKeyError(SeenError, ValueError):
    """A key or namespace is invalid; it is refused before any I/O.

    Attributes:
        argument: The argument, with the index in a batch: ``"key"``, ``"keys[3]"``.
        problem: The value (shortened) and the rule it breaks.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}"


class LeaseLostError(SeenError):
    """The caller confirmed or renewed a claim that it does not own, or no longer owns.

    The call changed nothing.

    Attributes:
        key: The key.
        namespace: Its namespace.
        attempt: The number of the claim among the claims on the key.
        problem: The reason, as far as the claim can know it, and the remedy.
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


class ClaimNotOwnedError(SeenError):
    """A claim that its caller needs is not the caller's; the key was not changed.

    ``claim(..., required=True)`` raises it before the block. Otherwise the end of a
    block raises it, if the claim was false and the block read neither its truth nor its
    verdict: then the work in the block ran although another caller owns the key, or it
    is seen.

    Attributes:
        key: The key.
        namespace: Its namespace.
        verdict: The state of the key.
        retry_after: Seconds until the key may be claimed; only for ``IN_FLIGHT``.
        problem: What happened, and the remedy.
    """

    def __init__(
        self,
        key: str,
        namespace: str,
        verdict: Verdict,
        retry_after: float | None,
        problem: str,
    ) -> None:
        super().__init__(key, namespace, verdict, retry_after, problem)
        self.key = key
        self.namespace = namespace
        self.verdict = verdict
        self.retry_after = retry_after
        self.problem = problem

    def __str__(self) -> str:
        where = f" in namespace {self.namespace!r}" if self.namespace else ""
        return f"claim on {self.key!r}{where} is {self.verdict}: {self.problem}"


class StoreClosedError(SeenError, RuntimeError):
    """The store is not open in this event loop and process.

    Attributes:
        problem: The reason (never opened, closed, or opened in another event loop or
            process), and the remedy.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _LocatedError(SeenError):
    """An error of one store, with location, cause and remedy."""

    def __init__(self, location: str, cause: str, advice: str) -> None:
        super().__init__(location, cause, advice)
        self.location = location
        self.cause = cause
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.location}: {self.cause}. {self.advice}"


class SchemaError(_LocatedError):
    """The database is not a store that this version can use; it is untouched.

    Attributes:
        location: The path or address of the database.
        cause: What the database contains instead.
        advice: The remedy.
    """


class StoreError(_LocatedError):
    """The database failed. Nothing acknowledged is lost.

    Attributes:
        location: The path or address of the database.
        cause: The error of the database, with its name.
        advice: The remedy.
    """


class StoreUnavailableError(StoreError):
    """The database failed, and nothing was done: the call can be repeated."""


class OutcomeUnknownError(StoreError):
    """The commit failed, or its acknowledgement was lost: the change may be stored.

    Another call (``get``, ``check_and_mark``, ``Claim.confirm``) determines whether it
    is.
    """
