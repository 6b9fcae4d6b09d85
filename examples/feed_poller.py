"""Poll feeds and print each new entry once, also across restarts.

    pip install ".[feeds]"
    python examples/feed_poller.py                       # the feeds in examples/feeds
    python examples/feed_poller.py --every 15m https://example.org/feed.xml saved.xml

Of a feed that is new, the last three entries are printed; the others are only marked.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from catalyst_seen import AsyncSeenStore, SeenError
from catalyst_seen.feeds import Entry, Poller

HERE = sorted(map(str, (Path(__file__).parent / "feeds").glob("*.xml")))


async def run(options: argparse.Namespace) -> int:
    """Poll once, or until interrupted; return the exit code."""
    failed = polls = entries = 0
    async with (
        AsyncSeenStore(options.db) as store,
        Poller(store, every=options.every or "15m", first=options.first) as poller,
    ):
        once = options.every is None
        async for poll in poller.watch(options.sources or HERE, once=once):
            polls += 1
            failed += poll.error is not None
            if poll.notice:
                print(f"{poll.feed.shown}: {poll.notice}", file=sys.stderr)
            elif poll.seen is not None and poll.seen.baseline:
                marked = f"{poll.seen.baseline} entries are marked, not printed"
                print(f"{poll.feed.shown}: {marked}", file=sys.stderr)
            async for claim in poll.store.pending(lease=10):
                async with claim:
                    entry = Entry.from_json(claim.note or "{}")
                    print(entry.feed, entry.title, entry.link, sep=" | ", flush=True)
                    entries += 1
    print(f"{polls} polls, {failed} failed; {entries} new entries", file=sys.stderr)
    return int(failed == polls)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help="URLs or files of feeds")
    parser.add_argument("--every", metavar="TIME", help="poll again, such as 15m")
    parser.add_argument("--first", type=int, default=3, help="entries of a new feed")
    parser.add_argument("--db", help="where to remember (default: SEEN_DB_PATH)")
    try:
        sys.exit(asyncio.run(run(parser.parse_args())))
    except BrokenPipeError:  # what was not printed is pending
        sys.stderr.close()
    except (SeenError, ValueError) as exc:
        sys.exit(f"feed_poller: {exc}")
