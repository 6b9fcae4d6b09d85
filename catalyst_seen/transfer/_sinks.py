"""What is done with the differences that a pass finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._comparison import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._passes import FoundRow, FoundState
    from ._side import Side


class Writing:
    """Writes what differs to the target."""

    is_writing = True

    def __init__(self, target: Side) -> None:
        self._target = target

    async def rows(self, found: Sequence[FoundRow]) -> None:
        await self._target.write([(one.id, one.wanted) for one in found])

    async def states(self, found: Sequence[FoundState]) -> None:
        await self._target.write_states({one.namespace: one.wanted for one in found})


class Reporting:
    """Reports what differs."""

    is_writing = False

    def __init__(self, report: Callable[[Difference], None]) -> None:
        self._report = report

    async def rows(self, found: Sequence[FoundRow]) -> None:
        for one in found:
            if one.lasts:
                self._report(Difference(*one.id, one.what))

    async def states(self, found: Sequence[FoundState]) -> None:
        for one in found:
            self._report(Difference(one.namespace, None, one.what))
