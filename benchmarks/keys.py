"""Realistic keys: of one length, in random order, all different."""

from __future__ import annotations

import secrets
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def digests(count: int) -> list[str]:
    """Keys of 32 hexadecimal digits."""
    return [secrets.token_hex(16) for _ in range(count)]


def links(count: int, seed: int) -> Iterator[str]:
    """Keys of 60 bytes, in random order; the same ones for the same seed."""
    random = Random(seed)
    return (
        f"https://news.example/2025/11/30/{random.getrandbits(112):028x}"
        for _ in range(count)
    )


def addresses(count: int) -> list[str]:
    """Keys of 60 bytes, different at each call."""
    return list(links(count, seed=secrets.randbits(64)))


def shuffled(keys: list[str], count: int) -> list[str]:
    """Each of the keys about equally often, in random order."""
    random = Random(count)
    return [random.choice(keys) for _ in range(count)]


def mixed(keys: list[str]) -> list[str]:
    """The keys in random order."""
    return Random(len(keys)).sample(keys, len(keys))
