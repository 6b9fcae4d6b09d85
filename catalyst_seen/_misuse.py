"""Errors that name the other twin, where a class is used in a form that it has not.

Type checkers do not see the methods that are added here, and report the misuse
themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C", bound=type)


def misused(**advice: str) -> Callable[[C], C]:
    """Add methods to a class that raise ``TypeError`` with an advice.

    Args:
        **advice: The advice, by the name of a method, such as ``enter``. There is none
            for ``await``: an object with such a method is awaitable, and frameworks
            await whatever is.
    """

    def decorate(class_: C) -> C:
        for name, text in advice.items():
            setattr(class_, f"__{name}__", _raiser(text))
        return class_

    return decorate


def _raiser(advice: str) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise TypeError(advice)

    return refuse
