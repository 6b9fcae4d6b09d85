"""Remembers which items have been handled, across tasks, processes and restarts."""

from __future__ import annotations

from ._claim import Claim
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
from ._model import CheckReport, Record, Sighting, StoreStats, Verdict
from ._store import AsyncSeenStore
from ._sync import BlockingClaim, SeenStore, should_filter

__all__ = [
    "AsyncSeenStore",
    "BlockingClaim",
    "CheckReport",
    "Claim",
    "ConfigurationError",
    "InvalidKeyError",
    "LeaseLostError",
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
    "should_filter",
]
