"""Threads and file descriptors that a test leaves open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a file descriptor behind."""
    for place in {"target", "shared"}.intersection(request.fixturenames):
        request.getfixturevalue(place)  # the descriptors of its server do not count
    threads, descriptors = set(threading.enumerate()), open_descriptors()
    yield
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (
        set(threading.enumerate()) > threads
        or len(open_descriptors()) > len(descriptors)
    ):
        time.sleep(0.01)
    assert set(threading.enumerate()) <= threads
    assert len(open_descriptors()) <= len(descriptors)


def open_descriptors() -> list[str]:
    """Return the names of the open descriptors of this process."""
    found = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(number.readlink()))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found
