"""Scripts that end without closing their store."""

from __future__ import annotations

LEAKS = {
    "global": """
        store = AsyncSeenStore(path)
        async def main():
            await store.open()
            await store.mark_seen("k")
        asyncio.run(main())
    """,
    "local": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await store.mark_seen("k")
        asyncio.run(main())
    """,
    "after is_seen": """
        store = AsyncSeenStore(path)
        async def main():
            await store.open()
            await store.mark_seen("k")
            await store.is_seen("k")
        asyncio.run(main())
    """,
    "exception": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await store.mark_seen("k")
            raise RuntimeError("on purpose")
        asyncio.run(main())
    """,
    "sys.exit": """
        async def main():
            store = AsyncSeenStore(path)
            await store.open()
            await store.mark_seen("k")
            sys.exit(3)
        asyncio.run(main())
    """,
    "call running": """
        import sqlite3
        store = AsyncSeenStore(path)
        async def main():
            await store.open()
            await store.mark_seen("k")
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            asyncio.create_task(store.mark_seen("never"))
            await asyncio.sleep(0.1)
            return blocker
        blocker = asyncio.run(main())
    """,
    "loop closed under it": """
        loop = asyncio.new_event_loop()
        store = AsyncSeenStore(path)
        loop.run_until_complete(store.open())
        loop.run_until_complete(store.mark_seen("k"))
        task = loop.create_task(store.mark_many(map(str, range(20_000))))
        loop.run_until_complete(asyncio.sleep(0.3))
        loop.close()
        task._log_destroy_pending = False
    """,
    "blocking global": """
        store = SeenStore(path)
        store.mark_seen("k")
    """,
    "blocking local": """
        def main():
            store = SeenStore(path)
            store.mark_seen("k")
        main()
    """,
    "blocking exception": """
        store = SeenStore(path)
        store.mark_seen("k")
        raise RuntimeError("on purpose")
    """,
    "blocking in a cycle": """
        store = SeenStore(path)
        store.mark_seen("k")
        store.me = store
        del store
    """,
    "blocking daemon thread": """
        import threading, time
        marked = threading.Event()
        def main():
            store = SeenStore(path)
            store.mark_seen("k")
            marked.set()
            time.sleep(60)
        threading.Thread(target=main, daemon=True).start()
        marked.wait(60)
        time.sleep(0.1)
    """,
}

CODES = {"exception": 1, "sys.exit": 3, "blocking exception": 1}
