"""Remembers which items have been handled, across tasks, processes and restarts."""

from __future__ import annotations

from ._claims.claim import Claim
from ._config import SeenStoreConfig
from ._errors import (
    ConfigurationError,
    InvalidKeyError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreClosedError,
    StoreUnavailableError,
)
from ._store import AsyncSeenStore
from ._sync import BlockingClaim, SeenStore, should_filter
from ._types import (
    CallFailures,
    CallKind,
    CheckReport,
    OnAbandoned,
    Record,
    Sighting,
    StoreStats,
    Verdict,
)
from ._validation import Duration
from .backends.base import Backend

__version__ = "0.1.0"

__all__ = [
    "AsyncSeenStore",
    "Backend",
    "BlockingClaim",
    "CallFailures",
    "CallKind",
    "CheckReport",
    "Claim",
    "ConfigurationError",
    "Duration",
    "InvalidKeyError",
    "LeaseLostError",
    "OnAbandoned",
    "OutcomeUnknownError",
    "Record",
    "SchemaError",
    "SeenError",
    "SeenStore",
    "SeenStoreConfig",
    "Sighting",
    "StoreClosedError",
    "StoreStats",
    "StoreUnavailableError",
    "Verdict",
    "__version__",
    "should_filter",
]
