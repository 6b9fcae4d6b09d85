"""``once``: a command that runs once for a key."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from catalyst_seen import LeaseLostError, SeenError, StoreError, Verdict

from .._children import how, missing, start
from .._codes import Code, Failure
from .._commands import command as declare
from .._leases import confirmed, renewed
from .._output import local, printable
from .._running import signals_to
from .._settings import Settings, pass_settings, talk
from .._stores import opened
from .._values import NAMESPACE, TTL, duration, key, ttl_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalyst_seen import AsyncSeenStore, Claim

_AT_TERMINAL = {signal.SIGINT, signal.SIGQUIT}
_FURTHER = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def _words(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the command, in which every option is its own."""
    words = given[1:] if given[:1] == ("--",) else given
    if not words:
        raise click.UsageError("there is no command: once KEY -- CMD")
    if words[0].startswith("-"):
        raise click.UsageError(
            f"options come before KEY: once {words[0]} ... KEY -- CMD"
        )
    return words


@declare(
    "once",
    examples=[
        ("catalyst-seen once backup-$(date +%F) -- ./send.sh", "once a day, from cron"),
        (
            "catalyst-seen once --ttl never --wait 10m migration-7 -- ./send.sh",
            "a step of a deployment, on one of many machines",
        ),
    ],
    has_data=False,
    error_code=Code.OWN_ERROR,
    context_settings={"allow_interspersed_args": False},
)
@NAMESPACE
@TTL
@click.option(
    "--wait",
    type=duration,
    default=None,
    metavar="TIME",
    help="Wait so long for another process that has the key.",
)
@click.option(
    "--lease",
    type=duration,
    default="60s",
    metavar="TIME",
    help="After a kill -9, how long the key is kept from others; while CMD runs, it is"
    " renewed. Default: 60s.",
)
@click.argument("keyword", metavar="KEY", type=key)
@click.argument("words", metavar="-- CMD", nargs=-1, required=True, callback=_words)
@pass_settings
async def command(
    settings: Settings,
    *,
    namespace: str | None,
    ttl: float | str | None,
    wait: float | None,
    lease: float,
    keyword: str,
    words: tuple[str, ...],
) -> None:
    """Run a command, unless it has succeeded for this key before.

    KEY is marked when CMD ends with 0; if it fails, the next call runs it again. The
    exit code is that of CMD; 0 if it was done before; 75 if another process is at it,
    or the key is held; 126 or 127 if CMD cannot be executed; 125 on an error of the
    store, and if another process took the key meanwhile: CMD is never ended for that.
    """
    if problem := missing(words[0]):
        _not_started(settings, words[0], problem)
        return
    async with opened(settings, create=True, purges=True) as opened_store:
        store = opened_store.namespace(namespace or "")
        claim = await store.claim(
            keyword, lease=lease, ttl=ttl_of(ttl), wait=wait or 0.0
        )
        if claim:
            await _run(settings, claim, words, lease)
        else:
            await _refuse(settings, store, claim)


def _not_started(settings: Settings, word: str, problem: OSError) -> None:
    is_missing = isinstance(problem, FileNotFoundError)
    settings.code = Code.NOT_FOUND if is_missing else Code.NOT_EXECUTABLE
    talk(f"once: {word}: {problem.strerror}")


async def _refuse(settings: Settings, store: AsyncSeenStore, claim: Claim) -> None:
    """Say why the command does not run."""
    record = await store.get(claim.key)
    shown = printable(claim.key)
    if claim.verdict is Verdict.DUPLICATE:
        since = f" since {local(record.last_seen)}" if record else ""
        return settings.explain(f"{shown} is done{since}")
    settings.code = Code.LATER
    if claim.verdict is Verdict.HELD:
        return settings.say(
            f"{shown} is held: find out whether it was done, then catalyst-seen resolve"
        )
    since = f" since {local(record.last_seen)}" if record else ""
    until = f", until {local(claim.lease_until)}" if claim.lease_until else ""
    settings.say(
        f"another process has {shown}{since}{until} unless it renews its lease"
    )
    return None


async def _run(
    settings: Settings, claim: Claim, words: tuple[str, ...], lease: float
) -> None:
    try:
        code = await _code_of(claim, words, lease)
    except OSError as exc:
        await claim.release(error=f"{words[0]}: {exc.strerror}")
        return _not_started(settings, words[0], exc)
    except BaseException as exc:
        with suppress(SeenError):
            await claim.release(error=exc)
        raise
    settings.code = code if code >= 0 else 128 - code
    if code:
        return await _release(claim, f"{words[0]}: {how(code)}")
    try:
        await confirmed(claim)
    except (LeaseLostError, StoreError) as exc:
        raise Failure(
            f"the command ended with 0, but that is not marked: {exc}"
        ) from exc


async def _release(claim: Claim, error: str) -> None:
    """Release a claim; if that fails, the code of the command counts nevertheless."""
    try:
        await claim.release(error=error)
    except StoreError as exc:
        talk(f"the key is kept until its lease ends: {exc}")


async def _code_of(claim: Claim, words: tuple[str, ...], lease: float) -> int:
    """Run the command; return its return code."""
    process = await start(words)
    forward = _forwarding(process)
    loop = asyncio.get_running_loop()
    for number in _FURTHER:
        loop.add_signal_handler(number, forward, number)
    async with renewed(claim, lease, talk):
        with signals_to(forward):
            return await process.wait()


def _forwarding(
    process: asyncio.subprocess.Process,
) -> Callable[[signal.Signals], None]:
    def forward(number: signal.Signals) -> None:
        if number in _AT_TERMINAL and _is_in_foreground():
            return  # the terminal has sent it to the command as well
        with suppress(ProcessLookupError):
            process.send_signal(number)

    return forward


def _is_in_foreground() -> bool:
    """Does a Ctrl-C at the terminal go to this process and its children?"""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
