"""The settings of the documentation site, which ``nox -s docs`` builds."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from catalyst_seen import __version__

project = "catalyst-seen"
author = "The catalyst-seen developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "names",
    "repository",
    "signatures",
    "llms",
]
exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False  # "--once" is no dash
show_warning_types = True

html_theme = "furo"
html_title = f"catalyst-seen {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/catalyst-seen/catalyst-seen",
    "source_branch": "main",
    "source_directory": "docs/",
}
pygments_style = "default"
pygments_dark_style = "monokai"

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_url_schemes = ["http", "https", "mailto"]

autodoc_typehints = "none"  # the extension "signatures" writes them
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 68
toc_object_entries_show_parents = "hide"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

linkcheck_ignore = [
    r"https?://(localhost|[\w.]*example\b)",
    r"https://github\.com/catalyst-seen/catalyst-seen/blob/",  # checked as files
]
linkcheck_timeout = 30
