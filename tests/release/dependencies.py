"""The run-time dependencies as installed: their licences, and what is known of them."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OURS = "catalyst-seen"
PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Python-2.0",
    "Zlib",
}
"""Licences that demand no more than a notice; their names are those of SPDX."""

READ_BY_A_PERSON = {"pysqlite3": "Zlib"}
"""Those whose metadata name no licence: what their file LICENSE is."""

_BY_OLD_NAME = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD-3-Clause",  # or with two clauses: both are permissive
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "python software foundation license": "PSF-2.0",
    "zlib/libpng license": "Zlib",
}


class Dependency(NamedTuple):
    """A distribution in a clean environment."""

    name: str
    version: str
    licence: str


class NotAuditedError(Exception):
    """No answer came about the dependencies, or not about all of them."""


def installed(site: Path) -> list[Dependency]:
    """List what stands beside our package in an environment."""
    found = [
        Dependency(each.name, each.version, licence_of(each))
        for each in distributions(path=[str(site)])
    ]
    return sorted(each for each in found if each.name != OURS)


def licence_of(distribution: Distribution) -> str:
    """Return the licence by its name in SPDX, where the metadata allow it."""

    def values(field: str) -> list[str]:
        return distribution.metadata.get_all(field) or []

    if expressions := values("License-Expression"):
        return expressions[0]
    classifiers = [name for name in values("Classifier") if name.startswith("License")]
    names = [name.rpartition(" :: ")[2] for name in classifiers]
    names = [name for name in names if name != "OSI Approved"]
    names = names or [text.strip().partition("\n")[0] for text in values("License")]
    if not any(names):
        return READ_BY_A_PERSON.get(distribution.name, "")
    return " AND ".join(_BY_OLD_NAME.get(name.lower(), name) for name in names)


def is_permissive(expression: str) -> bool:
    """Whether every part, or one of the parts to choose from, is permissive."""
    if "(" in expression:  # for a person
        return False
    return any(
        all(name.strip() in PERMISSIVE for name in re.split(r"\bAND\b", choice))
        for choice in re.split(r"\bOR\b", expression)
    )


def check_licences(dependencies: Iterable[Dependency]) -> Iterator[str]:
    """Every dependency is permissive, so that a program of any licence may use us."""
    for each in dependencies:
        if not is_permissive(each.licence):
            licence = each.licence or "no licence"
            yield f"licences: {each.name} {each.version} has {licence!r}"


def table(dependencies: list[Dependency]) -> str:
    """Show the dependencies in three columns."""
    rows = [("dependency", "version", "licence"), *dependencies]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def check_audit(report: str, dependencies: list[Dependency]) -> Iterator[str]:
    """No vulnerability is known; reads the JSON that pip-audit writes.

    Raises:
        NotAuditedError: it has written none, or has left out a dependency.
    """
    try:
        audited = json.loads(report)["dependencies"]
    except ValueError:
        raise NotAuditedError("pip-audit had no answer") from None
    for each in audited:
        for known in each.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version"
            name = f"{each['name']} {each['version']}"
            yield f"audit: {name}: {known['id']}, fixed in {fixed}"
    answered = {_normal(each["name"]) for each in audited if "vulns" in each}
    left = [each.name for each in dependencies if _normal(each.name) not in answered]
    if left:
        of = f"{len(left)} of {len(dependencies)} dependencies"
        raise NotAuditedError(f"PyPI had no answer about {of}: {', '.join(left)}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
