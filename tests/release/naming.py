"""The version, and what the changelog and the tag make of it."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
_LIKE_A_VERSION = re.compile(r"v?\d")
_DATED = re.compile(r"(?P<version>\S+) - (?P<date>\d{4}-\d\d-\d\d)")


def check_version(version: str) -> Iterator[str]:
    """Three numbers, and perhaps the number of a pre-release."""
    if not _VERSION.fullmatch(version):
        yield f"version: {version!r} is not of the form 0.1.0 or 0.1.0rc1"


def check_tag(version: str, tags: Iterable[str], *, named: str | None) -> Iterator[str]:
    """The tag that is named, or those of the commit that look like a version."""
    found = [named] if named is not None else filter(_LIKE_A_VERSION.match, tags)
    for tag in found:
        if tag != f"v{version}":
            yield f"tag: {tag!r} is not 'v{version}', which the version demands"


def check_changelog(text: str, version: str) -> Iterator[str]:
    """The newest heading is that of the version, with its date and its changes."""
    _, *parts = re.split(r"^## +", text, flags=re.MULTILINE)
    sections = {
        title.strip(): body
        for title, _, body in (part.partition("\n") for part in parts)
    }
    unreleased = sections.pop("Unreleased", "")
    titles = [title for title in sections if title.split(" ")[0] == version]
    if not titles:
        yield f"CHANGELOG.md: no heading '## {version} - YYYY-MM-DD'"
        return
    (title, *others) = titles
    if not _is_dated(title):
        yield f"CHANGELOG.md: '## {title}' is not '## {version} - YYYY-MM-DD'"
    if others or title != next(iter(sections)):
        yield f"CHANGELOG.md: '## {title}' is not the first, or not the only one"
    if not _has_entries(sections[title]):
        yield f"CHANGELOG.md: no change stands under '## {title}'"
    if _has_entries(unreleased):
        yield f"CHANGELOG.md: changes stand under 'Unreleased', not under '{version}'"


def _is_dated(title: str) -> bool:
    found = _DATED.fullmatch(title)
    try:
        return bool(found and date.fromisoformat(found["date"]))
    except ValueError:  # the 30th of February
        return False


def _has_entries(body: str) -> bool:
    return re.search(r"^- ", body, flags=re.MULTILINE) is not None
