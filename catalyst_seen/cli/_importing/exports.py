"""An export of this tool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._codes import Failure
from .._moving.export_lines import HEADER, VERSION
from .entries import Entry
from .lines import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .inputs import Input


@dataclass(frozen=True)
class Export:
    """JSON Lines of which the first one says what it is."""

    read: Input
    kind: str = "an export of catalyst-seen"
    unit: str = "line"

    def entries(self) -> Iterator[Entry]:
        """List the keys.

        Raises:
            Failure: A newer release has written it.
        """
        for place, value, problem in values(self.read.lines()):
            if problem is not None:
                yield Entry(place, None, problem=problem)
            elif place == 1:
                self._check_header(value)
            else:
                yield _entry(place, value)

    def _check_header(self, value: object) -> None:
        if not is_header(value):
            raise Failure("is no export of catalyst-seen")
        assert isinstance(value, dict)  # noqa: S101 - it is a header
        if value.get("version") != str(VERSION):
            raise Failure(
                "was exported by a newer release of catalyst-seen: install that"
            )


def is_header(value: object) -> bool:
    """Is it the first line of an export?"""
    return isinstance(value, dict) and value.get(HEADER) == "export"


def _entry(place: int, value: object) -> Entry:
    if not isinstance(value, dict):
        return Entry(place, None, problem="is no object")
    return Entry(
        place,
        value.get("key"),
        value.get("seen"),
        value.get("note"),
        value.get("namespace", ""),
        value.get("first"),
        value.get("expires"),
        str(value.get("state", "seen")),
    )
