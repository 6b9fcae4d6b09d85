"""Send each new entry of a feed to a webhook: at least once, despite any failure.

    pip install ".[feeds]"
    python examples/alert_bot.py                  # examples/feeds; a webhook that fails
    python examples/alert_bot.py --webhook https://h.example https://f.example/feed.xml
    python examples/alert_bot.py --replay saved/  # snapshots of a feed, in time order

Each entry is claimed, sent, and confirmed when the webhook has accepted it. If the
webhook refuses the entry, or does not respond in time, the claim is released for the
next attempt. The claims of a killed bot end with their leases; the next run acquires
them.

Without a response in time, it is unknown whether the alert was delivered. It is sent
again with the same ``Idempotency-Key``, by which a webhook can recognise a repeat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import aiohttp
from aiohttp import web
from feed_poller import (
    Entry,
    FeedError,
    digest,
    end_in_order_when_terminated,
    is_url,
    namespace_of,
    parse,
    positive,
    positive_whole,
)
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    SeenError,
    StoreError,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


FEED_TIMEOUT = aiohttp.ClientTimeout(total=30)
MAX_PAUSE = 10.0  # seconds between two attempts


class WebhookError(Exception):
    """An alert that the webhook did not accept, or did not acknowledge in time."""


@dataclass
class Summary:
    """The counters of a run."""

    polls: int = 0
    unusable: int = 0
    delivered: int = 0
    retried: int = 0
    refused: int = 0
    unanswered: int = 0
    failed: int = 0
    elsewhere: int = 0

    def __str__(self) -> str:
        return (
            f"polls {self.polls} (unusable {self.unusable}), entries delivered"
            f" {self.delivered} (retried {self.retried}), attempts refused"
            f" {self.refused}, unanswered {self.unanswered}; not delivered"
            f" {self.failed}, in other hands {self.elsewhere}"
        )


@dataclass
class AlertBot:
    """Claims the entries of a feed, and sends them to a webhook."""

    store: AsyncSeenStore
    session: aiohttp.ClientSession
    webhook: str
    report: Callable[[str], None]
    timeout: float
    attempts: int
    pause: float
    concurrency: int
    summary: Summary = field(default_factory=Summary)

    async def poll(self, source: str, namespace: str) -> None:
        """Read a source once, and send its new entries."""
        self.summary.polls += 1
        try:
            entries = await self.read(source)
        except FeedError as exc:
            self.summary.unusable += 1
            self.report(f"{source}: {exc}")
            return
        fresh = await self.store.filter_new(
            entries, key=lambda entry: entry.key, namespace=namespace
        )
        # A listed entry must not expire, or it would be new again.
        await self.store.refresh((e.key for e in entries), namespace=namespace)
        slots = asyncio.Semaphore(self.concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for entry in fresh:
                    group.create_task(self.alert(entry, namespace, slots))
        except ExceptionGroup as failures:  # the store failed, not the webhook
            raise failures.exceptions[0] from None

    async def read(self, source: str) -> list[Entry]:
        """Return the entries of a URL or a file."""
        try:
            if is_url(source):
                async with self.session.get(source) as response:
                    response.raise_for_status()
                    body = await response.read()
            else:
                body = await asyncio.to_thread(Path(source).read_bytes)
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as exc:
            raise FeedError(f"{type(exc).__name__} {exc}".strip()) from exc
        return await asyncio.to_thread(parse, body, source, {})

    async def alert(
        self, entry: Entry, namespace: str, slots: asyncio.Semaphore
    ) -> None:
        """Send one entry, with at most ``attempts`` attempts."""
        problem: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                pause = min(self.pause * 2 ** (attempt - 1), MAX_PAUSE)
                await asyncio.sleep(random.uniform(0.5, 1) * pause)
            try:
                async with slots:
                    await self.attempt(entry, namespace)
            except WebhookError as exc:
                problem = exc
            except LeaseLostError as exc:  # too slow: another worker has claimed it
                self.summary.elsewhere += 1
                self.report(str(exc))
                return
            else:
                return
        self.summary.failed += 1  # the claim is released: the next poll retries
        name = entry.title or entry.key
        self.report(f"{name}: {problem}, after {self.attempts} attempts")

    async def attempt(self, entry: Entry, namespace: str) -> None:
        """Claim an entry, send it and confirm; a failure releases the claim."""
        lease = 3 * self.timeout  # longer than sending can take
        # A killed owner cannot release its claim: wait until the lease ends.
        claiming = self.store.claim(
            entry.key, lease=lease, wait=lease, namespace=namespace
        )
        async with claiming as claim:
            if claim:
                await self.send(entry)
        if claim:
            self.summary.delivered += 1
            self.summary.retried += claim.attempt > 1
        elif claim.verdict is not Verdict.DUPLICATE:  # only a duplicate is handled
            self.summary.elsewhere += 1

    async def send(self, entry: Entry) -> None:
        """Send an entry to the webhook; return when the webhook has accepted it."""
        name = {"Idempotency-Key": digest(entry.key)}
        try:
            async with self.session.post(
                self.webhook,
                json=asdict(entry),
                headers=name,
                timeout=aiohttp.ClientTimeout(total=self.timeout),
            ) as response:
                response.raise_for_status()
        except (aiohttp.ClientConnectorError, aiohttp.ClientResponseError) as exc:
            self.summary.refused += 1
            raise WebhookError(f"not delivered: {exc}") from exc
        except (aiohttp.ClientError, TimeoutError) as exc:
            self.summary.unanswered += 1
            raise WebhookError("no answer: delivered or not, nobody knows") from exc


@dataclass
class FlakyWebhook:
    """A webhook on this machine that fails at random, and sometimes responds late.

    It logs each accepted entry as a line of JSON before it responds.
    """

    log: TextIO | None
    failures: float
    late: float
    delay: float
    taken: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    async def start(self, stack: AsyncExitStack) -> str:
        """Serve on a free port until the stack ends; return the URL."""
        application = web.Application()
        application.router.add_post("/", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}/"

    async def answer(self, request: web.Request) -> web.Response:
        """Accept or refuse an alert."""
        if random.random() < self.failures:
            self.refused += 1
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        entry = await request.json()
        self.taken[entry["key"]] += 1
        print(json.dumps(entry), file=self.log, flush=True)
        if random.random() < self.late:
            await asyncio.sleep(self.delay)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def __str__(self) -> str:
        again = self.taken.total() - len(self.taken)
        return (
            f"webhook: requests {self.taken.total() + self.refused}, refused"
            f" {self.refused}, entries taken {len(self.taken)}, taken again {again}"
        )


def fraction(text: str) -> float:
    """Read a share between 0 and 1 from the command line."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text!r}")
    return share


