"""Tests of catalyst_seen.feeds."""

from __future__ import annotations
