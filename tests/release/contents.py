"""What is in the archives, and what must and must not be there."""

from __future__ import annotations

import tarfile
import zipfile
from fnmatch import fnmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

IN_SDIST = (
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "catalyst_seen",
    "docs",
    "examples",
    "noxfile.py",
    "pyproject.toml",
    "tests",
)
"""The files and folders of the repository that a packager needs, and nothing else."""

NOT_IN_SDIST = (".ci",)
"""Those of the repository that only its machines need."""

IN_WHEEL = (
    "catalyst_seen/__init__.py",
    "catalyst_seen/backends/redis/*.lua",
    "catalyst_seen/py.typed",
    "*.dist-info/entry_points.txt",
    "*.dist-info/licenses/LICENSE",
)
"""What a wheel of the right shape might lack."""


def names_in_sdist(path: Path) -> list[str]:
    """List the files of a source archive, without the folder that holds them all."""
    with tarfile.open(path) as archive:
        files = [member.name for member in archive if not member.isdir()]
    return [
        name.removeprefix(f"{path.name.removesuffix('.tar.gz')}/") for name in files
    ]


def names_in_wheel(path: Path) -> list[str]:
    """List the files of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return [info.filename for info in archive.infolist() if not info.is_dir()]


def check_sdist(names: Collection[str], tracked: Collection[str]) -> Iterator[str]:
    """Every tracked file of the list is there, and no file that git does not know."""
    for top in sorted({_top(name) for name in tracked} - {*IN_SDIST, *NOT_IN_SDIST}):
        yield f"sdist: no list of tests/release/contents.py names {top!r}"
    for top in sorted({*IN_SDIST} - {_top(name) for name in names}):
        yield f"sdist: nothing of {top!r} is there"
    expected = {name for name in tracked if _top(name) in IN_SDIST}
    yield from _compare("sdist", {*names} - {"PKG-INFO"}, expected)


def check_wheel(names: Collection[str], tracked: Collection[str]) -> Iterator[str]:
    """The package is there as git has it, with its metadata, and nothing beside it."""
    for pattern in IN_WHEEL:
        if not any(fnmatch(name, pattern) for name in names):
            yield f"wheel: no {pattern}"
    expected = {name for name in tracked if _top(name) == "catalyst_seen"}
    found = {name for name in names if not fnmatch(_top(name), "*.dist-info")}
    yield from _compare("wheel", found, expected)


def _compare(archive: str, found: set[str], expected: set[str]) -> Iterator[str]:
    yield from (f"{archive}: {name} is missing" for name in sorted(expected - found))
    for name in sorted(found - expected):
        yield f"{archive}: {name} is there, and is no file of git for it"


def _top(name: str) -> str:
    return name.partition("/")[0]
