"""What is imported when: nothing that is not needed, and nothing in the event loop.

An import takes milliseconds in which no other task runs. So SQLite's driver is imported
with the package, a server's where its store is constructed, and the first calls of an
open store find everything there.
"""

from __future__ import annotations

import json

import catalyst_seen

from ..faults.harness.places import settings_of
from ..support.scripts import Run
from ..support.targets import Target


def test_package_alone(run_script: Run) -> None:
    """The package imports aiosqlite only; the rest waits for its first use.

    anyio waits for a blocking store, structlog for an event.
    """
    script = """
        import sys
        before = set(sys.modules)
        import catalyst_seen
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - sys.stdlib_module_names))
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("['aiosqlite', 'catalyst_seen']\n", "")


def test_version_on_demand(run_script: Run) -> None:
    """The version is read when it is asked for; no other name is.

    What reads it is imported then, which takes as long as the package itself.
    """
    script = """
        import sys
        import catalyst_seen
        assert "importlib.metadata" not in sys.modules
        print(hasattr(catalyst_seen, "__verison__"), catalyst_seen.__version__)
        assert "importlib.metadata" in sys.modules
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == (f"False {catalyst_seen.__version__}\n", "")


def test_version_of_a_copy_without_metadata(run_script: Run) -> None:
    """A checkout that is not installed says so, in the place of a version.

    It is not an error: an agent, a metric and ``--version`` name it.
    """
    script = """
        import sys
        from importlib.metadata import MetadataPathFinder

        def nothing(context):
            return []

        MetadataPathFinder.find_distributions = nothing
        import catalyst_seen
        print(catalyst_seen.__version__)
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("0+unknown\n", "")


def test_nothing_in_the_loop(run_script: Run, target: Target) -> None:
    """A constructed store imports nothing: neither its open nor its first calls.

    On SQLite and in memory its construction imports nothing either.

    Codecs are found by their name, so a first use imports them; they are short.
    """
    script = """
        import asyncio, json, sys
        from catalyst_seen import AsyncSeenStore, SeenStoreConfig

        def target(settings):
            if settings["url"] != "reference://":
                return SeenStoreConfig(**settings)
            from catalyst_seen.backends.memory import MemoryBackend
            return MemoryBackend()

        async def main(config):
            before = set(sys.modules)
            store = AsyncSeenStore(config)
            if is_server:
                before = set(sys.modules)
            async with store:
                await store.mark_many(["a", "b"])
                await store.check_and_mark("c")
                await store.filter_new(["a", "d"])
                async with store.claim("e") as claim:
                    await claim.renew()
                for claim in await store.claim_many(["f", "g"]):
                    await claim.release()
                await store.is_seen("a")
                await store.forget("a")
                await store.resolve("f", handled=True)
                await store.held()
                await store.count()
                await store.stats()
                await store.purge_expired()
                await store.cleanup_old_entries()
            new = sorted(set(sys.modules) - before)
            print([name for name in new if not name.startswith("encodings.")])

        is_server = sys.argv[2] == "True"
        asyncio.run(main(target(json.loads(sys.argv[1]))))
    """
    settings = json.dumps(settings_of(target))
    done = run_script(script, settings, str(target.is_server))
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_older_aiosqlite_is_named(run_script: Run) -> None:
    """A program that is pinned to aiosqlite 0.21 gets the version and the remedy."""
    script = """
        import sys, types
        older = sys.modules["aiosqlite"] = types.ModuleType("aiosqlite")
        older.Connection = type("Connection", (), {})
        older.__version__ = "0.21.0"
        try:
            import catalyst_seen
        except ImportError as exc:
            print(exc)
    """
    done = run_script(script)
    assert "needs aiosqlite 0.22.1 or newer, and 0.21.0 is installed" in done.stdout
    assert "pip install 'aiosqlite>=0.22.1'" in done.stdout
