"""The tool ``catalyst-seen``, on the public interface of the package.

Standard output has data only; everything for a person goes to standard error. The exit
codes are those of ``Code``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDED = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool, and return its exit code.

    Args:
        arguments: The words of the command line; by default those of the process.
    """
    try:
        from ._main import run
    except ModuleNotFoundError as exc:
        if exc.name not in _NEEDED:
            raise
        sys.stderr.write(
            f"catalyst-seen: {exc.name} is not installed:"
            " pip install 'catalyst-seen[cli]'\n"
        )
        return 2
    return run(sys.argv[1:] if arguments is None else list(arguments))
