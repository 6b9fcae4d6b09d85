"""The packages of the extra ``serve``, imported only when that runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._codes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = {"aiohttp", "prometheus_client"}


@contextmanager
def serving_needed() -> Iterator[None]:
    """Import in this block what needs the extra; say how to install it if it is not.

    Raises:
        Failure: A package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise Failure(
            f"{exc.name} is not installed: pip install 'catalyst-seen[serve]'"
        ) from exc
