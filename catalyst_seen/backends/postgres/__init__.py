"""The backend on PostgreSQL."""

from __future__ import annotations

from .backend import PostgresBackend

__all__ = ["PostgresBackend"]
