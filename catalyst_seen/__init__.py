"""Remembers which items have been handled, across tasks, processes and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._claims.claim import Claim, UnawaitedClaim, UnawaitedClaims
from ._claims.pending import PendingClaims
from ._config import Clock, OnError, SeenStoreConfig, SqliteLibrary, Synchronous
from ._errors import (
    ClaimNotOwnedError,
    ConfigurationError,
    InvalidKeyError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
)
from ._items import Note
from ._listings import FeedRules, First, Observation, Source
from ._metrics import ErrorCount, Histogram, OperationCount, Sizes, StoreMetrics
from ._store import AsyncSeenStore
from ._sync import SeenStore, should_filter
from ._sync_claims import BlockingClaim, BlockingClaims, BlockingPendingClaims
from ._types import (
    CallFailures,
    CallKind,
    CheckReport,
    OnAbandoned,
    Once,
    Record,
    RecordState,
    Sighting,
    StoreStats,
)
from ._unawaited import Unawaited
from ._validation import Duration
from ._verdict import Verdict
from .backends.base import Backend

if TYPE_CHECKING:
    __version__: str
else:  # hidden from type checkers, which would accept every name

    def __getattr__(name: str) -> str:
        """Read ``__version__`` when it is asked for."""
        if name == "__version__":
            from ._version import read_version

            return read_version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AsyncSeenStore",
    "Backend",
    "BlockingClaim",
    "BlockingClaims",
    "BlockingPendingClaims",
    "CallFailures",
    "CallKind",
    "CheckReport",
    "Claim",
    "ClaimNotOwnedError",
    "Clock",
    "ConfigurationError",
    "Duration",
    "ErrorCount",
    "FeedRules",
    "First",
    "Histogram",
    "InvalidKeyError",
    "LeaseLostError",
    "Note",
    "Observation",
    "OnAbandoned",
    "OnError",
    "Once",
    "OperationCount",
    "OutcomeUnknownError",
    "PendingClaims",
    "Record",
    "RecordState",
    "SchemaError",
    "SeenError",
    "SeenStore",
    "SeenStoreConfig",
    "Sighting",
    "Sizes",
    "Source",
    "SqliteLibrary",
    "StoreClosedError",
    "StoreError",
    "StoreMetrics",
    "StoreStats",
    "StoreUnavailableError",
    "Synchronous",
    "Unawaited",
    "UnawaitedClaim",
    "UnawaitedClaims",
    "Verdict",
    "__version__",
    "should_filter",
]
