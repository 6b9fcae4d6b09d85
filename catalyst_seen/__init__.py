"""Remembers which items have been handled, across tasks, processes and restarts."""

from __future__ import annotations

from ._config import SeenStoreConfig
from ._errors import (
    ConfigurationError,
    InvalidKeyError,
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreClosedError,
    StoreUnavailableError,
)
from ._model import Record, Sighting, StoreStats, Verdict
from ._store import AsyncSeenStore
from ._sync import SeenStore, should_filter

__all__ = [
    "AsyncSeenStore",
    "ConfigurationError",
    "InvalidKeyError",
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
