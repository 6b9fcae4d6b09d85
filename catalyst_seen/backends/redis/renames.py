"""The rename of a namespace: its Redis keys are moved page by page.

A marker beside the new name records that the rename is under way, so that a second call
can tell a name that is renamed in part from one that is occupied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import StoreUnavailableError
from ..operations import Get
from .moves import moving
from .scan import scan_pages
from .sources import begin_move, check_movable, end_move, is_observed

if TYPE_CHECKING:
    from .inspection import Inspection
    from .observing import Observing

_PASSES = 5  # at most, while other programs mark keys under the old name


async def rename(
    observing: Observing, inspection: Inspection, old: str, new: str
) -> bool:
    """Rename a namespace, or complete a rename; false if the new name is occupied.

    Keys that others mark under the new name meanwhile stay, as those that are newer do.

    Raises:
        InvalidKeyError: An observed namespace would become the default one.
        StoreUnavailableError: Another store renames it right now.
    """
    session, codec = observing.session, observing.codec
    await check_movable(observing, old, new)
    marker = codec.renaming(old, new)
    (state,) = await session.ask([Get(old, new)], [marker])
    if state.row is None and (
        await is_observed(observing, new) or await inspection.is_occupied(new)
    ):
        return False
    async with moving(session, marker, is_lasting=False) as mover:
        if mover is None:
            raise StoreUnavailableError(
                session.location,
                "another store renames this namespace right now",
                "Call again to learn whether it has completed that",
            )
        await begin_move(observing, old, new)
        for _ in range(_PASSES):  # the last one finds none
            found = 0
            async for names in scan_pages(session, codec.pattern(old)):
                sources = {name: id_ for name in names if (id_ := codec.decode(name))}
                found += await mover.move(
                    list(sources.values()),
                    list(sources),
                    [codec.encode(new, key) for _, key in sources.values()],
                )
            if not found:
                break
        await end_move(observing, old, new)
    return True
