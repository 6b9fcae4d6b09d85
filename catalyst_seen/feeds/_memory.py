"""What a poller keeps with a source in the store: two texts of JSON.

``Validators`` belong to a listing, and are written only together with it. ``State`` is
everything else. A text that cannot be read, of another release, only causes a full
read.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ._redirects import Address

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = 1
_LONGEST_VALIDATOR = 1_024


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies the bytes of a listing.

    Attributes:
        recipe: Name of the recipe that gave the keys.
        digest: SHA-256 of the body.
        etag: ``ETag`` of the answer, or empty.
        modified: ``Last-Modified`` of the answer, or empty.
    """

    recipe: str
    digest: str
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, recipe: str, digest: str, headers: Mapping[str, str]) -> Self:
        """Return the validators of an answer."""
        return cls(
            recipe,
            digest,
            _sendable(headers.get("ETag", "")),
            _sendable(headers.get("Last-Modified", "")),
        )

    @property
    def conditions(self) -> dict[str, str]:
        """The headers of a conditional request."""
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in pairs.items() if value}

    def to_json(self) -> str:
        """Encode them."""
        return _encoded(asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Self | None:
        """Decode them; ``None`` if there are none that this release understands."""
        values = _decoded(text)
        try:
            return cls(**values) if values is not None else None
        except TypeError:
            return None


class Rest(NamedTuple):
    """A pause that a host asked for.

    Attributes:
        host: The host, perhaps one at the end of a redirect.
        until: The end of the pause, in seconds since 1970.
    """

    host: str
    until: float


@dataclass(frozen=True, slots=True)
class State:
    """What a poller remembers of a source beside its listing.

    Attributes:
        url: The address or path that the user gave, as it may be shown.
        mark: Tells two addresses apart that are shown alike; see ``Feed.mark``.
        failures: Number of failed polls in a row.
        rest: The pause that a server asked for at the last poll.
        is_gone: Whether the server said that the source is gone for ever.
        read_at: When the source was last read without conditions.
        ttl: Seconds until the next poll that its last listing asked for.
        address: Where it is, by its redirects.
    """

    url: str
    mark: str = ""
    failures: int = 0
    rest: Rest | None = None
    is_gone: bool = False
    read_at: float | None = None
    ttl: float | None = None
    address: Address = field(default_factory=Address)

    def to_json(self) -> str:
        """Encode it, without the values that are the default."""
        plain = State(self.url)
        values = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name == "url" or getattr(self, f.name) != getattr(plain, f.name)
        }
        if "address" in values:
            values["address"] = asdict(self.address)
        return _encoded(values)

    @classmethod
    def from_json(cls, text: str | None, url: str) -> Self:
        """Decode the state of a source at this address; another address has none."""
        values = _decoded(text)
        if values is None or values.get("url") != url:
            return cls(url)
        try:
            values["address"] = Address(**values.get("address", {}))
            if "rest" in values:
                values["rest"] = Rest(*values["rest"])
            return cls(**values)
        except TypeError:
            return cls(url)


def _sendable(value: str) -> str:
    """Return a validator that can be sent back, or nothing."""
    is_good = value.isascii() and value.isprintable()
    return value if is_good and len(value) <= _LONGEST_VALIDATOR else ""


def _encoded(values: dict[str, Any]) -> str:
    return json.dumps({"format": _FORMAT, **values}, separators=(",", ":"))


def _decoded(text: str | None) -> dict[str, Any] | None:
    """Return the values of a text of this format; ``None`` for any other."""
    try:
        values = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
        return None
    return values
