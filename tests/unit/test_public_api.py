"""What users may import, and what importing does not do."""

from __future__ import annotations

import inspect
import pickle
import re
import types
from pathlib import Path

import pytest

import catalyst_seen
from catalyst_seen import (
    ConfigurationError,
    InvalidKeyError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    SeenError,
    StoreClosedError,
    StoreError,
    StoreUnavailableError,
    Verdict,
    _errors,
)

from ..support.scripts import Run

ERRORS = [
    ConfigurationError("setting", "problem"),
    InvalidKeyError("key", "problem"),
    LeaseLostError("key", "namespace", 2, "problem"),
    StoreClosedError("problem"),
    SchemaError("location", "cause", "advice"),
    StoreUnavailableError("location", "cause", "advice"),
    OutcomeUnknownError("location", "cause", "advice"),
]


STANDARD = {
    "Any", "AsyncIterator", "Awaitable", "BaseException", "Callable", "Coroutine",
    "EllipsisType", "Iterable", "Iterator", "Mapping", "None", "Path", "PathLike",
    "Self", "Sequence", "TracebackType", "Unpack",
}  # fmt: skip


def test_all_names_every_public_object() -> None:
    """__all__ is sorted and names every public object, nothing else."""
    public = {
        name
        for name, member in vars(catalyst_seen).items()
        if not name.startswith("_")
        and not isinstance(member, types.ModuleType)
        and name not in {"annotations", "TYPE_CHECKING"}
    }
    assert set(catalyst_seen.__all__) == public | {"__version__"}
    assert sorted(catalyst_seen.__all__) == catalyst_seen.__all__


ALIASES = {
    "CallKind",
    "Clock",
    "Duration",
    "First",
    "Note",
    "OnAbandoned",
    "OnError",
    "RecordState",
    "SqliteLibrary",
    "Synchronous",
}
"""Types that are no classes: the text after each is in the reference alone."""


@pytest.mark.parametrize(
    "name", sorted({*catalyst_seen.__all__} - ALIASES - {"__version__"})
)
def test_public_objects_have_docstrings(name: str) -> None:
    """Every public class, function and method has a docstring with its promise."""
    member = getattr(catalyst_seen, name)
    assert inspect.getdoc(member)
    for method_name, method in vars(member).items():
        if inspect.isfunction(method) and not method_name.startswith("_"):
            assert inspect.getdoc(method), method_name


def test_signatures_have_public_names() -> None:
    """Every name of ours in the signature of a verb can be imported by a user."""
    private = {"ClaimOptions", "T_co"}  # options by name; a type variable
    for twin in (catalyst_seen.AsyncSeenStore, catalyst_seen.SeenStore):
        for name, method in inspect.getmembers(twin, inspect.isfunction):
            if name.startswith("_") and name != "__init__":
                continue
            annotations = " ".join(map(str, inspect.get_annotations(method).values()))
            words = set(re.findall(r"\b[A-Z]\w+", re.sub(r"[\w.]+\.", "", annotations)))
            unknown = words - STANDARD - private - {*catalyst_seen.__all__}
            assert not unknown, (name, annotations)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
class TestErrors:
    """The errors."""

    def test_each_error_is_in_the_tree(self, error: SeenError) -> None:
        """Each error is a SeenError, drawn in the tree, and exported."""
        assert isinstance(error, SeenError)
        assert type(error).__name__ in str(_errors.__doc__)
        assert type(error).__name__ in catalyst_seen.__all__

    def test_each_error_can_be_pickled(self, error: SeenError) -> None:
        """Each error passes a process pool, with its attributes and its message."""
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(copy) is type(error)
        assert (vars(copy), str(copy)) == (vars(error), str(error))


def test_errors_have_standard_bases() -> None:
    """Invalid values are ValueErrors, invalid states RuntimeErrors.

    "Nothing was done" and "nobody knows" are two kinds of StoreError, side by side.
    """
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(InvalidKeyError, ValueError)
    assert issubclass(StoreClosedError, RuntimeError)
    assert OutcomeUnknownError.__bases__ == StoreUnavailableError.__bases__
    assert issubclass(OutcomeUnknownError, StoreError)


def test_only_new_and_retry_are_true() -> None:
    """NEW and RETRY are true, the others false."""
    assert {verdict for verdict in Verdict if verdict} == {Verdict.NEW, Verdict.RETRY}
    assert [str(verdict) for verdict in Verdict] == [
        "new", "retry", "in_flight", "duplicate", "held",
    ]  # fmt: skip


@pytest.mark.slow
def test_import_loads_no_driver(run_script: Run) -> None:
    """The package and a store on SQLite import and configure nothing else."""
    script = """
        import logging, sys
        import catalyst_seen
        catalyst_seen.AsyncSeenStore("seen.db")
        assert not {"asyncpg", "redis", "structlog", "rich"}.intersection(sys.modules)
        import structlog
        assert not structlog.is_configured()
        assert not logging.getLogger().handlers
    """
    done = run_script(script)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_ordinary_use_logs_nothing(run_script: Run) -> None:
    """In ordinary use nothing is logged or printed."""
    script = """
        import asyncio
        from catalyst_seen import AsyncSeenStore
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60
            for _ in range(2):
                async with AsyncSeenStore("seen.db") as store:
                    await store.mark_many(["a", "b"])
                    await store.check_and_mark("a")
                    await store.purge_expired()
                    await store.cleanup_old_entries()
        asyncio.run(main())
    """
    done = run_script(script, options=("-X", "dev"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_python_never_opens_the_database(run_script: Run) -> None:
    """Python only creates a new file: a close of any other drops SQLite's locks."""
    script = """
        import os, sys
        opened = []
        def watch(event, args):
            if event == "open" and isinstance(args[0], str) and "seen.db" in args[0]:
                opened.append(bool(args[2] & os.O_EXCL))
        sys.addaudithook(watch)
        from catalyst_seen import SeenStore
        with SeenStore("seen.db") as store:
            store.check_and_mark("k")
            with SeenStore("seen.db") as other:
                print(other.stats().file_bytes > 0, store.stats().wal_bytes > 0)
        print(opened)
    """
    assert run_script(script).stdout.split() == ["True", "True", "[True]"]


def test_package_declares_its_types() -> None:
    """The package declares that it has type annotations."""
    assert Path(catalyst_seen.__file__).with_name("py.typed").exists()
