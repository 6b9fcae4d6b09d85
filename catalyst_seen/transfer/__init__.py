"""Moves everything in a store to another database, while programs go on using it.

::

    async with AsyncSeenStore("seen.db") as source, AsyncSeenStore(url) as target:
        transfer = Transfer(source, target)
        async with transfer.under_way():
            while (await transfer.copy()).changed > 300:
                pass
            ...  # end the programs that use the source
            await transfer.complete()

``catalyst-seen move`` is this, with a progress bar and with advice.
"""

from __future__ import annotations

from ._comparison import Difference
from ._contents import Contents
from ._releases import is_of_earlier_release
from ._transfer import MARKER, Pass, Transfer, count

__all__ = [
    "MARKER",
    "Contents",
    "Difference",
    "Pass",
    "Transfer",
    "count",
    "is_of_earlier_release",
]
