"""The servers of the tests, under the name by which programs outside import them."""

from __future__ import annotations

from .support.servers import Postgres, Valkey, ValkeyCluster

__all__ = ["Postgres", "Valkey", "ValkeyCluster"]
