"""Redirects: which of them become the address of a source, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ._addresses import has_secrets, origin

if TYPE_CHECKING:
    from collections.abc import Sequence

PERMANENT = frozenset({301, 308})
FOLLOWED = frozenset({301, 302, 303, 307, 308})

_LONGEST = 2_048


class Hop(NamedTuple):
    """One redirect on the way to an answer."""

    status: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a source is, by what its server said before.

    Attributes:
        adopted: The address in place of the given one; ``None`` is the given one.
        is_secure: Whether the given address is asked over ``https``.
        moving_to: The target of the permanent redirect that the server gives.
        moving_since: When it gave that for the first time, in seconds since 1970.
    """

    adopted: str | None = None
    is_secure: bool = False
    moving_to: str | None = None
    moving_since: float | None = None

    def of(self, given: str) -> str:
        """Return the address to ask, for the one that the user gave."""
        if self.adopted is not None:
            return self.adopted
        scheme, mark, rest = given.partition("://")
        return (
            f"https{mark}{rest}"
            if self.is_secure and scheme.lower() == "http"
            else given
        )

    @property
    def is_other(self) -> bool:
        """Is another address asked than the given one?"""
        return self.is_secure or self.adopted is not None


def follow(
    address: Address, hops: Sequence[Hop], now: float, adopt_after: float
) -> Address:
    """Return the address of a source after a good answer.

    The step from ``http`` to ``https`` is taken at once. Another permanent redirect is
    adopted when the server has given it for ``adopt_after`` seconds. A temporary one
    never is, and neither is an address with secrets, which must not be stored: both are
    followed at each poll.
    """
    target = _permanent_target(hops)
    if target is None:
        return Address(address.adopted, address.is_secure)
    if _is_upgrade(hops[0]):
        adopted = None if address.adopted is None else hops[0].target
        return Address(adopted, is_secure=True)
    if has_secrets(target) or len(target.encode(errors="replace")) > _LONGEST:
        return Address(address.adopted, address.is_secure)
    if target != address.moving_to or address.moving_since is None:
        return Address(address.adopted, address.is_secure, target, now)
    if now - address.moving_since >= adopt_after:
        return Address(target, address.is_secure)
    return address


def _permanent_target(hops: Sequence[Hop]) -> str | None:
    """Return where the permanent redirects at the beginning of the way lead."""
    target = None
    for hop in hops:
        if hop.status not in PERMANENT:
            break
        target = hop.target
    return target


def _is_upgrade(hop: Hop) -> bool:
    """Do its addresses differ in nothing but ``http`` and ``https``?"""
    return origin(hop.target).is_upgrade_of(origin(hop.source)) and (
        urlsplit(hop.source)[2:4] == urlsplit(hop.target)[2:4]
    )
