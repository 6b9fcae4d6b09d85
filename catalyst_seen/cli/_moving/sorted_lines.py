"""Sorts more lines than the memory should hold: runs in files, which are merged."""

from __future__ import annotations

import heapq
import json
import tempfile
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LINES = 100_000
_MOST_CHARACTERS = 32 * 1024 * 1024

Named = tuple[str, str, str]
"""A namespace, a key, and the line of the key."""


class SortedLines:
    """Lines in the order of their namespaces and keys; a key has one line, the last.

    ::

        with SortedLines() as lines:
            lines.add("news", "a", '{"key": "a"}')
            for line in lines: ...
    """

    def __init__(
        self, *, lines: int = _MOST_LINES, characters: int = _MOST_CHARACTERS
    ) -> None:
        """Choose how much is held in memory.

        Args:
            lines: The number of lines.
            characters: Their length together.
        """
        self._most = lines, characters
        self._held: list[Named] = []
        self._characters = 0
        self._runs: list[IO[str]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, namespace: str, key: str, line: str) -> None:
        """Add the line of a key."""
        self._held.append((namespace, key, line))
        self._characters += len(line)
        if len(self._held) >= self._most[0] or self._characters >= self._most[1]:
            self._write_run()

    def __iter__(self) -> Iterator[str]:
        self._held.sort()
        runs = [map(_read, run) for run in self._runs]
        for run in self._runs:
            run.seek(0)
        last: Named | None = None
        for named in heapq.merge(*runs, self._held):
            if last is not None and last[:2] != named[:2]:
                yield last[2]
            last = named
        if last is not None:
            yield last[2]

    def _write_run(self) -> None:
        self._held.sort()
        # newline="" keeps what is in a line; JSON has no line breaks of its own.
        file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
        run = self._stack.enter_context(file)
        run.writelines(json.dumps(named) + "\n" for named in self._held)
        self._runs.append(run)
        self._held, self._characters = [], 0


def _read(line: str) -> Named:
    namespace, key, text = json.loads(line)
    return namespace, key, text
