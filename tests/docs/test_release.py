"""The checks of a release find what they are for, and let a good release pass."""

from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ..release import __main__ as command
from ..release.contents import (
    IN_SDIST,
    check_sdist,
    check_wheel,
    names_in_sdist,
    names_in_wheel,
)
from ..release.dependencies import (
    Dependency,
    NotAuditedError,
    check_audit,
    check_licences,
    installed,
    is_permissive,
)
from ..release.naming import check_changelog, check_tag, check_version

GOOD = """# Changelog

## Unreleased

## 0.1.0 - 2026-11-28

### Added

- a store

## 0.0.9 - 2026-01-02

- less
"""
PACKAGE = [
    "catalyst_seen/__init__.py",
    "catalyst_seen/backends/redis/script.lua",
    "catalyst_seen/py.typed",
]
FOLDERS = {".github", "benchmarks", "docs", "examples", "tests"}
TRACKED = [
    *PACKAGE,
    *(f"{name}/a" for name in FOLDERS),
    *({*IN_SDIST} - FOLDERS - {"catalyst_seen"}),
    ".ci/run",
]
IN_A_SDIST = [*(name for name in TRACKED if name != ".ci/run"), "PKG-INFO"]
IN_A_WHEEL = [
    *PACKAGE,
    "catalyst_seen-0.1.0.dist-info/METADATA",
    "catalyst_seen-0.1.0.dist-info/entry_points.txt",
    "catalyst_seen-0.1.0.dist-info/licenses/LICENSE",
]
TWO = [Dependency("Typing_Extensions", "4", "PSF-2.0"), Dependency("anyio", "4", "MIT")]


def test_good_changelog() -> None:
    """The version is the newest heading, with a date; nothing is unreleased."""
    assert list(check_changelog(GOOD, "0.1.0")) == []
    assert list(check_changelog(GOOD.replace("## Unreleased", ""), "0.1.0")) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("## 0.1.0 - 2026-11-28", "", "no heading"),
        ("## 0.1.0", "## 0.1.00", "no heading"),
        (" - 2026-11-28", "", "is not '## 0.1.0 - YYYY-MM-DD'"),
        ("2026-11-28", "2026-02-30", "is not '## 0.1.0 - YYYY-MM-DD'"),
        ("2026-11-28", "20261128", "is not '## 0.1.0 - YYYY-MM-DD'"),
        ("2026-11-28", "DATE", "is not '## 0.1.0 - YYYY-MM-DD'"),
        ("## 0.1.0", "## 0.2.0 - 2026-12-01\n\n- more\n\n## 0.1.0", "not the first"),
        ("- a store", "", "no change"),
        ("## Unreleased\n", "## Unreleased\n\n- more\n", "under 'Unreleased'"),
    ],
)
def test_bad_changelog(old: str, new: str, problem: str) -> None:
    """A changelog is refused that does not say what the version brings, and when."""
    assert old in GOOD
    (found,) = check_changelog(GOOD.replace(old, new, 1), "0.1.0")
    assert problem in found


@pytest.mark.parametrize("version", ["0.1.0", "1.20.3", "1.0.0rc1"])
def test_good_version_and_tag(version: str) -> None:
    """A tag is a v and the version; a commit without one, or with others, passes."""
    assert list(check_version(version)) == []
    assert list(check_tag(version, [f"v{version}", "nightly"], named=None)) == []
    assert list(check_tag(version, [], named=None)) == []
    assert list(check_tag(version, ["v9"], named=f"v{version}")) == []


@pytest.mark.parametrize("tag", ["0.1.0", "v0.1", "v0.1.1", "v0.1.0-rc1"])
def test_bad_tag(tag: str) -> None:
    """A tag of another version or form is refused, on the commit and when named."""
    assert len(list(check_tag("0.1.0", [tag], named=None))) == 1
    assert len(list(check_tag("0.1.0", ["v0.1.0"], named=tag))) == 1
    assert len(list(check_tag("0.1.0", ["v0.1.0"], named="release"))) == 1


@pytest.mark.parametrize("version", ["0.1", "0.1.0.dev3", "0.1.0+local", "0+unknown"])
def test_bad_version(version: str) -> None:
    """A version that is not to be released is refused."""
    assert len(list(check_version(version))) == 1


def test_good_archives() -> None:
    """Archives that hold what git has, and what the lists name, pass."""
    assert list(check_sdist(IN_A_SDIST, TRACKED)) == []
    assert list(check_wheel(IN_A_WHEEL, TRACKED)) == []


@pytest.mark.parametrize("top", ["CONTRIBUTING.md", "LICENSE", "CHANGELOG.md", "tests"])
def test_sdist_without(top: str) -> None:
    """A source archive that lacks one of the list is refused, also if git does too."""
    left = [name for name in IN_A_SDIST if not name.startswith(top)]
    assert f"sdist: nothing of {top!r} is there" in check_sdist(left, TRACKED)
    assert f"sdist: nothing of {top!r} is there" in check_sdist(left, left[:-1])


