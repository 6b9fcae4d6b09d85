"""The backend on Redis or Valkey, on one server or on a cluster."""

from __future__ import annotations

from .backend import RedisBackend

__all__ = ["RedisBackend"]
