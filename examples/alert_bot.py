"""Send each new entry of feeds to a webhook: at least once, despite any failure.

    pip install ".[feeds]"
    python examples/alert_bot.py                  # examples/feeds, and flaky_webhook.py
    python examples/alert_bot.py --webhook https://example.org/hook https://f.example/feed

It posts an entry as JSON; docs/start.md has the text that Discord wants. What was not
delivered stays pending; what was refused for good is held, until resolve() decides.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from flaky_webhook import flaky_webhook

from catalyst_seen import AsyncSeenStore, SeenError
from catalyst_seen.feeds import Poller, post

HERE = sorted(map(str, (Path(__file__).parent / "feeds").glob("*.xml")))


async def run(options: argparse.Namespace) -> None:
    """Poll once, or until interrupted, and send what is pending."""
    sent = 0
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        webhook = options.webhook or await stack.enter_async_context(flaky_webhook())
        store = await stack.enter_async_context(AsyncSeenStore(options.db))
        poller = await stack.enter_async_context(
            Poller(store, every=options.every or "15m", first=options.first)
        )
        once = options.every is None
        async for poll in poller.watch(options.sources or HERE, once=once):
            if poll.notice:
                print(f"{poll.feed.shown}: {poll.notice}", file=sys.stderr)
            async for claim in poll.store.pending(lease="1m"):
                posted = await post(session, webhook, claim)
                sent += bool(posted)
                if not posted:
                    problem = f"{posted.outcome}, {posted.error}"
                    print(f"{claim.key!r} is {problem}", file=sys.stderr)
    print(f"{sent} entries delivered", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send new entries to a webhook.")
    parser.add_argument("sources", nargs="*", help="URLs or files of feeds")
    parser.add_argument("--webhook", metavar="URL", help="where to POST entries")
    parser.add_argument("--every", metavar="TIME", help="poll again, such as 15m")
    parser.add_argument("--first", type=int, default=3, help="entries of a new feed")
    parser.add_argument("--db", default="data/alerts.sqlite", help="where to remember")
    try:
        asyncio.run(run(parser.parse_args()))
    except (SeenError, ValueError) as exc:
        sys.exit(f"alert_bot: {exc}")
