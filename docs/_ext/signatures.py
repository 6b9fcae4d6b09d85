"""Signatures that a person can read.

autodoc would show each overload by itself, ``EllipsisType`` in every union, names of
private modules, and ``**claim`` for the options of a claim. Here a function has one
signature, made of the annotations as they are written:

- ``EllipsisType`` is left out: the default ``...`` stands for that of the store;
- ``Unawaited[T]`` is ``T`` beside the word ``async``;
- a private alias is written out, and the options of ``claim`` are listed;
- a class has a signature only where programs construct it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from functools import partial
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.domains.python import PyObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

CONSTRUCTED = {
    "AsyncSeenStore",
    "Feed",
    "FeedRules",
    "Fields",
    "MemoryBackend",
    "Parser",
    "Poller",
    "PostgresBackend",
    "RedisBackend",
    "SeenStore",
    "SeenStoreConfig",
    "Transfer",
}
TWINS = {
    "BlockingClaim": "Claim",
    "BlockingPendingClaims": "PendingClaims",
    "SeenStore": "AsyncSeenStore",
}
ALIASES = {
    "Clock": "Callable[[], float]",
    "First": "int | Literal['baseline', 'all']",
    "Note": "str | Callable[[str], str | None] | None",
    "OnError": "Literal['answer', 'raise']",
    "RecordState": "Literal['seen', 'claimed', 'released', 'pending', 'held']",
    "Sqlite": "Literal['stdlib', 'pysqlite3']",
    "Store": "AsyncSeenStore | SeenStore",
    "Synchronous": "Literal['OFF', 'NORMAL', 'FULL', 'EXTRA']",
}
WRITTEN = {
    "once.function": "Callable[[], T | Awaitable[T]]",
    "once.return": "Once[T]",
}
"""Annotations that the implementation below its overloads cannot have."""

_COLON = "\0"
_QUALIFIED = re.compile(
    r"\b(?:catalyst_seen|collections|typing|datetime)\.(?:\w+\.)*(\w+)\b"
)

_awaited: set[str] = set()
"""Verbs to be awaited: autodoc sees the function that makes their ``Unawaited``."""


def signature(  # noqa: PLR0917 - the event has them
    app: Sphinx,  # noqa: ARG001
    what: str,
    name: str,
    obj: Any,  # noqa: ANN401
    options: object,  # noqa: ARG001
    args: str | None,
    returned: str | None,  # noqa: ARG001
) -> tuple[str, str] | None:
    """Return the signature of an object, and what it returns."""
    if args is None:
        return None
    short = name.rpartition(".")[2]
    if what in {"class", "exception"}:
        if short not in CONSTRUCTED:
            return "", ""
        parameters = _with_defaults(obj, inspect.signature(obj).parameters.values())
        return f"({_listed(parameters, short, _annotation)})", ""
    found = inspect.signature(obj)
    parameters = list(found.parameters.values())
    if what == "method" and parameters and parameters[0].name == "self":
        parameters.pop(0)
        if inspect.iscoroutinefunction(inspect.unwrap(obj)):
            _awaited.add(name)
    is_generic = bool(typing.get_overloads(inspect.unwrap(obj)))
    annotated = partial(_annotation, is_generic=is_generic)
    result = annotated(found.return_annotation, f"{short}.return")
    return f"({_listed(parameters, short, annotated)})", result


def _listed(
    parameters: typing.Iterable[inspect.Parameter],
    function: str,
    annotated: typing.Callable[[object, str], str],
) -> str:
    """Write parameters as in a ``def``."""
    shown: list[str] = []
    is_named = False
    for one in _expanded(parameters):
        if one.name == "tuning" or one.name.startswith("_"):
            continue  # internal
        if one.kind is one.KEYWORD_ONLY and not is_named:
            shown.append("*")
        is_named = is_named or one.kind in {one.KEYWORD_ONLY, one.VAR_POSITIONAL}
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        text = f"{star}{one.name}"
        if one.annotation is not one.empty:
            text += f": {annotated(one.annotation, f'{function}.{one.name}')}"
        if one.default is not one.empty:
            is_octal = one.name == "file_mode"
            default = oct(one.default) if is_octal else _default(one.default)
            text = f"{text} = {default}"
        shown.append(text)
    return ", ".join(shown)


def _expanded(
    parameters: typing.Iterable[inspect.Parameter],
) -> Iterator[inspect.Parameter]:
    """Yield parameters; the options of a claim in the place of ``**claim``."""
    from catalyst_seen._store import AsyncSeenStore, ClaimOptions

    of_claim = inspect.signature(AsyncSeenStore.claim).parameters
    for one in parameters:
        if one.annotation == "Unpack[ClaimOptions]":
            yield from (of_claim[name] for name in ClaimOptions.__annotations__)
        else:
            yield one


def _with_defaults(
    class_: type, parameters: typing.Iterable[inspect.Parameter]
) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a class; with what a factory makes as the default."""
    made = {}
    if dataclasses.is_dataclass(class_):
        made = {
            one.name: one.default_factory()
            for one in dataclasses.fields(class_)
            if one.default_factory is not dataclasses.MISSING
        }
    for one in parameters:
        yield one.replace(default=made.get(one.name, one.default))


