"""Moves everything in a store to another database, while programs go on using it.

::

    goal = as_target(AsyncSeenStore(url))
    async with AsyncSeenStore("seen.db") as source, goal as target:
        transfer = Transfer(source, target)
        async with transfer.under_way():
            while (await transfer.copy()).changed > 300:
                pass
            ...  # end the programs that use the source
            await transfer.complete()

``catalyst-seen move`` is this, with a progress bar and with advice.
"""

from __future__ import annotations

from ..backends._unfinished import MARKER
from ._comparison import Difference
from ._contents import Contents
from ._releases import check_can_be_made, is_of_earlier_release
from ._side import as_target
from ._transfer import Pass, Transfer, count, under_way_from

__all__ = [
    "MARKER",
    "Contents",
    "Difference",
    "Pass",
    "Transfer",
    "as_target",
    "check_can_be_made",
    "count",
    "is_of_earlier_release",
    "under_way_from",
]
