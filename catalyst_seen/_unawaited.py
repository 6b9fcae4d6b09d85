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
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, cast

from ._calls import call_error, names_of_kind

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FunctionType

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
    return mark_coroutine_function(functools.wraps(function)(_caller(function)))


def _caller(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Unawaited[T]]:
    """Generate a function with the parameters of a verb that calls the verb.

    One that passes ``*args`` and ``**kwargs`` on would cost 0.3 µs a call more, which
    is nearly as much as everything else that is done here.
    """
    parameters = inspect.signature(function).parameters.values()
    positional = names_of_kind(parameters, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = names_of_kind(parameters, inspect.Parameter.KEYWORD_ONLY)
    others = names_of_kind(parameters, inspect.Parameter.VAR_KEYWORD)
    given = [*positional, "*surplus", *named, f"**{others[0] if others else 'unknown'}"]
    passed = [*positional, *(f"{name}={name}" for name in named)]
    passed += [f"**{name}" for name in others]
    misfits = ["surplus", *([] if others else ["unknown"])]
    source = f"""\
def call({", ".join(given)}):
    if {" or ".join(misfits)}:
        raise _error(_verb, [{", ".join(positional)}, *surplus], {given[-1][2:]})
    return _Unawaited(_verb({", ".join(passed)}))
"""
    names: dict[str, Any]
    names = {"_Unawaited": Unawaited, "_error": call_error, "_verb": function}
    exec(source, names)  # noqa: S102 - made of the names of parameters alone
    call: FunctionType = names["call"]
    call.__defaults__ = function.__defaults__
    call.__kwdefaults__ = function.__kwdefaults__
    return cast("Callable[P, Unawaited[T]]", call)


def mark_coroutine_function(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function that returns a coroutine as a coroutine function."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    import asyncio.coroutines

    marker = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001
    function._is_coroutine = marker  # type: ignore[attr-defined] # noqa: SLF001
    return function
