"""``serve``: metrics of a store and probes, over HTTP."""

from __future__ import annotations

from dataclasses import replace

import click

from .._commands import command as declare
from .._extras import extra_needed
from .._settings import Settings, pass_settings
from .._stores import of_command
from .._values import duration

_WITHIN, _SAMPLE = 5.0, 300.0
_LONGEST = 30.0  # seconds of a connection, besides the time of a probe


@declare(
    "serve",
    examples=[
        ("catalyst-seen serve", "on http://127.0.0.1:9464"),
        (
            "catalyst-seen serve --port 8080 --within 2s --sample-every 1m",
            "another port; a stricter probe, and fresher sizes",
        ),
    ],
    has_data=False,
)
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Where to listen. Default: 127.0.0.1, which no other machine reaches.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9464,
    metavar="N",
    help="The port; 0 chooses a free one, which is said. Default: 9464.",
)
@click.option(
    "--within",
    type=duration,
    metavar="TIME",
    help="How long the store may take to answer /readyz. Default: 5s.",
)
@click.option(
    "--sample-every",
    type=duration,
    metavar="TIME",
    help="How old the number of keys and the like may be: it is read from the whole"
    " table. Default: 5m.",
)
@pass_settings
async def command(
    settings: Settings,
    *,
    host: str,
    port: int,
    within: float | None,
    sample_every: float | None,
) -> None:
    """Serve metrics and probes of the store over HTTP.

    /metrics is for Prometheus: keys, claims, ages, sizes, and the totals of each
    source. It has what is in the database; what the store of another process counts in
    its memory, such as errors and latency, cannot be seen from here: that process
    exports it with catalyst_seen.metrics.

    /readyz answers 200 if the store answers a read and commits a real write, and 503
    with the reason if it does not; /livez answers 200 while this process runs.

    It waits for a store that is not there yet, or not any more, and never makes one.
    There is no encryption and no password: let other machines reach it by a proxy.
    """
    with extra_needed("serve"):
        from .._serving.listening import listening
        from .._serving.pages import application
        from .._serving.store import ServedStore
    config = replace(
        of_command(settings.store, create=False),
        purge_interval=None,
        on_error="raise",
        sample_interval=_SAMPLE if sample_every is None else sample_every,
    )
    patience = _WITHIN if within is None else within
    served = ServedStore(settings, config, patience)
    pages = application(served)
    async with (
        listening(pages, host, port, _LONGEST + patience) as addresses,
        served.kept(),
    ):
        for address in addresses:
            settings.say(f"serving {address.url}; Ctrl-C ends it")
            if not address.is_local:
                settings.say("other machines may reach it: it has no password")
        await served.keep()
