"""The commands: each is ``command`` in a module of its name."""

from __future__ import annotations
