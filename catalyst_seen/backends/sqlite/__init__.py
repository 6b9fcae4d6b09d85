"""The backend on SQLite, in a file or in memory."""

from __future__ import annotations

from .backend import SqliteBackend

__all__ = ["SqliteBackend"]
