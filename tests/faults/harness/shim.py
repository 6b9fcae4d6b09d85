"""Libraries that stand between a process and the system, by ``LD_PRELOAD``."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_COMPILERS = ("cc", "gcc", "clang")
_HERE = Path(__file__).parent


def compiled(source_name: str) -> Path:
    """Compile a source of this folder, once a session, and return the library.

    Skips the test where there is no compiler, or no ``LD_PRELOAD``.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("LD_PRELOAD shims are for Linux")
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        pytest.skip("no C compiler on this machine")
    return _compile(compiler, source_name)


@functools.cache
def _compile(compiler: str, source_name: str) -> Path:
    source = _HERE / source_name
    library = _folder() / f"{source.stem}.so"
    words = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    words += [str(source), "-o", str(library), "-ldl", "-lpthread"]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    if done.returncode and _builds_nothing(compiler):
        pytest.skip("the C compiler of this machine builds nothing")
    assert done.returncode == 0, done.stderr
    return library


def _builds_nothing(compiler: str) -> bool:
    """Is it the compiler's fault, as where the C library's headers are missing?"""
    words = [compiler, "-shared", "-fPIC", "-xc", "-", "-o", str(_folder() / "try.so")]
    source = "#include <stdio.h>\nint one(void) { return 1; }\n"
    tried = subprocess.run(
        words, capture_output=True, check=False, text=True, input=source
    )
    return tried.returncode != 0


@functools.cache
def _folder() -> Path:
    """Make a folder for this process's libraries; it goes when the process ends."""
    made = tempfile.TemporaryDirectory(prefix="catalyst-seen-shims-")
    atexit.register(made.cleanup)
    return Path(made.name)
