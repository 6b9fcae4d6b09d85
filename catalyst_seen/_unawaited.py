"""What an asynchronous verb returns: a coroutine that refuses to be taken for a result.

A forgotten ``await`` leaves a coroutine in the place of a result, and every coroutine
is true: ``if store.is_seen(key)`` would drop every item. ``Unawaited`` is a coroutine
in every respect but one: its truth test raises.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar

from ._calls import call_error

if TYPE_CHECKING:
    from collections.abc import Generator

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Unawaited(Coroutine[Any, Any, T_co]):
    """The call of an asynchronous verb, which runs when it is awaited.

    It is a ``collections.abc.Coroutine``: ``await``, ``asyncio.create_task``,
    ``gather``, ``wait_for``, ``TaskGroup`` and anyio accept it. A truth test raises
    ``TypeError``, because it can only mean that the ``await`` was forgotten; the call
    is then discarded without a further warning.
    """

    __slots__ = ("__weakref__", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, T_co]) -> None:
        """Created by the verbs of a store."""
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:  # noqa: ANN401 - as in Coroutine
        """Resume the call, as the coroutine protocol demands."""
        return self._coroutine.send(value)

    def throw(self, *exception: Any) -> Any:  # noqa: ANN401 - as in Coroutine
        """Raise an exception inside the call."""
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        """Discard the call; if it was not awaited yet, it has no effect."""
        self._coroutine.close()

    def __bool__(self) -> bool:
        self._coroutine.close()
        raise TypeError(self._advice())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._advice()}>"

    if not TYPE_CHECKING:  # a type checker reports missing attributes itself

        def _refuse(self, *_: object) -> Never:
            self._coroutine.close()
            raise TypeError(self._advice())

        __enter__ = __exit__ = __iter__ = __aiter__ = __len__ = __getitem__ = _refuse

        def __getattr__(self, name: str) -> Never:
            """Explain the likely mistake."""
            raise AttributeError(f"no attribute {name!r}: {self._advice()}")

    def _advice(self) -> str:
        verb = getattr(self._coroutine, "__name__", "the verb")
        return (
            f"{verb} is not awaited yet: write `await store.{verb}(...)`; without an"
            f" event loop, take SeenStore, whose {verb} needs no await"
        )


def verb(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Unawaited[T]]:
    """Make a coroutine function return ``Unawaited``.

    ``inspect.iscoroutinefunction`` stays true, so that ``unittest.mock`` replaces the
    verb with an ``AsyncMock``, as it does a coroutine function.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Unawaited[T]:
        try:
            return Unawaited(function(*args, **kwargs))
        except TypeError:
            if error := call_error(function, args, kwargs):
                raise error from None
            raise

    return mark_coroutine_function(call)


def mark_coroutine_function(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function that returns a coroutine as a coroutine function."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    import asyncio.coroutines

    marker = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001
    function._is_coroutine = marker  # type: ignore[attr-defined] # noqa: SLF001
    return function
