"""Errors that explain a call whose arguments do not fit: how each one is passed.

The check runs only when a call was refused, so a call that fits does not pay for it.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._config import SeenStoreConfig
from ._targets import closest
from ._validation import truncated_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

F = TypeVar("F", bound="Callable[..., object]")

_SETTINGS = {field.name for field in fields(SeenStoreConfig)}


def explained(function: F) -> F:
    """Explain the calls of a function that do not fit its parameters."""

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return function(*args, **kwargs)
        except TypeError:
            if error := call_error(function, args, kwargs):
                raise error from None
            raise

    return cast("F", call)


def explain_calls(class_: type) -> None:
    """Explain the calls of all public methods of a class."""
    for name, member in list(vars(class_).items()):
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(class_, name, explained(member))


def call_error(
    function: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return the error of a call of a method; ``None`` if its arguments fit.

    The error says how an argument that does not fit is passed. A call without an
    instance has Python's own error.
    """
    if not args:
        return None
    parameters = inspect.signature(function).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    positional = names_of_kind(parameters, inspect.Parameter.POSITIONAL_OR_KEYWORD)[1:]
    named = names_of_kind(parameters, inspect.Parameter.KEYWORD_ONLY)
    name = f"{type(args[0]).__name__}.{function.__name__}".removesuffix(".__init__")
    surplus = args[1 + len(positional) :]
    if surplus and inspect.Parameter.VAR_POSITIONAL not in kinds:
        value = truncated_repr(surplus[0])
        if named:
            advice = f"pass {value} by name, as {'= or '.join(named)}="
        else:
            advice = f"{value} is one too many"
        taken = " and ".join(positional) or "nothing"
        return TypeError(f"{name} takes {taken} by position: {advice}")
    known = [*positional, *named]
    unknown = [argument for argument in kwargs if argument not in known]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        return TypeError(_unknown(name, unknown[0], known))
    return None


def names_of_kind(
    parameters: Iterable[inspect.Parameter], kind: inspect._ParameterKind
) -> list[str]:
    """Return the names of the parameters that are passed in one way."""
    return [parameter.name for parameter in parameters if parameter.kind is kind]


def _unknown(function: str, argument: str, known: Sequence[str]) -> str:
    meant = closest(argument, known) or next(
        (name for name in known if argument.startswith(name)), None
    )
    advice = f": did you mean {meant}=?" if meant else ""
    if argument in _SETTINGS:
        begin = " It" if advice else ": it"
        advice += f"{begin} is a setting of SeenStoreConfig({argument}=...)"
    return f"{function} has no argument {argument}={advice}; it has {', '.join(known)}"
