"""Moves everything in a store to another database."""

from __future__ import annotations
