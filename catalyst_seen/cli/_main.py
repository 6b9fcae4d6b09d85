"""The command line: its options, its help, its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from typing import Any

import click

import catalyst_seen

from ._codes import Code, Signalled, failure_of
from ._commands import Commands
from ._settings import Settings, common_options, talk
from ._standard_files import drop_output, keep_closed_files_closed


def _print_version(context: click.Context, _: click.Parameter, wanted: Any) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"catalyst-seen {catalyst_seen.__version__}")
        context.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@common_options
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def tool() -> None:
    """Remember what was handled: in pipes, in cron jobs, for feeds.

    What is written to standard output is data; everything for a person goes to standard
    error. "catalyst-seen COMMAND --help" explains a command.
    """


def run(arguments: list[str]) -> int:
    """Run a command line; return the exit code."""
    keep_closed_files_closed()
    _log_to_stderr()
    settings = Settings()
    try:
        tool.main(
            arguments, prog_name="catalyst-seen", standalone_mode=False, obj=settings
        )
        sys.stdout.flush()
    except BaseException as exc:  # noqa: BLE001 - one line, and an exit code
        return _ended_by(exc, settings)
    return settings.code


def _ended_by(exc: BaseException, settings: Settings) -> int:
    """Return the exit code of what has ended a command, and say what went wrong."""
    if isinstance(exc, click.exceptions.Exit):
        return exc.exit_code
    if isinstance(exc, BrokenPipeError):  # the reader has ended, as ``head`` does
        exc = Signalled(signal.SIGPIPE)
    if isinstance(exc, Signalled):
        drop_output()
        return exc.code
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        click.echo(exc.message, err=True)
        return Code.USAGE
    if isinstance(exc, KeyboardInterrupt | click.Abort):
        return Signalled(signal.SIGINT).code
    if not isinstance(exc, Exception):
        raise exc
    if os.environ.get("CATALYST_SEEN_DEBUG"):
        traceback.print_exception(exc)
    drop_output()
    failure = failure_of(exc)
    talk(failure.message)
    return settings.error_code or failure.code


def _log_to_stderr() -> None:
    """Show the events of stores as lines of this tool."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("catalyst-seen: %(message)s"))
    logger = logging.getLogger("catalyst_seen")
    logger.handlers[:] = [handler]
    logger.propagate = False
