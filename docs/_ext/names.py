"""Links from every public name to its entry, and a check that each has one.

A signature or a text may write a public name with any module, or none; common names of
the standard library lead to its documentation. Each public name, and each public method
of a store and of a claim, must have an entry.
"""

from __future__ import annotations

import builtins
import collections.abc
import importlib
import re
import typing
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.domains.python import ObjectEntry
    from sphinx.environment import BuildEnvironment

MODULES = (
    "catalyst_seen",
    "catalyst_seen.backends",
    "catalyst_seen.feeds",
    "catalyst_seen.keys",
    "catalyst_seen.metrics",
    "catalyst_seen.restoring",
    "catalyst_seen.transfer",
)
PYTHON = "https://docs.python.org/3/library/"
STANDARD = {
    "Path": "pathlib.html#pathlib.Path",
    "Counter": "collections.html#collections.Counter",
    "Event": "asyncio-sync.html#asyncio.Event",
    "PathLike": "os.html#os.PathLike",
    "array": "array.html#array.array",
    "datetime": "datetime.html#datetime.datetime",
    "timedelta": "datetime.html#datetime.timedelta",
}
ABSTRACT = frozenset(collections.abc.__all__)
EVERYBODY_KNOWS = frozenset(dir(builtins)) | frozenset(typing.__all__)

EXTERNAL = {
    "ClientSession": "https://docs.aiohttp.org/en/stable/client_reference.html",
    "Pool": "https://magicstack.github.io/asyncpg/current/api/index.html",
}
PLAIN = {"Client", "Collector", "MeterProvider", "Result_co", "T_co", "Tuning"}
"""Names in signatures that have no entry: of other libraries, and of the inside."""


logger = logging.getLogger(__name__)


def missing(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """Find a public name by its last part, and names of the standard library."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = target.rpartition(".")[2]
    entry = _entry(env, target)
    if entry is not None:
        uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
        return nodes.reference(
            "", "", content, internal=True, refuri=f"{uri}#{entry.node_id}"
        )
    if last in ABSTRACT:
        uri = f"{PYTHON}collections.abc.html#collections.abc.{last}"
    elif last in STANDARD:
        uri = PYTHON + STANDARD[last]
    elif last in EXTERNAL:
        uri = EXTERNAL[last]
    elif last in PLAIN | EVERYBODY_KNOWS or len(last) == 1 or node.get("is_word"):
        return content  # a type variable has one letter
    else:
        return None
    return nodes.reference("", "", content, internal=False, refuri=uri)


def _entry(env: BuildEnvironment, target: str) -> ObjectEntry | None:
    """Find what a name means: it, its last part, or the class of an attribute."""
    objects = env.domains.python_domain.objects
    *_, owner, last = ["", *target.split(".")]
    for wanted in (f"{owner}.{last}".lstrip("."), last, owner):
        if not wanted[:1].isupper():
            continue
        names = [name for name in objects if name.endswith(f".{wanted}")]
        if names:
            return objects[min(names, key=len)]
    return None


def link_names(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Turn a public name in the text, such as ``SeenStoreConfig``, into a link."""
    names = public_names()
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)):
            continue
        if isinstance(literal.parent, nodes.title):
            continue
        text = literal.astext()
        if text.split(".")[0] not in names or not re.fullmatch(r"[\w.]+", text):
            continue
        reference = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=text, is_word=True
        )
        literal.replace_self(reference)
        reference += literal


def public_names() -> dict[str, str]:
    """Return the public classes and their like, each with its module."""
    return {
        name: module
        for module in reversed(MODULES)
        for name in getattr(importlib.import_module(module), "__all__", ())
        if name[:1].isupper()
    }


def check(app: Sphinx, env: BuildEnvironment) -> None:  # noqa: ARG001
    """Warn of a public name, or a public method of one, that has no entry."""
    known = set(env.domains.python_domain.objects)
    for module in MODULES:
        imported = importlib.import_module(module)
        for name in getattr(imported, "__all__", ()):
            if name.startswith("__"):
                continue
            places = {
                f"{one}.{name}"
                for one in MODULES
                if hasattr(importlib.import_module(one), name)
            }
            if not places & known:
                logger.warning("%s.%s is not documented", module, name, type="api")
                continue
            value = getattr(imported, name)
            if name not in {"AsyncSeenStore", "SeenStore", "Claim", "BlockingClaim"}:
                continue
            for member in dir(value):
                entries = {f"{place}.{member}" for place in places}
                if not member.startswith("_") and not entries & known:
                    logger.warning("%s.%s is not documented", name, member, type="api")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", link_names)
    app.connect("missing-reference", missing)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
