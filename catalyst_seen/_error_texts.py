"""The texts of errors that are stored with keys and sources."""

from __future__ import annotations

import re

from ._validation import truncated_repr

_MAX_CHARACTERS = 500
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://\S+", re.IGNORECASE)


def error_text(error: str | BaseException) -> str:
    """Return the text of an error on one line, cut, and without what may be secret.

    Of a URL only its scheme stays: it may have a password, or be a secret as a whole.

    Raises:
        TypeError: Neither a text nor an exception.
    """
    if isinstance(error, BaseException):
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    elif isinstance(error, str):
        text = error
    else:
        raise TypeError(
            f"error must be a text or an exception, not {truncated_repr(error)}"
        )
    line = "".join(one if one.isprintable() else " " for one in text)
    return _URL.sub(r"\1://…", line)[:_MAX_CHARACTERS]
