"""The settings in the environment variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ._errors import ConfigurationError
from ._logging import log
from ._targets import closest, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_SYNCHRONOUS = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}
"""SQLite's numbers for its modes, which the old store accepted."""


def env_flag(variable: str, *, default: bool) -> bool:
    """Read a boolean variable; unset or empty is the default.

    Raises:
        ConfigurationError: The value is neither on nor off.
    """
    text = os.environ.get(variable, "").strip()
    try:
        return _flag(text) if text else default
    except ValueError as exc:
        raise bad_variable(variable, text, exc) from exc


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield variable, setting and text of each variable that has a value."""
    for variable, (setting, _) in VARIABLES.items():
        text = os.environ.get(variable, "").strip()
        if text:
            yield variable, setting, text


def bad_variable(variable: str, text: str, exc: ValueError) -> ConfigurationError:
    """Return the error of a variable: its name, its text, and what is wrong with it."""
    shown = redacted(text) if "@" in text else text
    return ConfigurationError(variable, f"{shown!r}: {exc}")


def warn_of_ignored() -> None:
    """Log a path beside a URL, and each ``SEEN_`` variable that nothing reads.

    The one may be left from a move, the other a typing error.
    """
    given = {variable: text for variable, _, text in variables()}
    if "SEEN_STORE_URL" in given and "SEEN_DB_PATH" in given:
        log(
            "warning",
            "variable_ignored",
            variable="SEEN_DB_PATH",
            value=given["SEEN_DB_PATH"],
            because="SEEN_STORE_URL takes precedence",
        )
    for variable in sorted(os.environ):
        if variable.startswith("SEEN_") and variable not in VARIABLES:
            log(
                "warning",
                "unknown_variable",
                variable=variable,
                did_you_mean=closest(variable, VARIABLES),
            )


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"must be one of {', '.join(_FLAGS)}") from None


def _synchronous(text: str) -> str:
    return _SYNCHRONOUS.get(text, text.upper())


def _read_number(read: Callable[[str], object], wanted: str) -> Callable[[str], object]:
    def reader(text: str) -> object:
        try:
            return read(text)
        except ValueError:
            raise ValueError(f"must be {wanted}") from None

    return reader


VARIABLES: dict[str, tuple[str, Callable[[str], object]]] = {
    "SEEN_DB_PATH": ("path", str),
    "SEEN_TTL_DAYS": ("ttl_days", _read_number(float, "a number of days, like 7")),
    "SEEN_STORE_URL": ("url", str),
    "SEEN_STORE_CACHE_ENABLED": ("cache_enabled", _flag),
    "SEEN_STORE_CACHE_SIZE": (
        "recent_keys",
        _read_number(int, "a whole number of keys, like 1000"),
    ),
    "SQLITE_WAL_MODE": ("wal_mode", _flag),
    "SQLITE_CACHE_SIZE": (
        "cache_size",
        _read_number(int, "a whole number of pages, like 10000"),
    ),
    "SQLITE_SYNCHRONOUS": ("synchronous", _synchronous),
}
"""Setting and reader of each variable."""
