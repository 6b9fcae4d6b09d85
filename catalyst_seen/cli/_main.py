"""The command line: its options, its help, its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback

import click

import catalyst_seen

from ._codes import Signalled, failure_of
from ._commands import Commands
from ._settings import Settings, common_options, talk


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@common_options
@click.version_option(catalyst_seen.__version__, message="%(prog)s %(version)s")
def tool() -> None:
    r"""Remember what was handled: in pipes, in cron jobs, for feeds.

    \b
    Examples:
      catalyst-seen watch --first 3 https://example.org/feed.xml
          print the last three entries, then new ones as they come
      tail -F app.log | grep ERROR | catalyst-seen filter
          pass only lines that never came before
      catalyst-seen once backup-$(date +%F) -- ./backup.sh
          run a command once, however often this line runs

    \b
    Exit codes: 0 done; 1 the answer is no; 2 wrong usage; 3 the store is not there or
    fails; 4 some feeds or lines failed; 128 + n on signal n. "once" has the codes of
    its command.
    """


def run(arguments: list[str]) -> int:
    """Run a command line; return the exit code."""
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
    if isinstance(exc, Signalled) and exc.number is not signal.SIGPIPE:
        return exc.code
    if isinstance(exc, KeyboardInterrupt | click.Abort):
        return Signalled(signal.SIGINT).code
    if isinstance(exc, BrokenPipeError | Signalled):
        return _closed_pipe()
    if not isinstance(exc, Exception):
        raise exc
    if os.environ.get("CATALYST_SEEN_DEBUG"):
        traceback.print_exception(exc)
    failure = failure_of(exc)
    talk(failure.message)
    return settings.error_code or failure.code


def _closed_pipe() -> int:
    """End quietly when the reader of the output has ended, as ``head`` does."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())  # the flush at the exit finds no error
    return Signalled(signal.SIGPIPE).code


def _log_to_stderr() -> None:
    """Show the events of stores as lines of this tool."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("catalyst-seen: %(message)s"))
    logger = logging.getLogger("catalyst_seen")
    logger.handlers[:] = [handler]
    logger.propagate = False