def test_file_that_git_does_not_know() -> None:
    """A database that was left in a folder is in no archive; a new folder is named."""
    left = "examples/seen.db"
    (found,) = check_sdist([*IN_A_SDIST, left], TRACKED)
    assert left in found
    (found,) = check_sdist(IN_A_SDIST, [*TRACKED, "tools/a"])
    assert "no list" in found
    assert "'tools'" in found


@pytest.mark.parametrize(
    "name", ["py.typed", "script.lua", "licenses/LICENSE", "entry_points.txt"]
)
def test_wheel_without(name: str) -> None:
    """A wheel is refused without types, scripts, licence or the tool."""
    left = [found for found in IN_A_WHEEL if not found.endswith(name)]
    assert list(check_wheel(left, TRACKED))


def test_missing_file() -> None:
    """An archive that lacks one file of many is refused."""
    more, name = [*TRACKED, "catalyst_seen/a.py"], "catalyst_seen/a.py"
    assert list(check_wheel(IN_A_WHEEL, more)) == [f"wheel: {name} is missing"]
    assert list(check_sdist(IN_A_SDIST, more)) == [f"sdist: {name} is missing"]


@pytest.mark.parametrize("name", ["tests/test_a.py", "catalyst_seen/test_new.py"])
def test_wheel_with(name: str) -> None:
    """A wheel is refused with tests, or with a module that git does not know."""
    (found,) = check_wheel([*IN_A_WHEEL, name], [*TRACKED, "tests/test_a.py"])
    assert name in found


def test_names_of_real_archives(tmp_path: Path) -> None:
    """Names are those of files, without the folder of a source archive."""
    (tmp_path / "a").write_text("")
    sdist, wheel = tmp_path / "p-1.tar.gz", tmp_path / "p.whl"
    with tarfile.open(sdist, "w:gz") as tar:
        tar.add(tmp_path, "p-1/empty", recursive=False)
        tar.add(tmp_path / "a", "p-1/docs/a")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "a", "p/a")
        archive.mkdir("empty")
    assert (names_in_sdist(sdist), names_in_wheel(wheel)) == (["docs/a"], ["p/a"])


@pytest.mark.parametrize(
    ("metadata", "licence", "passes"),
    [
        ("License-Expression: MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only", True),
        ("License-Expression: Apache-2.0 AND MIT", "Apache-2.0 AND MIT", True),
        ("License-Expression: MIT AND GPL-3.0-only", "MIT AND GPL-3.0-only", False),
        ("License-Expression: (MIT)", "(MIT)", False),
        ("License-Expression: LGPL-3.0-or-later", "LGPL-3.0-or-later", False),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT", True),
        ("License: Apache License 2.0", "Apache-2.0", True),
        ("License: Proprietary", "Proprietary", False),
        ("Classifier: License :: OSI Approved", "", False),
        ("Summary: none", "", False),
    ],
)
def test_licences(tmp_path: Path, metadata: str, licence: str, passes: bool) -> None:
    """What an installed distribution says is read as SPDX names it, and judged."""
    for name, text in (("other", metadata), ("catalyst-seen", "License: MIT")):
        folder = tmp_path / f"{name.replace('-', '_')}-1.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{text}\n"
        (folder / "METADATA").write_text(head)
    found = installed(tmp_path)
    assert found == [Dependency("other", "1", licence)]
    assert is_permissive(licence) is passes
    assert len(list(check_licences(found))) == (not passes)


def report(*answers: dict[str, Any]) -> str:
    """Return what pip-audit writes."""
    return json.dumps({"dependencies": answers, "fixes": []})


NONE_KNOWN: dict[str, Any] = {"name": "typing-extensions", "version": "4", "vulns": []}
KNOWN: dict[str, Any] = {
    "name": "anyio",
    "version": "4",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["4.1"]}],
}
NO_ANSWER: dict[str, Any] = {
    "name": "anyio",
    "skip_reason": "Dependency not found on PyPI",
}


def test_known_vulnerability() -> None:
    """A vulnerability is a problem; none known about each dependency is none."""
    (found,) = check_audit(report(NONE_KNOWN, KNOWN), TWO)
    assert found == "audit: anyio 4: PYSEC-1, fixed in 4.1"
    assert not list(check_audit(report(NONE_KNOWN, {**KNOWN, "vulns": []}), TWO))


@pytest.mark.parametrize("text", ["", report(), report(NONE_KNOWN, NO_ANSWER)])
@pytest.mark.parametrize("ci", [True, False])
def test_no_answer(
    text: str,
    ci: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without an answer about each, a release waits, and a check by hand is warned.

    pip-audit itself ends with "No known vulnerabilities found" if PyPI has no answer.
    """
    with pytest.raises(NotAuditedError):
        list(check_audit(text, TWO))
    monkeypatch.setattr(command, "audit", lambda *_: text)
    monkeypatch.setenv("CI", "true" if ci else "")
    found = command.check_dependencies(TWO, Path())
    assert [problem.partition(":")[0] for problem in found] == ["audit"] * ci
    assert ("WARNING  audit: " in capsys.readouterr().out) is not ci
