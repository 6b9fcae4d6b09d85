"""``seen``: whether a key is seen, as an exit code."""

from __future__ import annotations

import click

from .._codes import Code
from .._commands import command as declare
from .._settings import Settings, pass_settings
from .._stores import opened
from .._values import NAMESPACE, key


@declare(
    "seen",
    examples=[
        ("catalyst-seen seen order-17 && echo handled", "use the answer in a script"),
        ("catalyst-seen seen -n news https://example.org/1", "look in a namespace"),
    ],
    has_data=False,
)
@NAMESPACE
@click.argument("keyword", metavar="KEY", type=key)
@pass_settings
async def command(settings: Settings, namespace: str | None, keyword: str) -> None:
    """Say by the exit code whether a key is seen: 0 if it is, 1 if not.

    A key that is claimed, released, pending or held is not seen; why says more. For
    many keys, filter passes those that are not seen.
    """
    async with opened(settings) as store:
        is_seen = await store.is_seen(keyword, namespace=namespace or "")
    settings.say("seen" if is_seen else "not seen")
    settings.code = Code.DONE if is_seen else Code.NO
