"""What an input is, by its content."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from .._codes import Failure
from .databases import MAGIC, sqlite_source
from .documents import Document
from .exports import Export, is_header
from .lines import JsonLines, Text, decode
from .tables import Table, delimiter_of

if TYPE_CHECKING:
    from .entries import Fields, Source
    from .inputs import Input

FORMS = ("text", "json", "jsonl", "csv", "sqlite", "export", "old")
"""The forms of input, for ``--as``."""

_HEAD = 1 << 16
_CUT_VALUE = re.compile(r"[-+.\dEaeflnrstu]*")  # a number or a word, and no more
_TABLES = (".csv", ".tsv")
_PACKED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"\xfd7zXZ": ("xz", "xzcat"),
}


def source_of(read: Input, form: str | None, fields: Fields) -> Source:
    """Return what lists the entries of an input.

    Args:
        read: The input.
        form: One of ``FORMS``; ``None`` guesses.
        fields: The names of its parts; they also tell CSV from JSON.

    Raises:
        Failure: It is nothing that can be imported, or the fields do not fit.
    """
    form = form or guess(read, fields)
    if fields.table is not None and form != "sqlite":
        raise Failure(f"--table is for SQLite files, and this is {_ARTICLES[form]}")
    if any(fields) and form in {"text", "export", "old"}:
        raise Failure(
            f"--key, --date and --note have no effect on"
            f" {_ARTICLES[form]}; --as takes it for something else"
        )
    if form in {"sqlite", "old"}:
        return sqlite_source(read, fields, is_old=form == "old")
    if form in {"text", "export"}:
        return Text(read) if form == "text" else Export(read)
    if form == "csv":
        return Table(read, fields)
    return Document(read, fields) if form == "json" else JsonLines(read, fields)


_ARTICLES = {
    "text": "a text with a key in each line",
    "json": "JSON",
    "jsonl": "JSON Lines",
    "csv": "CSV",
    "export": "an export of catalyst-seen",
    "old": "a file of the old store",
}


def guess(read: Input, fields: Fields) -> str:
    """Return which of ``FORMS`` an input has.

    Raises:
        Failure: It is compressed; or it has the name of a table, and is none.
    """
    head = read.head(_HEAD)
    if head.startswith(MAGIC):
        return "sqlite"
    for magic, (name, program) in _PACKED.items():
        if head.startswith(magic):
            raise Failure(
                f"is compressed by {name}: {program} FILE | catalyst-seen import -"
            )
    text = head.decode(read.encoding, "replace").lstrip()
    if text[:1] in {"[", "{", '"'} and (form := _json_form(text)):
        return form
    if fields.key is not None and not fields.key.startswith("/"):
        return "csv"
    if delimiter_of(read) and not _is_plain(text):
        return "csv"
    if read.name.lower().endswith(_TABLES):
        raise Failure(
            "is no table of which all rows have as many columns: --as csv --key COLUMN"
            " takes it for one, and --as text takes each line as a key"
        )
    return "text"


def _json_form(text: str) -> str | None:
    """Return the form of what begins like JSON; ``None`` if it is none."""
    first, _, rest = text.partition("\n")
    try:
        value = decode(first)
    except ValueError as exc:
        is_cut = _is_cut(exc, first, is_whole_line=bool(rest))
        return "json" if is_cut and text[0] != '"' else None
    if is_header(value):
        return "export"
    return "jsonl" if rest.strip() or isinstance(value, str) else "json"


def _is_cut(exc: ValueError, text: str, *, is_whole_line: bool) -> bool:
    """Is a text the beginning of a JSON document?"""
    if not isinstance(exc, json.JSONDecodeError):
        return True
    if exc.msg.startswith("Unterminated string"):
        return not is_whole_line  # no string of JSON has a line break
    return _CUT_VALUE.fullmatch(text.rstrip(), exc.pos) is not None


def _is_plain(text: str) -> bool:
    """Does the first line look like a key, and not like the names of columns?"""
    return "://" in text.partition("\n")[0]
