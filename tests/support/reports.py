"""Reports of pytest that the garbage collector cannot break."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Describe how a test ended, without the garbage collector.

    A description parses the source of the test. On CPython 3.11 the parser fails with
    "AST constructor recursion depth mismatch" if the garbage collector runs a finalizer
    meanwhile that parses as well, as the format of a traceback does; the error would
    end the worker, and hide the name of the test.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()
