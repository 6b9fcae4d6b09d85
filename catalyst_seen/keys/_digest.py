"""Texts that can be stored as keys: as they are, or as digests."""

from __future__ import annotations

import hashlib
import json

from catalyst_seen._errors import InvalidKeyError
from catalyst_seen._validation import check_key


def storable(text: str) -> str:
    """Return a text that is a valid key: itself, else a digest of it.

    Texts of more than 2,048 bytes, blank ones, and those with a NUL, a lone surrogate
    or a line break at an end are no keys. The digest is ``sha256:`` and its hexadecimal
    form.
    """
    try:
        return check_key(text)
    except InvalidKeyError:
        return sha256(text)


def digest(*parts: str | list[str]) -> str:
    """Return a digest of texts; where one ends and the next begins matters."""
    return sha256(json.dumps(parts))


def sha256(text: str) -> str:
    """Return a digest with the name of its algorithm."""
    encoded = text.encode(errors="surrogatepass")
    return f"sha256:{hashlib.sha256(encoded).hexdigest()}"


def collapsed(text: str) -> str:
    """Return a text in which nothing depends on how it was wrapped."""
    return " ".join(text.split())
