from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nox

if TYPE_CHECKING:
    from collections.abc import Iterator

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True

DURATION = "about 25 minutes on two cores; `nox -s quick` takes one"
OTHER_PYTHONS = ("3.12", "3.13", "3.14")

IN_PARALLEL = ("--numprocesses=3", "--dist=worksteal")  # some only wait
WITHOUT_EXTRAS = tuple(
    f"--ignore-glob=tests/*{name}*"  # an asterisk matches slashes as well
    for name in (
        "readme",
        "benchmarks",
        "feed_poller",
        "alert_bot",
        "webhook_receiver",
        "cli",
        "feeds",
        "metrics/",
        "servers",
        "redis",
        "postgres",
    )
)
IN_README = re.compile("readme|benchmarks")  # these need the packages of both
PROMTOOL_TESTS = "tests/metrics/alerts"
FAST = ("-m", "not slow and not torture")
MEASURED = ("-m", "not slow and not torture and not repeats")
NOT_MEASURED = ("-m", "slow or torture or repeats")
# Elsewhere the contract runs on a file alone: all backends run it in `tests`.
_NOT_A_FILE = "(memory or reference or pysqlite3 or valkey or cluster or postgres)"
ON_A_FILE = ("-k", f"not contract or not {_NOT_A_FILE}")
# On other Pythons the tool as well, and of the servers the verbs alone.
ON_OTHER_PYTHONS = (
    "--ignore-glob=tests/backends/redis/*",
    "--ignore-glob=tests/backends/postgres/*",
    "-k",
    (f"(not contract or test_contract or not {_NOT_A_FILE}) and (not cli or file)"),
)
AT_ONCE = ("--numprocesses=2", "--dist=worksteal")  # each has others at work
PYPROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, spelling and which floor imports from which."""
    session.log(f"All default sessions together take {DURATION}.")
    session.install(*group("lint"), ".")
    ruff(session)
    session.run("codespell", "--toml", "pyproject.toml", *tracked(session))
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of everything, and that the public ones are complete."""
    session.install(
        *group("types"), *group("tests"), *group("bench"), "nox", "-e", ".[all]"
    )
    session.run(
        "mypy", "catalyst_seen", "tests", "examples", "benchmarks", "noxfile.py"
    )
    session.run("basedpyright", "--verifytypes", "catalyst_seen", "--ignoreexternal")


@nox.session(default=False, reuse_venv=True)
def quick(session: nox.Session) -> None:
    """Check the style and run the fast tests on a file, in a minute."""
    session.install(*group("lint"), *group("tests"), "-e", ".")
    ruff(session)
    run_on_a_file(session)


