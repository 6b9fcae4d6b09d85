"""A disk of its own that can lose its power: ext4 in a file, mounted by root."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

_SHUTDOWN = 0x8004587D
_WITHOUT_LOG = 2  # what is not in the journal yet does not get there any more
_BYTES = 48 * 2**20


class Ext4:
    """An ext4 file system in a file; use it in a ``with`` block.

    Skips the test where it cannot be made, or mounted, or shut down.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, base: Path) -> None:
        """Choose a folder in which the file and the mount are made."""
        self._image = base / "image"
        self.folder = base / "mounted"
        self._mounted = ExitStack()

    def __enter__(self) -> Self:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("only root may mount a file system, on Linux")
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._mounted.close()

    def lose_power(self) -> None:
        """Shut it down: what is not on the disk by now never gets there.

        No process may be in a system call there. Linux reports success to an fdatasync
        that meets the shutdown half done, though nothing reaches the disk any more.
        """
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
        except OSError as exc:
            pytest.skip(f"ext4 cannot be shut down here: {exc.strerror}")
        finally:
            os.close(descriptor)

    def mount_again(self) -> None:
        """Let the power be back; nobody may have a file open there."""
        self._mounted.close()
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.folder))
        self._mounted.callback(subprocess.run, ["umount", str(self.folder)], check=True)


def _run(*words: str) -> None:
    where = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    tool = shutil.which(words[0], path=where)
    if tool is None:
        pytest.skip(f"no {words[0]} on this machine")
    done = subprocess.run(
        [tool, *words[1:]], capture_output=True, check=False, text=True
    )
    if done.returncode:
        pytest.skip(f"{words[0]} does not work here: {done.stderr.strip()}")
