"""Small disks, little room, few rights: where a store may find itself."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ...support.processes import give, new_folder, other_user

_PIECE = 4_096


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Have a file system of so many bytes in a new folder, as ``4m`` or ``64k``.

    Skips the test where none can be mounted.
    """
    tool = shutil.which("mount")
    if os.geteuid() != 0 or tool is None:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    words = [tool, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def fill(folder: Path, spare: int = 0) -> Path:
    """Take all the space that is left there but for some pages; say with which file."""
    filler = folder / "filler"
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        with suppress(OSError):
            while True:
                os.write(descriptor, bytes(_PIECE))
        os.truncate(descriptor, max(0, filler.stat().st_size - spare * _PIECE))
    finally:
        os.close(descriptor)
    return filler


@contextmanager
def limited(kind: int, most: int) -> Iterator[None]:
    """Set a limit of this process, as ``resource.RLIMIT_FSIZE``; lift it afterwards."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextmanager
def no_more_files(spare: int = 0) -> Iterator[None]:
    """Let this process open no file more than it has open, but for so many."""
    taken = 1 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    held: list[int] = []
    with limited(resource.RLIMIT_NOFILE, taken + spare):
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            for _ in range(min(spare, len(held))):
                os.close(held.pop())
            yield
        finally:
            for descriptor in held:
                os.close(descriptor)


def folder_of_another() -> Path:
    """Make a folder of a user who is not root: of another one, if this is root."""
    folder = new_folder(other_user())
    folder.chmod(0o755)
    return folder


@contextmanager
def as_another(folder: Path) -> Iterator[None]:
    """Be that user, who owns what is in the folder: root may do anything.

    Every thread of this process is, those of stores as well.
    """
    user = other_user()
    give(folder, user)
    if user is None:
        yield
        return
    user_before, group_before = os.geteuid(), os.getegid()
    os.setegid(pwd.getpwuid(user).pw_gid)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(user_before)
        os.setegid(group_before)


def mode(path: Path) -> str:
    """Read who may do what with a file, as in ``0o600``."""
    return oct(path.stat().st_mode & 0o777)


def identity(path: Path) -> tuple[int, int]:
    """Tell a file from every other, also one that comes to its place."""
    found = path.stat()
    return found.st_dev, found.st_ino