@nox.session
def minimal(session: nox.Session) -> None:
    """Run SQLite's fast tests without any extra, on the oldest dependencies we name."""
    oldest = [name.replace(">=", "==") for name in PYPROJECT["project"]["dependencies"]]
    session.install(*group("tests"), *oldest, ".")
    plugins = ("-p", "no:anyio")  # the oldest anyio's is too old for pytest
    run_on_a_file(session, *plugins)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the installed package, with every extra and real servers.

    The fast tests that do not repeat others on another backend have to reach the floor
    of the coverage in ``pyproject.toml`` alone. The others, and the slow ones, run the
    same lines, and would take nearly twice as long while it is measured. With
    arguments, one run without coverage.
    """
    if session.posargs:
        everything(session)
    else:
        everything(session, *MEASURED, "--cov")
        run_tests(session, *NOT_MEASURED)


@nox.session
def readme(session: nox.Session) -> None:
    """Run the README's code and the examples; test the benchmarks and their results."""
    session.install(*group("tests"), *group("bench"), ".[all]")
    files = sorted(str(path) for path in Path("tests/docs").glob("test_*.py"))
    found = filter(IN_README.search, files)
    session.run("pytest", *IN_PARALLEL, *found, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in docs/_build; `-- --links` checks web addresses.

    A warning is an error: a link inside the site, or to a file of the repository, that
    leads nowhere; a public name that no page documents. All of that without a network.
    """
    session.install(*group("docs"), ".[all]")
    options = ("-E", "-W", "-n", "--keep-going", "docs")
    session.run("sphinx-build", "-q", "-b", "html", *options, "docs/_build/html")
    if "--links" in session.posargs:
        session.run("sphinx-build", "-b", "linkcheck", *options, "docs/_build/links")


@nox.session
def monitoring(session: nox.Session) -> None:
    """Let each alert fire by its fault, with Prometheus's promtool."""
    found = shutil.which("promtool") or unpacked_promtool(session)
    if found is None:
        reason = "promtool: not on the path, and apt-get cannot download it"
        session.error(reason) if os.environ.get("CI") else session.skip(reason)
    session.install(*group("tests"), *group("servers"), ".[all]")
    files = (PROMTOOL_TESTS, *session.posargs)
    session.run("pytest", *IN_PARALLEL, *files, env={"PROMTOOL": found})


@nox.session(default=False)
def torture(session: nox.Session) -> None:
    """Inject every fault in earnest, and write what came of it to docs/reliability.md.

    With ``-- --quick`` only their short forms, which ``tests`` runs as well.
    """
    session.install(*group("tests"), *group("servers"), ".[all]")
    options = [option for option in session.posargs if option != "--quick"]
    if options == session.posargs:
        options += ["--torture", "--report=docs/reliability.md"]
    session.run("pytest", "-v", "-m", "torture", *AT_ONCE, *options)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the store beside others; with ``-- --quick`` in three minutes."""
    session.install(*group("bench"), ".")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=False, default=False)
def others(session: nox.Session) -> None:
    """Run all tests on each other version of Python that is on this machine."""
    for version in OTHER_PYTHONS:
        session.notify(f"others-{version}")


@nox.session
def package(session: nox.Session) -> None:
    """Build, and use the wheel where nothing else is installed."""
    session.install(*group("package"))
    session.run("python", "-m", "tests.release", "package", session.create_tmp())


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Check what a release must fulfil; `-- --tag v0.1.0` names a tag to come.

    That is the version, the changelog, the tag, what is in the archives, the use of the
    source archive, and licences and known vulnerabilities of the dependencies.
    """
    session.install(*group("package"), *group("release"))
    check = ("python", "-m", "tests.release", "check", session.create_tmp())
    session.run(*check, *session.posargs)


def ruff(session: nox.Session) -> None:
    """Check rules and format."""
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


def everything(session: nox.Session, *options: str) -> None:
    """Install every extra, and run all tests but those of sessions of their own."""
    session.install(*group("tests"), *group("servers"), ".[all]")
    run_tests(session, *options, *session.posargs)


def run_on_a_file(session: nox.Session, *options: str) -> None:
    """Run the fast tests that need no extra, the contract on a file alone."""
    selected = (*FAST, *ON_A_FILE, *WITHOUT_EXTRAS)
    session.run("pytest", *IN_PARALLEL, *selected, *options, *session.posargs)


def run_tests(session: nox.Session, *options: str) -> None:
    """Run pytest in parallel, without what ``readme`` and ``monitoring`` run."""
    ignored = [
        f"--ignore-glob={name}"
        for name in ("tests/*readme*", "tests/*benchmarks*", f"{PROMTOOL_TESTS}/*")
    ]
    session.run("pytest", *IN_PARALLEL, *ignored, *options)


def unpacked_promtool(session: nox.Session) -> str | None:
    """Unpack the tool from Debian's package, without installing that."""
    if shutil.which("apt-get") is None:
        return None
    folder = Path(session.create_tmp()).absolute() / "prometheus"
    tool = folder / "usr" / "bin" / "promtool"
    if tool.exists():
        return str(tool)
    folder.mkdir(exist_ok=True)
    download = "apt-get download prometheus && dpkg-deb -x prometheus_*.deb ."
    update = "apt-get update --quiet=2" if os.geteuid() == 0 else "false"
    with session.chdir(folder):
        session.run(
            "sh", "-c", f"{{ {download}; }} || {{ {update} && {download}; }}",
            external=True, success_codes=range(256),
        )  # fmt: skip
    return str(tool) if tool.exists() else None


def tracked(session: nox.Session) -> list[str]:
    """Name the files that git knows, where there is git."""
    listed = session.run("git", "ls-files", external=True, silent=True)
    return str(listed).split()


def python_folders() -> Iterator[tuple[str, Path, str]]:
    """List where interpreters are installed: a name, a folder, a pattern inside it."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share"))
    for folder in map(Path, os.get_exec_path()):
        yield "the path", folder, "python{}"
        if folder.name == "shims":  # of a pyenv that is neither at home nor named
            yield "pyenv", folder.parent / "versions", "{}*/bin/python{}"
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    yield "pyenv", pyenv / "versions", "{}*/bin/python{}"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", data / "uv" / "python"))
    yield "uv", uv, "cpython-{}*/bin/python{}"
    yield "/opt", Path("/opt"), "*/bin/python{}"
    yield "/opt", Path("/opt"), "hostedtoolcache/Python/{}*/*/bin/python{}"


def find_python(version: str) -> str | None:
    """Find an interpreter of a version that starts and has SQLite; newest first.

    The folders of pyenv and uv are searched because their interpreters are often not on
    the path, or are there only as a shim that refuses to start.
    """
    for _, folder, pattern in python_folders():
        name = pattern.replace("{}", version)
        for path in sorted(folder.glob(name), key=version_numbers, reverse=True):
            if reported_version(path) == version:
                return str(path)
    return None


def version_numbers(path: Path) -> list[int]:
    """Sort 3.12.10 after 3.12.9."""
    return [int(number) for number in re.findall(r"\d+", str(path))]


def reported_version(path: Path) -> str | None:
    """Start an interpreter and return its version; ``None`` if it cannot be used."""
    program = "import sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [path, "-c", program],
            capture_output=True,
            check=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def add_sessions(version: str) -> None:
    """Register the sessions on one other version of Python."""
    python = find_python(version)

    def require_python(session: nox.Session) -> None:
        if python is None:
            searched = ", ".join(dict.fromkeys(name for name, *_ in python_folders()))
            session.skip(f"Python {version}: not found (searched {searched})")
        session.log(f"Python {version}: {python}")

    @nox.session(name=f"quick-{version}", python=python or False, reuse_venv=True)
    def fast(session: nox.Session) -> None:
        require_python(session)
        everything(session, *FAST, *ON_OTHER_PYTHONS)

    @nox.session(name=f"others-{version}", python=python or False, default=False)
    def full(session: nox.Session) -> None:
        require_python(session)
        everything(session)

    fast.__doc__ = f"Run the fast tests on a file on Python {version}, if it is here."
    full.__doc__ = f"Run all tests on Python {version}, if it is on this machine."


for other in OTHER_PYTHONS:
    add_sessions(other)
