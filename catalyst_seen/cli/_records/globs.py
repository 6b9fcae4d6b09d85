"""Patterns of keys, as those of shells: ``*``, ``?``, ``[ab]``, ``[!ab]``."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[*?[]")


def is_glob(text: str) -> bool:
    """Has a text characters that stand for others?"""
    return _SPECIAL.search(text) is not None


def literal_prefix(glob: str) -> str:
    """Return how every key begins that matches a glob."""
    found = _SPECIAL.search(glob)
    return glob[: found.start()] if found else glob
