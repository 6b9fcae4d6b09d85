"""The backend on Redis or Valkey, one server or a cluster."""

from __future__ import annotations

from .backend import RedisBackend

__all__ = ["RedisBackend"]
