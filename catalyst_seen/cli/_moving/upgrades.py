"""The file of an earlier release, which a command that opens it would upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalyst_seen.transfer import is_of_earlier_release

from .._codes import Code, Failure
from .._stores import of_command

if TYPE_CHECKING:
    from .._settings import Settings


async def check_upgrade(
    settings: Settings, source: str, *, is_stopped: bool, dry_run: bool
) -> None:
    """Refuse a file that would be upgraded while programs may use it.

    Raises:
        Failure: It is of an earlier release, whose programs cannot use it afterwards.
    """
    if not await is_of_earlier_release(of_command(source, create=False)):
        return
    if dry_run:
        raise Failure(
            f"{source} is of an earlier release, and can only be read once it is"
            " upgraded: use --dry-run on a copy that was opened, such as by"
            " `catalyst-seen --store COPY stats`"
        )
    if not is_stopped:
        raise Failure(
            f"{source} is of an earlier release, and will be upgraded in its place:"
            " stop every program that uses it, then repeat this command with --stopped",
            Code.NO,
        )
    settings.say(f"{source} is of an earlier release: it is upgraded in its place")
