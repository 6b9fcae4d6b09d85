"""Sources of namespaces whose keys are moved, or removed, one after the other.

Meanwhile the source is locked: an observation fails, for it would find keys that are
seen unknown. A kill leaves it locked; calling the same again completes what was begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import InvalidKeyError
from .observing import Commit
from .scan import scan_pages
from .values import locked, unlocked

if TYPE_CHECKING:
    from .observing import Observing


async def lock(observing: Observing, namespace: str) -> bytes:
    """Lock a source, if there is one; return its value."""
    while True:
        state = await observing.state(namespace)
        if not state.value or state.is_locked:
            return state.value
        value = locked(state.value)
        if await observing.commit(namespace, Commit(state.value, value)) is not None:
            return value


async def drop(observing: Observing, namespace: str | None) -> None:
    """Remove the source of a namespace, or all sources."""
    if namespace is not None:
        if namespace:
            await observing.drop(namespace)
        return
    codec = observing.codec
    async for names in scan_pages(observing.session, codec.sources()):
        for space in {one for name in names if (one := codec.sourced(name))}:
            await observing.drop(space)


async def is_observed(observing: Observing, namespace: str) -> bool:
    """Has the namespace a source?"""
    return bool(namespace and (await observing.state(namespace)).value)


async def check_movable(observing: Observing, old: str, new: str) -> None:
    """Check that the source of a namespace, if it has one, can get a name.

    Raises:
        InvalidKeyError: It cannot.
    """
    if not new and await is_observed(observing, old):
        raise InvalidKeyError(
            "namespace",
            "'' is the default one, and a source needs one of its own: choose another"
            " name",
        )


async def begin_move(observing: Observing, old: str, new: str) -> None:
    """Lock a source, and put a copy where its keys are going to be."""
    if not old or not (value := await lock(observing, old)):
        return
    while not await is_observed(observing, new):
        await observing.commit(new, Commit(b"", value))


async def end_move(observing: Observing, old: str, new: str) -> None:
    """Remove a source whose keys were moved, and unlock its copy."""
    if old and await is_observed(observing, old):
        await observing.drop(old)
    while new:
        state = await observing.state(new)
        if not state.is_locked:
            return
        await observing.commit(new, Commit(state.value, unlocked(state.value)))
