"""Build and use the package, or check all of a release."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from .building import ROOT, CleanEnvironment, build, run
from .contents import check_sdist, check_wheel, names_in_sdist, names_in_wheel
from .dependencies import NotAuditedError, check_audit, check_licences, installed, table
from .naming import check_changelog, check_tag, check_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .dependencies import Dependency


def main() -> int:
    """Do what the arguments name; return 1 if a release must wait."""
    parser = argparse.ArgumentParser(prog="tests.release", description=__doc__)
    parser.add_argument("what", choices=["package", "check"])
    parser.add_argument("folder", type=absolute, help="for archives and environments")
    parser.add_argument("--tag", help="the tag, if it is not on the commit yet")
    options = parser.parse_args()
    wheel, sdist = build(options.folder / "dist")
    if options.what == "package":
        CleanEnvironment(options.folder / "clean").use(wheel)
        return 0
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    problems = [*check_names(options.tag), *check_archives(wheel, sdist)]
    clean = CleanEnvironment(options.folder / "clean")
    clean.use(sdist)
    clean.install(sdist, extra="[all]")
    problems += check_dependencies(installed(clean.site_packages), options.folder)
    for problem in problems:
        print(f"PROBLEM  {problem}")
    print(f"problems: {len(problems)}" if problems else "nothing stands in the way")
    return 1 if problems else 0


def absolute(path: str) -> Path:
    """Return a path that holds in other folders as well."""
    return Path(path).absolute()


def check_names(named: str | None) -> Iterator[str]:
    """Check version, tag and changelog."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    yield from check_version(version)
    yield from check_tag(version, git("tag", "--points-at", "HEAD"), named=named)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    yield from check_changelog(changelog, version)


def check_archives(wheel: Path, sdist: Path) -> Iterator[str]:
    """Compare both archives with what git has, and with the lists."""
    tracked = git("ls-files")
    yield from check_wheel(names_in_wheel(wheel), tracked)
    yield from check_sdist(names_in_sdist(sdist), tracked)


def check_dependencies(found: list[Dependency], folder: Path) -> Iterator[str]:
    """Check what a program gets that installs every extra.

    Without a network nothing is known of vulnerabilities: a release must wait then, and
    a check by hand goes on with a warning.
    """
    print(table(found), flush=True)
    yield from check_licences(found)
    try:
        yield from check_audit(audit(found, folder), found)
    except NotAuditedError as exc:
        if os.environ.get("CI"):
            yield f"audit: {exc}"
        else:
            print(f"WARNING  audit: {exc}; with CI set this is a problem")


def audit(found: list[Dependency], folder: Path) -> str:
    """Ask PyPI for what is known of these versions; return pip-audit's report."""
    pins = folder / "pins.txt"
    pins.write_text("".join(f"{each.name}=={each.version}\n" for each in found))
    options = ("--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options, "--requirement", pins],
        capture_output=True,
        check=False,
        text=True,
    )
    if not done.stdout:
        print(*done.stderr.splitlines()[-1:])
    return done.stdout


def git(*words: str) -> list[str]:
    """Return the lines that git prints."""
    done = subprocess.run(
        ["git", "-c", "core.quotePath=false", *words],  # noqa: S607 - of the path, as for a person
        capture_output=True, check=True, cwd=ROOT, text=True,
    )  # fmt: skip
    return done.stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main())
