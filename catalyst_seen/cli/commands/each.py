"""``each``: a command for each line of standard input that is new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from .._children import missing
from .._codes import Code, Failure
from .._commands import command as declare
from .._lines.jobs import Job, Jobs
from .._lines.keys import LineKeys, Part
from .._lines.options import IGNORE_CASE, KEY, TRIM
from .._lines.reading import handle_lines
from .._outlet import Outlet
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import NAMESPACE, TTL, duration, ttl_of

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore


@declare(
    "each",
    examples=[
        ("catalyst-seen each -- ./send.sh {} < urls.txt", "send each URL once"),
        (
            "catalyst-seen each -j 4 --key /id --stdin -- ./send.sh < events.jsonl",
            "four at once; each event is the input of its command",
        ),
    ],
    has_data=False,
    context_settings={"allow_interspersed_args": False},
)
@NAMESPACE
@TTL
@KEY
@IGNORE_CASE
@TRIM
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1000),
    default=1,
    metavar="N",
    help="Run up to so many commands at once.",
)
@click.option(
    "--stdin",
    "takes_stdin",
    is_flag=True,
    help="The line is the input of the command, which is empty otherwise.",
)
@click.option(
    "--timeout",
    type=duration,
    metavar="TIME",
    help="End a command that runs for longer: it has failed.",
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Run a command that fails again, after 1s, 2s, 4s and so on.",
)
@click.option(
    "--later",
    type=duration,
    default="5m",
    metavar="TIME",
    help="When a line may run again whose command ended with 75. Default: 5m.",
)
@click.option(
    "--lease",
    type=duration,
    default="60s",
    metavar="TIME",
    help="After a kill -9, how long its lines are kept from others. Default: 60s.",
)
@click.argument("words", metavar="-- CMD", nargs=-1, required=True)
@pass_settings
async def command(
    settings: Settings,
    *,
    namespace: str | None,
    ttl: float | str | None,
    part_of: Part | None,
    ignore_case: bool,
    trim: bool,
    jobs: int,
    words: tuple[str, ...],
    lease: float,
    takes_stdin: bool,
    timeout: float | None,
    retries: int,
    later: float,
) -> None:
    """Run a command for each line of standard input that is new.

    {} in CMD stands for the line; without it, the line is its last word. No shell is
    involved. A line is marked when its command has ended with 0; the next run takes
    those that failed, and one that ended with 75 after --later. If this process ends,
    its commands are ended. Exit code 4: some lines failed.
    """
    if "{}" not in words[0] and (problem := missing(words[0])):
        raise Failure(f"each: {words[0]}: {problem.strerror}")
    job = Job(words, takes_stdin, timeout, retries, later, lease=lease, ttl=ttl_of(ttl))
    keys = LineKeys(part_of, ignores_case=ignore_case, trims=trim)
    async with opened(settings, create=True, purges=True) as store:
        view = store.namespace(namespace or "")
        try:
            await _run(settings, view, job, jobs, keys)
        except BaseExceptionGroup as group:
            raise _first(group) from None


async def _run(
    settings: Settings, store: AsyncSeenStore, job: Job, at_once: int, keys: LineKeys
) -> None:
    async with asyncio.TaskGroup() as group:
        jobs = Jobs(store, job, Outlet(), at_once, group)
        await handle_lines(settings, keys, jobs, last=jobs.take_and_wait)
    if jobs.failed:
        settings.code = Code.SOME_FAILED


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what ended the jobs: the others were cancelled."""
    exc: BaseException = group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