def _annotation(annotation: object, place: str, *, is_generic: bool = False) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    text = annotation
    if not isinstance(text, str):
        text = inspect.formatannotation(annotation)
    text = WRITTEN.get(place, text)
    text = text.replace(" | EllipsisType", "").replace("os.PathLike", "PathLike")
    text = _QUALIFIED.sub(r"\1", text)
    text = re.sub(r"^Unawaited\[(.*)\]$", r"\1", text)
    if is_generic:
        text = re.sub(r"\bAny\b", "T", text)
    return re.sub(r"\b\w+\b", lambda match: ALIASES.get(match[0], match[0]), text)


def _default(value: object) -> str:
    if value is ...:
        return "..."
    if inspect.isbuiltin(value):
        return f"{value.__module__}.{value.__name__}"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}()"
    return repr(value)


def docstring(  # noqa: PLR0917 - the event has them
    app: Sphinx,  # noqa: ARG001
    what: str,
    name: str,
    obj: object,  # noqa: ARG001
    options: object,  # noqa: ARG001
    lines: list[str],
) -> None:
    """Shorten what a blocking verb has in common with its twin to the first sentence.

    One that differs from its twin refers to it by name, and is left as it is.
    """
    *_, class_, member = ["", *name.split(".")]
    twin = TWINS.get(class_)
    if twin and f"{twin}.{member}" not in " ".join(lines):
        package = importlib.import_module("catalyst_seen")
        text = inspect.getdoc(getattr(getattr(package, twin), member, None)) or ""
        lead = text.partition("\n\n")[0]
        if lead and "\n".join(lines).startswith(f"{lead}\n"):
            lines[:] = [*lead.splitlines(), "", f"See :py:obj:`{twin}.{member}`.", ""]
    if what in {"attribute", "data", "property"}:
        # Google style takes what stands before a colon for a type.
        lines[:1] = [line.replace(":", _COLON) for line in lines[:1]]


def types_of_attributes(  # noqa: PLR0917 - the event has them
    app: Sphinx,  # noqa: ARG001
    what: str,  # noqa: ARG001
    name: str,  # noqa: ARG001
    obj: object,  # noqa: ARG001
    options: object,  # noqa: ARG001
    lines: list[str],
) -> None:
    """Write private aliases out in the types of attributes, and colons again."""
    for place, line in enumerate(lines):
        lines[place] = line.replace(_COLON, ":")
        if line.startswith(":vartype"):
            field, name_, text = line.split(" ", 2)
            lines[place] = f"{field} {name_} {_annotation(text, '')}"


def say_async(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Write ``async`` before the verbs that have to be awaited."""
    for one in doctree.findall(addnodes.desc_signature):
        name = f"{one.get('module')}.{one.get('fullname')}"
        if name in _awaited and not one.astext().startswith("async"):
            word = addnodes.desc_sig_keyword("", "async")
            one.insert(0, addnodes.desc_annotation("", "", word, nodes.Text(" ")))


def write_dashes(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Write the dash of a list of fields, which Sphinx leaves to its smart quotes."""
    for text in [one for one in doctree.findall(nodes.Text) if one == " -- "]:
        text.parent.replace(text, nodes.Text(" – "))  # noqa: RUF001


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-docstring", types_of_attributes, priority=600)
    app.connect("doctree-read", say_async)
    app.connect("doctree-read", write_dashes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
