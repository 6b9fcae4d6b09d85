"""``llms.txt`` and ``llms-full.txt``, and each page as plain text beside its HTML.

``llms.txt`` lists the pages with a line on each; ``llms-full.txt`` has all of their
text. A page that is written by hand is given as its Markdown, one that autodoc makes as
the text that Sphinx's own text writer makes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.writers.text import TextTranslator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

LEFT_OUT = {"reliability", "changes"}
"""Pages that ``llms-full.txt`` has no room for; ``llms.txt`` lists them."""


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the files after a build of HTML."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    index = [f"# {app.config.project}", "", f"> {_lead(app.env, 'index')}"]
    full: list[str] = []
    for section, names in _sections(app.env):
        index += ["", f"## {section}", ""]
        for name in names:
            text = _text(app, name)
            place = out / f"{name}.md"
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")
            title = app.env.titles[name].astext()
            index.append(f"- [{title}]({name}.md): {_lead(app.env, name)}")
            if name not in LEFT_OUT:
                full.append(text)
    (out / "llms.txt").write_text("\n".join(index) + "\n", encoding="utf-8")
    (out / "llms-full.txt").write_text("\n\n".join(full), encoding="utf-8")


def _sections(env: BuildEnvironment) -> Iterator[tuple[str, list[str]]]:
    """Yield the captions of the site's contents, each with its pages."""
    from sphinx.addnodes import toctree

    for tree in env.get_doctree("index").findall(toctree):
        names = [name for _, name in tree["entries"]]
        pages = [page for name in names for page in [name, *_below(env, name)]]
        yield str(tree.get("caption") or "Pages"), pages


def _below(env: BuildEnvironment, name: str) -> Iterator[str]:
    for child in env.toctree_includes.get(name, []):
        yield child
        yield from _below(env, child)


def _text(app: Sphinx, name: str) -> str:
    path = Path(app.env.doc2path(name))
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md" and "{include}" not in source:
        return source
    doctree = app.env.get_and_resolve_doctree(name, app.builder)
    translator = TextTranslator(doctree, app.builder)  # type: ignore[arg-type]
    doctree.walkabout(translator)
    return translator.body


def _lead(env: BuildEnvironment, name: str) -> str:
    """Return the first paragraph of a page, in one line."""
    for paragraph in env.get_doctree(name).findall(nodes.paragraph):
        return " ".join(paragraph.astext().split())
    return ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
