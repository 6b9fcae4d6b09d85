"""Archives are built, and used in an environment that holds nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FIRST_USE = Path(__file__).with_name("first_use.py")


def run(*command: object, cwd: Path = ROOT, code: int = 0) -> None:
    """Run a program that must end with this exit code, without our own path."""
    words = [str(word) for word in command]
    print("$", *(Path(words[0]).name, *words[1:]), flush=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(words, check=False, cwd=cwd, env=environment)
    if done.returncode != code:
        raise SystemExit(f"exit code {done.returncode}, and {code} was expected")


def build(folder: Path) -> tuple[Path, Path]:
    """Build a wheel, and the source archive from which it is made."""
    shutil.rmtree(folder, ignore_errors=True)
    quiet = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT],
        capture_output=True,
        check=False,
        text=True,
    )
    if quiet.returncode:
        raise SystemExit(quiet.stdout + quiet.stderr)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)
    return wheel, sdist


class CleanEnvironment:
    """An environment that holds an archive and its dependencies, and not even pip."""

    def __init__(self, folder: Path) -> None:
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder)
        scripts = "Scripts" if sys.platform == "win32" else "bin"
        self._folder = folder
        self._python = folder / scripts / "python"
        self._tool = folder / scripts / "catalyst-seen"

    @property
    def site_packages(self) -> Path:
        """Where the dependencies are."""
        (site,) = self._folder.glob("[Ll]ib/**/site-packages")
        return site

    def install(self, archive: Path, *, extra: str = "") -> None:
        """Install an archive; what it depends on must fit together."""
        pip = (sys.executable, "-m", "pip", "--python", self._python)
        run(*pip, "install", "--quiet", f"{archive}{extra}")
        run(*pip, "check")

    def use(self, archive: Path) -> None:
        """Use the package and the tool, with nothing and with the tool's extra."""
        self.install(archive)
        outside = self._folder
        run(self._python, "-I", _FIRST_USE, cwd=outside)
        run(self._tool, "--help", cwd=outside, code=2)  # no click yet
        self.install(archive, extra="[cli]")
        run(self._tool, "--help", cwd=outside)