def http_url(text: str) -> str:
    """Read an address from the command line."""
    if not is_url(text):
        raise argparse.ArgumentTypeError(f"must begin with http, not {text!r}")
    return text


def folder_of_feeds(text: str) -> Path:
    """Read a folder with feed files to replay from the command line."""
    folder = Path(text)
    if not any(folder.glob("*.xml")):
        raise argparse.ArgumentTypeError(f"no *.xml file is in {text!r}")
    return folder


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Send each new entry of a feed to a webhook: at least once, also if"
        " the webhook fails or the bot is killed.",
        epilog="Example: alert_bot.py --every 300 --webhook https://example.org/hook"
        " https://example.org/feed.xml. Ends with 0; with 1 if something could not be"
        " read or delivered (run it again); with 2 if the store failed.",
    )
    option = parser.add_argument
    option(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="URL or file of a feed; without any, the ones in examples/feeds",
    )
    option(
        "--replay",
        type=folder_of_feeds,
        metavar="FOLDER",
        help="poll its *.xml files instead, in the order of their names, as one feed",
    )
    option(
        "--webhook",
        type=http_url,
        metavar="URL",
        help="where to POST entries as JSON; without it, a webhook of our own that"
        " fails at random",
    )
    option(
        "--failures",
        type=fraction,
        default=0.2,
        metavar="SHARE",
        help="how often our own webhook fails (default: 0.2)",
    )
    option(
        "--late",
        type=fraction,
        default=0.02,
        metavar="SHARE",
        help="how often it answers after the timeout (default: 0.02)",
    )
    option(
        "--log",
        type=Path,
        metavar="FILE",
        help="where it notes what it takes, as JSON lines (default: standard output)",
    )
    option(
        "--db",
        metavar="PATH",
        default="data/alerts.sqlite",
        help="where to remember (default: data/alerts.sqlite)",
    )
    option(
        "--ttl-days",
        type=positive,
        default=30.0,
        metavar="DAYS",
        help="forget an entry so long after its feed stopped listing it (default: 30)",
    )
    option(
        "--timeout",
        type=positive,
        default=5.0,
        metavar="SECONDS",
        help="wait so long for the webhook; a lease is three times that (default: 5)",
    )
    option(
        "--attempts",
        type=positive_whole,
        default=8,
        metavar="N",
        help="tries at an entry in one poll (default: 8)",
    )
    option(
        "--pause",
        type=positive,
        default=0.2,
        metavar="SECONDS",
        help="before the second try, twice that before the third (default: 0.2)",
    )
    option(
        "--concurrency",
        type=positive_whole,
        default=8,
        metavar="N",
        help="entries sent at the same time (default: 8)",
    )
    option(
        "--every",
        type=positive,
        metavar="SECONDS",
        help="poll again after so many seconds, until interrupted (default: once)",
    )
    return parser.parse_args(argv)


