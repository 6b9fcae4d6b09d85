"""The packages of extras, which a command imports only when it runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._codes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = {
    "feeds": {"aiohttp", "aiolimiter", "feedparser", "multidict", "tenacity"},
    "serve": {"aiohttp", "prometheus_client"},
}


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Import in this block what needs an extra; say how to install it if it is not.

    Raises:
        Failure: A package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _PACKAGES[extra]:
            raise
        raise Failure(
            f"{exc.name} is not installed: pip install 'catalyst-seen[{extra}]'"
        ) from exc
