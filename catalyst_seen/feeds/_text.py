"""Texts of a document as plain text on one line."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# Cc moves the cursor or starts an escape sequence, and the embeddings, overrides and
# isolates of bidirectional text reach beyond their text. A surrogate cannot be encoded.
# Joiners, variation selectors, tags of emoji and soft hyphens are parts of words.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_MAX_DIGITS = 18
_MAX_MARKUP = 20_000
"""Characters of markup that are read; the parser takes ever longer for hostile ones."""

_HIDDEN = frozenset({"script", "style", "template"})
_INLINE = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del",
    "dfn", "em", "font", "i", "ins", "kbd", "mark", "q", "rp", "rt", "ruby", "s",
    "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
    "wbr",
})  # fmt: skip
"""Elements that do not end a word."""


def one_line(text: str) -> str:
    """Return a text on one line, without the characters that drive a terminal."""
    return " ".join(_UNSAFE.sub("", " ".join(text.split())).split())


def text_of(markup: str) -> str:
    """Return the text of HTML, on one line."""
    if "<" not in markup and "&" not in markup:
        return one_line(markup)
    if len(markup) > _MAX_MARKUP:  # up to the last whole element
        markup = markup[:_MAX_MARKUP].rpartition("<")[0]
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return one_line("".join(reader.texts))


def whole_number(text: str) -> int | None:
    """Return the number of a text; ``None`` if it is none, or has over 18 digits."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


class _Reader(HTMLParser):
    """Collects the text that a reader of a page would see."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden: str | None = None

    def handle_starttag(
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],  # noqa: ARG002 - of the base class
    ) -> None:
        if tag in _HIDDEN:
            self._hidden = self._hidden or tag
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = None
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if self._hidden is None:
            self.texts.append(data)

    def parse_marked_section(
        self,
        i: int,
        report: bool = True,  # noqa: FBT001, FBT002 - of the base class
    ) -> int:
        """Read a section as a comment if its name is none, as in ``<![3 x>``."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i, report)

    def _separate(self, tag: str) -> None:
        if tag not in _INLINE:
            self.texts.append(" ")
