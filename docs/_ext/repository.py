"""Links to files of the repository, written as paths: ``[x](../examples/x.py)``.

On the site they lead to the file in the repository; a path without a file is a warning,
found without any network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
BLOB = "https://github.com/catalyst-seen/catalyst-seen/blob/main/"
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_PAGES = {".md", ".svg"}

logger = logging.getLogger(__name__)


def rewrite(app: Sphinx, docname: str, content: list[str]) -> None:
    """Turn the paths of a page that name files of the repository into addresses."""
    page = Path(app.env.doc2path(docname))

    def address(match: re.Match[str]) -> str:
        path = (page.parent / match[1]).resolve()
        is_page = path.suffix in _PAGES and path.is_relative_to(app.srcdir)
        if is_page or not path.is_relative_to(ROOT):
            return match[0]
        if not path.exists():
            logger.warning("no such file: %s", match[1], location=docname)
        return f"]({BLOB}{path.relative_to(ROOT)}{match[2] or ''})"

    content[0] = _LINK.sub(address, content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
