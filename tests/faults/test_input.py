"""Group F: what is no key, and keys that look alike; on every backend."""

from __future__ import annotations

import enum
import functools
import math
import sqlite3
import unicodedata
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from catalyst_seen import AsyncSeenStore, InvalidKeyError, SeenStore, SeenStoreConfig

from ..support.targets import Target
from ..support.verbs import KEY_VERBS, NAMESPACE_VERBS
from .harness.checker import History
from .harness.processes import stored
from .harness.report import Fault, Row


class Name(str):
    """Text of a kind of its own."""

    __slots__ = ()


class Word(enum.StrEnum):
    """Text that is one of a few."""

    MEMBER = "word"


class Number(enum.IntEnum):
    """A number that is one of a few."""

    MEMBER = 1


class Pretender:
    """Looks like text to whoever asks only for its text."""

    def __str__(self) -> str:
        """Be taken for a key."""
        return "1"

    def __eq__(self, other: object) -> bool:
        """Be the same as the key."""
        return other == "1"

    def __hash__(self) -> int:
        """Be found where the key is."""
        return hash("1")


# What is no text; and the text that it could be taken for.
NOT_TEXT: list[tuple[object, str]] = [
    (None, "None"), (1, "1"), (0, "0"), (-1, "-1"), (2**64, str(2**64)), (1.0, "1.0"),
    (1.5, "1.5"), (math.nan, "nan"), (math.inf, "inf"), (True, "True"), (False, "1"),
    (b"k", "k"), (bytearray(b"k"), "k"), (memoryview(b"k"), "k"), (Decimal(1), "1"),
    (Fraction(1), "1"), (1j, "1j"), (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01 00:00:00+00:00"), (("k",), "k"),
    (["k"], "k"), ({"k"}, "k"), ({"k": 1}, "k"), (frozenset(), "frozenset()"),
    (Number.MEMBER, "1"), (PurePosixPath("k"), "k"), (object, "k"), (Pretender(), "1"),
    (range(1), "0"), (..., "..."),
]  # fmt: skip
ALL_NAMESPACES = [  # where None is no namespace, but means all of them
    ("namespace", name, None)
    for name in ("count", "held", "stats", "purge_expired", "cleanup")
]
TEXT = [(Name("named"), "named"), (Word.MEMBER, "word")]


EDGES = [
    "", " ", "\t\n\r", "\u2003", "\u3000", "\x1c", "\0", "a\0b", "k\0", "\0k", "\ud800",
    "k\udfff", "\udc80", "\ud83d\ude00", "k" * 2_048, "k" * 2_049, "é" * 1_024,
    "é" * 1_024 + "k", "\u20ac" * 683, "\u20ac" * 682 + "kk", "\U0001f600" * 512,
    "\U0001f600" * 513, "k" * 1_000_000, " " * 2_048, " " * 3_000, "\ufeff", "\ufeffk",
    "\u200b", "\x7f", "\x01", "\x85", "\xa0", "\u2028", "\ufffe", "\uffff",
    "\U0010ffff", "'", '"', "\\", "%", "_", "--", "; DROP TABLE seen", "$1", "?", ":k",
    "{k}", "k\r\nDEL k", "null", "[]", '"k"',
]  # fmt: skip
Id = tuple[str, str]


@pytest.fixture
async def store(target: Target) -> AsyncIterator[AsyncSeenStore]:
    """An open store on each backend, which asks it each time."""
    config = target.config(purge_interval=None, recent_staleness=0)
    async with AsyncSeenStore(config) as made:
        yield made


def is_fine(text: str) -> bool:
    """Tell what is a key, by the words of the README."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    if not text.strip() or text[0] in "\r\n" or text[-1] in "\r\n":
        return False
    return size <= 2_048 and "\0" not in text


async def conclude(
    row: Row, store: AsyncSeenStore, target: Target, ids: Iterable[Id]
) -> None:
    """Add a round that marked these, and nothing else.

    A file is read by another connection, letter by letter; a server's rows are asked
    for and counted.
    """
    history, final = History(), set[str]()
    for id_ in ids:
        history.tell(ascii(id_), "new")
    intact = True
    if target.name == "file":
        query = "SELECT name, key FROM seen JOIN namespace ON id = namespace"
        with closing(sqlite3.connect(str(target.settings.path))) as db:
            final = {ascii(id_) for id_ in db.execute(query)}
            intact = db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    else:
        wanted = defaultdict(list)
        for namespace, key in ids:
            wanted[namespace].append(key)
        for namespace, keys in wanted.items():
            fresh = set(await store.filter_new(keys, namespace=namespace))
            final |= {ascii((namespace, key)) for key in keys if key not in fresh}
        if await store.count() > len(final):
            final.add("what nobody marked")
    row.add(history, final, intact=intact)


async def test_types(store: AsyncSeenStore, target: Target, fault: Fault) -> None:
    """What is no str is refused by every verb, whatever text it could be taken for."""
    row = fault("F1", f"keys and namespaces that are no str, {target.name}")
    texts = {text for _, text in NOT_TEXT}
    await store.mark_many(texts)
    await store.mark_many(["1"], namespace="1")
    cells = 0
    for value, _ in NOT_TEXT:
        for verbs, argument in ((KEY_VERBS, "key"), (NAMESPACE_VERBS, "namespace")):
            for name, verb in verbs.items():
                if (argument, name, value) in ALL_NAMESPACES:
                    continue
                if argument == "namespace" and value is ...:  # the default
                    continue
                with pytest.raises(TypeError, match=f"{argument}.* must be a str"):
                    await verb(store, value)
                cells += 1
    for value, text in TEXT:
        assert await store.check_and_mark(value)
        assert not await store.check_and_mark(text)
        cells += 2
    marked = {("", text) for text in texts | {text for _, text in TEXT}}
    await conclude(row, store, target, {*marked, ("1", "1")})
    row.passed(cells - 1)
    row.note(f"{len(NOT_TEXT)} values in {cells} places, none taken for its text")


async def test_edges(store: AsyncSeenStore, target: Target, fault: Fault) -> None:
    """A text at the edge of the rules is refused, or kept; alone and in a batch."""
    row = fault("F2", f"texts at the edge of the rules, {target.name}")
    kept: set[Id] = set()
    for text in EDGES:
        if is_fine(text):
            assert await store.check_and_mark(text)
            assert await store.check_and_mark_many(["fine", text], namespace="b")
            assert await store.is_seen(text, namespace="b")
            kept |= {("", text), ("b", text)}
        else:
            for verb in KEY_VERBS.values():
                with pytest.raises(InvalidKeyError):
                    await verb(store, text)
    await conclude(row, store, target, {*kept, ("b", "fine")})
    row.passed(len(EDGES) - 1)
    refused = len(EDGES) - len(kept) // 2
    row.note(f"{refused} refused by each of {len(KEY_VERBS)} verbs, the others kept")
    assert refused > 10


TEXTS = st.one_of(
    st.text(st.characters(), max_size=8),
    st.text("ab\0 \ud800\ufeff\u0301\x1f:", max_size=6),
    st.builds(lambda text, times: text * times,
              st.text(st.characters(), min_size=1, max_size=3), st.integers(300, 800)),
)  # fmt: skip


async def test_any_text(
    store: AsyncSeenStore, target: Target, fault: Fault, *, torture: bool
) -> None:
    """Of whatever texts, each is refused or kept as it is, and all are told apart."""
    row = fault("F2", f"any texts at all, {target.name}")
    ids: set[Id] = set()
    texts = any_texts(10_000 if torture else 500)
    for text in texts:
        outcomes = [
            await outcome(store.check_and_mark(text)),
            await outcome(store.check_and_mark_many([text, "fine"], namespace="b")),
        ]
        wanted = ("new" if ("", text) not in ids else "dup") if is_fine(text) else "bad"
        assert outcomes == [wanted] * 2, ascii(text)
        if is_fine(text):
            ids |= {("", text), ("b", text)}
    fine = [key for namespace, key in ids if not namespace]
    assert await store.filter_new([*fine, "fine "]) == ["fine "]
    await conclude(row, store, target, ids | {("b", "fine")})
    row.passed(len(texts) - 1)
    row.note(f"{len(texts):,} texts: {len(fine):,} different ones kept, collisions 0")


@functools.cache
def any_texts(number: int) -> list[str]:
    """Let Hypothesis think of texts; one at a time, for in lists it repeats itself."""
    found: list[str] = []

    @settings(
        max_examples=number, database=None, deadline=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(TEXTS)
    def collect(text: str) -> None:
        found.append(text)

    collect()
    return found


async def outcome(call: Awaitable[object]) -> str:
    """Say what became of the first key of a call."""
    try:
        answer = await call
    except InvalidKeyError:
        return "bad"
    first = answer[0] if isinstance(answer, list) else answer
    return "new" if first else "dup"


FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = (
    "NFC", "NFD", "NFKC", "NFKD",
)  # fmt: skip


def pairs() -> list[Id]:
    """Find texts that look alike, or that some database takes for the same."""
    found = [
        ("k", "k "), ("k", " k"), ("k", "k\n"), ("k", "k\u200b"), ("k", "\ufeffk"),
        ("K", "\u212a"), ("1", "1.0"), ("1", "01"), ("a%20b", "a b"), ("i", "\u0130"),
        ("ß", "ss"), ("æ", "ae"), ("\ufb01", "fi"), ("\u2163", "IV"), ("\uff11", "1"),
        ("a", "\u0430"), ("Å", "\u212b"), ("k" * 2_047 + "a", "k" * 2_047 + "b"),
    ]  # fmt: skip
    for letter in map(chr, range(0x80, 0x2000)):
        others = [unicodedata.normalize(form, letter) for form in FORMS]
        others += [letter.lower(), letter.upper(), letter.casefold()]
        found += [(letter, other) for other in others]
    found += [(letter, f"{letter} ") for letter in map(chr, range(0x21, 0x17F))]
    fine = {one for one in found if all(map(is_fine, one)) and one[0] != one[1]}
    return sorted(fine)


async def test_pairs(store: AsyncSeenStore, target: Target, fault: Fault) -> None:
    """Texts that look alike are different keys: NFC and NFD, case, blanks."""
    row = fault("F3", f"keys that look alike, {target.name}")
    alike = pairs()
    texts = sorted({text for pair in alike for text in pair})
    assert all(await store.check_and_mark_many(texts))
    assert not any(await store.check_and_mark_many(reversed(texts)))
    await conclude(row, store, target, [("", text) for text in texts])
    row.passed(len(alike) - 1)
    row.note(f"{len(alike):,} pairs of {len(texts):,} keys, all told apart")


SEPARATORS = [
    ":", "::", "/", "//", "|", ",", ";", ".", "-", "_", " ", "\t", "\n", "\x1f", "\x1e",
    "\x01", "%", "%3A", "\\", "'", '"', "{", "}", "*", "?", "#", "&", "=", "\u200b",
    "é",
]  # fmt: skip


async def test_namespaces(store: AsyncSeenStore, target: Target, fault: Fault) -> None:
    """However a text is divided into namespace and key, each division is another."""
    row = fault("F4", f"namespaces that end where keys begin, {target.name}")
    ids: set[Id] = set()
    for separator in SEPARATORS:
        for text in (f"a{separator}b{separator}c", f"{separator}a{separator}"):
            ids |= {(text[:end], text[end:]) for end in range(len(text))}
            ids |= {(text, text), (f"a{separator}", "b"), ("a", f"{separator}b")}
            ids |= {("a", "b"), ("ab", "c"), ("a", "bc")}
    fine = sorted(id_ for id_ in ids if is_fine(id_[1]) and is_fine(f"{id_[0]}k"))
    fine = [id_ for id_ in fine if not id_[0].isspace()]
    for namespace, key in fine:
        assert await store.check_and_mark(key, namespace=namespace), (namespace, key)
    for namespace, key in fine:
        assert not await store.check_and_mark(key, namespace=namespace)
    await conclude(row, store, target, fine)
    row.passed(len(fine) - 1)
    row.note(f"{len(SEPARATORS)} separators, {len(fine)} divisions, collisions 0")


NAMES = [
    "seen?.db", "seen.db?mode=memory", "seen.db?vfs=none", "seen#1.db", "se en.db",
    " .db", "sé\u0301en.db", "\U0001f440.db", "file:seen.db", "file:seen.db?mode=ro",
    "file::memory:", ":memory:.db", "-seen.db", "--", "seen%20.db", "%73een.db",
    "seen'.db", 'seen".db', "seen;.db", "seen\n.db", "seen\\.db", "seen&cache=shared",
    "~", "$HOME", "*.db", "x" * 240,
]  # fmt: skip


def test_paths(tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file is called, it is that file that is made, and no other."""
    row = fault("F5", "names of files, each as a whole path and from where we are")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number, name in enumerate(NAMES):
        for is_whole in (True, False):
            folder = tmp_path / f"{number}{is_whole}"
            folder.mkdir()
            monkeypatch.chdir(folder)
            whole = folder / name
            given = "./~" if name == "~" else name  # alone it is the home directory
            config = SeenStoreConfig(whole if is_whole else given, purge_interval=None)
            with SeenStore(config) as store:
                assert store.check_and_mark("k")
                monkeypatch.chdir(elsewhere)
                assert store.check_and_mark("l")
                assert listed(folder) <= {name, f"{name}-wal", f"{name}-shm"}
            assert listed(folder) == {name}
            history = History([("k", "new"), ("l", "new")])
            keys, intact = stored(whole)
            row.add(history, keys, intact=intact)
    assert not listed(elsewhere)
    row.note(f"{len(NAMES)} names")


def listed(folder: Path) -> set[str]:
    """Name what is in a folder."""
    return {path.name for path in folder.iterdir()}
