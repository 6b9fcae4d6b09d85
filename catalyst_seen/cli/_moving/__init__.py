"""What the commands that move, export and restore are made of."""

from __future__ import annotations
