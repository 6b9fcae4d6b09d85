"""``import``: keys from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from catalyst_seen import AsyncSeenStore

from .._codes import Failure
from .._commands import command as declare
from .._importing.checking import Terms
from .._importing.entries import Fields
from .._importing.guess import FORMS, source_of
from .._importing.inputs import Input, named, open_input
from .._importing.job import Job
from .._settings import Settings, pass_settings
from .._stores import configuration, is_file_of
from .._values import DRY_RUN, NAMESPACE, TTL, ttl_of

if TYPE_CHECKING:
    from catalyst_seen import SeenStoreConfig


@declare(
    "import",
    examples=[
        ("catalyst-seen import ids.txt", "take each line of a text as a key"),
        ("catalyst-seen import dates.json --ttl 90d", "take ids with their dates"),
        (
            "catalyst-seen import ids.csv --key id --date date --from-now",
            "take a column, and keep every key for a whole TTL from now",
        ),
        (
            "catalyst-seen import events.jsonl --key /user/name -n users",
            "take a field of JSON, into a namespace",
        ),
        ("catalyst-seen import old.sqlite", "take a file of the old store"),
        (
            "redis-cli --raw SMEMBERS sent | catalyst-seen import - --dry-run",
            "show what would become of a set in Redis",
        ),
    ],
    has_data=False,
)
@click.option(
    "--as",
    "form",
    type=click.Choice(FORMS),
    help="What the input is. Default: guessed from its content.",
)
@click.option(
    "--key",
    metavar="PATH|COLUMN",
    help="Where the keys are: a path in JSON, such as /items/id; or a column.",
)
@click.option(
    "--date",
    metavar="PATH|COLUMN",
    help="Where the dates are. A key without one counts from now.",
)
@click.option("--note", metavar="PATH|COLUMN", help="Where the notes are.")
@click.option("--table", metavar="NAME", help="The table of a SQLite file.")
@click.option("--column", metavar="NAME", help="The same as --key, for a table.")
@NAMESPACE
@TTL
@click.option(
    "--from-now", is_flag=True, help="Count the TTL from now, and not from the dates."
)
@DRY_RUN
@click.argument("file", metavar="FILE|-")
@pass_settings
async def command(  # noqa: PLR0917 - click passes the options by name
    settings: Settings,
    file: str,
    form: str | None,
    key: str | None,
    date: str | None,
    note: str | None,
    table: str | None,
    column: str | None,
    namespace: str | None,
    ttl: float | str | None,
    from_now: bool,  # noqa: FBT001 - as click passes it
    dry_run: bool,  # noqa: FBT001
) -> None:
    """Mark the keys of a text, JSON, CSV, a SQLite table or an export.

    All is checked before anything is written; a bad key ends it with exit code 2. Dates
    are kept: a key whose TTL is over by its date is left out and counted; if all are,
    the exit code is 1. A key that is seen already keeps the later date and the later
    expiry, so that an import may be repeated.
    """
    if key is not None and column is not None:
        raise click.UsageError("--column is the same as --key: give one of them")
    fields = Fields(key if key is not None else column, date, note, table)
    config = configuration(settings.store, create=True)
    terms = _terms(config, namespace, ttl, is_from_now=from_now)
    read = await open_input(file)
    with read.file, named(read.name):
        if not read.size:
            settings.say(f"{read.name} is empty: nothing is imported")
            return
        _refuse_store(config, read)
        source = source_of(read, form, fields)
        await Job(settings, read, source, terms, dry_run).run()


def _terms(
    config: SeenStoreConfig,
    namespace: str | None,
    ttl: float | str | None,
    *,
    is_from_now: bool,
) -> Terms:
    chosen = ttl_of(ttl)
    is_own = not isinstance(chosen, type(...))
    lasting = config.ttl if chosen is ... else chosen
    return Terms(namespace, lasting, is_own, is_from_now)


def _refuse_store(config: SeenStoreConfig, read: Input) -> None:
    """Raise ``Failure`` if the input is the file of the store."""
    if read.path is not None and is_file_of(AsyncSeenStore(config), read.path):
        raise Failure("is the store itself: name another one by --store")
