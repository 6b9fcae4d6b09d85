"""What every command has: the store, and how much is said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass
class Settings:
    """What the options of every command say.

    Attributes:
        store: The path or URL of the store; ``None`` is that of the environment.
        is_json: Is data written as JSON Lines, also on a terminal?
        is_quiet: Is only an error written to standard error?
        is_verbose: Is more written there than a person usually wants?
        code: The exit code of the command, which sets it.
        error_code: The exit code of every error; ``None`` is that of each.
    """

    store: str | None = None
    is_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    code: int = 0
    error_code: int | None = None

    def say(self, text: str) -> None:
        """Write a line for a person to standard error, unless it is to be quiet."""
        if not self.is_quiet:
            talk(text)

    def explain(self, text: str) -> None:
        """Write a line that only ``--verbose`` shows."""
        if self.is_verbose:
            talk(text)


def talk(text: str) -> None:
    """Write a line to standard error; one that cannot be written is dropped."""
    try:
        click.echo(f"catalyst-seen: {text}", err=True)
    except OSError:
        return  # it has no reader any more


pass_settings = click.make_pass_decorator(Settings, ensure=True)
"""Pass the ``Settings`` to a command, as its first argument."""


def _remember(name: str, ctx: click.Context, _: click.Parameter, value: Any) -> None:
    """Keep an option that was given; the one nearest to the command counts."""
    settings = ctx.ensure_object(Settings)
    if value is not None and value is not False:
        setattr(settings, name, value)


def _option(attribute: str, *names: str, **declared: Any) -> Callable[[F], F]:
    return click.option(
        *names, expose_value=False, callback=partial(_remember, attribute), **declared
    )


_STORE = _option(
    "store",
    "--store",
    metavar="PATH|URL",
    help="Where the store is; by default SEEN_STORE_URL, SEEN_DB_PATH, or"
    " data/seen_ids.sqlite. A # and a name after a URL is the prefix on Redis, the"
    " schema on PostgreSQL.",
)
_JSON = _option(
    "is_json", "--json", is_flag=True, help="Write JSON Lines, as in a pipe."
)
_QUIET = _option("is_quiet", "-q", "--quiet", is_flag=True, help="Say only errors.")
_VERBOSE = _option("is_verbose", "-v", "--verbose", is_flag=True, help="Say more.")


def common_options(
    function: F,
    *,
    has_data: bool = True,
    has_volume: bool = True,
    has_store: bool = True,
) -> F:
    """Add the options of every command.

    Args:
        function: The callback of the command.
        has_data: Is ``--json`` one of them?
        has_volume: Are ``-q`` and ``-v``? ``filter`` has its own.
        has_store: Is ``--store``? ``move`` names two.
    """
    if has_volume:
        function = _QUIET(_VERBOSE(function))
    if has_data:
        function = _JSON(function)
    return _STORE(function) if has_store else function
