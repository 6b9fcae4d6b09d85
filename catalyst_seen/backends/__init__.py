"""The seam between a store and its database, public for other backends.

``Backend`` and the capability protocols are the contract; the operations, ``Row``,
``BatchResult`` and ``PageResult`` are what passes through it. ``memory.MemoryBackend``
is the shortest implementation. Importing this package imports no driver.
"""

from __future__ import annotations

from .base import (
    Backend,
    BackendStats,
    BatchResult,
    Cursor,
    PageResult,
    RecordPage,
    Selection,
    StoredPage,
    StoredRow,
    SupportsBackup,
    SupportsInspection,
    SupportsMaintenance,
    SupportsNamespaces,
    SupportsPurge,
    SupportsReadAside,
    SupportsTransactions,
    SupportsTransfer,
)
from .listings import SourceState
from .operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    IsSeen,
    Listed,
    Mark,
    Noted,
    Operation,
    ReadOperation,
    Refresh,
    Release,
    Renew,
    Resolve,
    Row,
)

__all__ = [
    "Acquire",
    "Backend",
    "BackendStats",
    "BatchResult",
    "CheckAndMark",
    "Confirm",
    "Cursor",
    "Forget",
    "Get",
    "IsSeen",
    "Listed",
    "Mark",
    "Noted",
    "Operation",
    "PageResult",
    "ReadOperation",
    "RecordPage",
    "Refresh",
    "Release",
    "Renew",
    "Resolve",
    "Row",
    "Selection",
    "SourceState",
    "StoredPage",
    "StoredRow",
    "SupportsBackup",
    "SupportsInspection",
    "SupportsMaintenance",
    "SupportsNamespaces",
    "SupportsPurge",
    "SupportsReadAside",
    "SupportsTransactions",
    "SupportsTransfer",
]
