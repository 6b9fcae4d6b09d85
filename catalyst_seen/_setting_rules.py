"""Validation of settings that no verb has: counts, file modes and names."""

from __future__ import annotations

from ._validation import truncated_repr

MAX_NAME_BYTES = 63
"""UTF-8 bytes of a name in a database: PostgreSQL's limit for identifiers."""

MAX_COUNT = 2**31 - 1
"""The largest count: SQLite counts its pages in 31 bits."""


def check_count(value: int, argument: str, unit: str, *, least: int) -> None:
    """Raise unless the value is a whole number from ``least`` to ``MAX_COUNT``.

    Raises:
        TypeError: Not an ``int``, or a ``bool``.
        ValueError: Under ``least`` or over ``MAX_COUNT``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be a whole number of {unit}, not {value!r}")
    if not least <= value <= MAX_COUNT:
        raise ValueError(
            f"{argument} must be at least {least:,} and at most {MAX_COUNT:,} {unit},"
            f" not {value!r}"
        )


def check_mode(value: int, setting: str) -> None:
    """Raise unless the value is a file mode with read and write for the owner.

    Raises:
        TypeError: Not an ``int``.
        ValueError: The owner may not read and write, or the value exceeds nine bits.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{setting} must be an int like 0o600, not {value!r}")
    if not 0 <= value <= 0o777 or value & 0o600 != 0o600:  # noqa: PLR2004 - as chmod
        raise ValueError(
            f"{setting} must be rights like 0o600 or 0o660, with those of the owner to"
            f" read and write, not {value:#o}"
        )


def check_name(value: str, setting: str) -> None:
    """Raise unless the value is a name of a schema or a prefix of keys.

    Raises:
        TypeError: Not a ``str``.
        ValueError: Empty, or over 63 bytes, which is PostgreSQL's limit, or with a
            character that is not printable, a blank, a colon or a quotation mark.
    """
    if not isinstance(value, str):
        raise TypeError(f"{setting} must be a str, not {type(value).__name__}")
    is_plain = value.isprintable() and not set(value) & set(" \"':")
    if not is_plain or not 0 < len(value.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise ValueError(
            f"{setting} must be 1 to {MAX_NAME_BYTES} printable characters without"
            f" blanks, colons and quotation marks, not {truncated_repr(value)}"
        )