def polls(options: argparse.Namespace) -> list[tuple[str, str]]:
    """List the sources of one round, each with its namespace."""
    if options.replay:
        namespace = namespace_of(str(options.replay))
        files = sorted(options.replay.glob("*.xml"))
        return [(str(path), namespace) for path in files]
    here = Path(__file__).parent / "feeds"
    sources = options.sources or sorted(str(path) for path in here.glob("*.xml"))
    return [(source, namespace_of(source)) for source in sources]


async def run(options: argparse.Namespace) -> int:
    """Poll once, or until interrupted; return the exit code."""
    end_in_order_when_terminated()
    console = Console(stderr=True, soft_wrap=True)
    own = None
    async with AsyncExitStack() as stack:
        webhook = options.webhook
        if webhook is None:
            log = stack.enter_context(options.log.open("a")) if options.log else None
            own = FlakyWebhook(log, options.failures, options.late, 2 * options.timeout)
            webhook = await own.start(stack)
        store = await stack.enter_async_context(
            AsyncSeenStore(options.db, ttl=timedelta(days=options.ttl_days))
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=FEED_TIMEOUT)
        )
        progress = stack.enter_context(progress_on(console))
        bot = AlertBot(
            store,
            session,
            webhook,
            report=lambda text: progress.console.print(text, style="dim", markup=False),
            timeout=options.timeout,
            attempts=options.attempts,
            pause=options.pause,
            concurrency=options.concurrency,
        )
        while True:
            try:
                await poll_all(bot, polls(options), progress)
                console.print(str(bot.summary), style="bold", highlight=False)
            except StoreError as exc:
                if options.every is None:
                    raise
                console.print(f"{exc}; the next round tries again", markup=False)
            if options.every is None:
                break
            await asyncio.sleep(options.every)
    if own:
        console.print(str(own), style="bold", highlight=False)
    if bot.summary.delivered == 0 and not options.every:
        console.print(f"what is delivered is remembered in {store.location}")
    left = bot.summary.failed + bot.summary.elsewhere
    return int(left > 0 or bot.summary.unusable == bot.summary.polls)


async def poll_all(
    bot: AlertBot, sources: Sequence[tuple[str, str]], progress: Progress
) -> None:
    """Poll sources one after the other, and show the progress."""
    bot.summary = Summary()
    task = progress.add_task("", total=len(sources), now="")
    try:
        for source, namespace in sources:
            await bot.poll(source, namespace)
            now = f"{bot.summary.delivered} delivered"
            progress.update(task, advance=1, now=now)
    finally:
        progress.remove_task(task)


def progress_on(console: Console) -> Progress:
    """Create a progress line for a terminal."""
    return Progress(
        TextColumn("polling"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    try:
        return asyncio.run(run(arguments(argv)))
    except (SeenError, ValueError, OSError) as exc:
        print(f"alert_bot: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
