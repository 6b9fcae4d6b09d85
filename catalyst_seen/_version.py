"""The version, from the metadata of the installed package."""

from __future__ import annotations

from functools import cache

NOT_INSTALLED = "0+unknown"
"""The version of a copy without metadata: a checkout on the path, a frozen program."""


@cache
def read_version() -> str:
    """Return the version; the import that this takes costs as much as the package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("catalyst-seen")
    except PackageNotFoundError:
        return NOT_INSTALLED
