"""The names of Redis keys, in the present layout and in that of earlier releases."""

from __future__ import annotations

from binascii import crc_hqx

from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from catalyst_seen.backends.redis.keys import KeyCodec, OldKeyCodec

SLOTS = 16_384
SPECIAL = st.text(st.sampled_from("{}%:*?[]\\^-<!a2537BDé"), min_size=1, max_size=20)
TEXTS = SPECIAL | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NAMESPACES = TEXTS | st.just("")
KEYS = TEXTS.filter(bool)
PREFIXES = st.sampled_from(["seen", "a{b}", "{", "}", "%", "%7B", "s[ab]*", "é"])


@given(PREFIXES, NAMESPACES, KEYS)
@example("seen", "é" * 1_024, "k")
@example("a{b}", "a}b{c", "}:{k}")
def test_name_has_its_namespace_and_key(prefix: str, namespace: str, key: str) -> None:
    """Every name is decoded to what was encoded, in both layouts."""
    for codec in (KeyCodec(prefix), OldKeyCodec(prefix)):
        assert codec.decode(codec.encode(namespace, key)) == (namespace, key)


@given(PREFIXES, PREFIXES, NAMESPACES, KEYS)
@example("seen", "seen", "%{a}", "k")
@example("seen", "seen", "{a}", "k")
def test_layouts_can_be_told_apart(
    prefix: str, other: str, namespace: str, key: str
) -> None:
    """No name of a layout is one of the other layout, whatever their prefixes."""
    old, new = OldKeyCodec(prefix), KeyCodec(other)
    assert new.decode(old.encode(namespace, key)) is None
    assert not new.owns(old.encode(namespace, key))
    assert old.decode(new.encode(namespace, key)) is None
    assert old.decode(new.layout) is None


@given(PREFIXES, PREFIXES, NAMESPACES, KEYS)
def test_prefixes_share_no_name(
    prefix: str, other: str, namespace: str, key: str
) -> None:
    """A name with one prefix is no name with another one."""
    is_own = KeyCodec(other).decode(KeyCodec(prefix).encode(namespace, key)) is not None
    assert is_own == (prefix == other)


@given(st.binary(max_size=30))
@example(b"}:k")
@example(b"a}b}:k")
@example(b"%41}:k")
@example(b"%ff}:k")
@example(b"%7b}:k")
@example(b"a}:")
@example(b"a}:\xff")
def test_only_encoded_names_are_decoded(rest: bytes) -> None:
    """A name that is decoded is the one that its namespace and key have."""
    codec = KeyCodec("seen")
    name = b"seen:%{" + rest
    id_ = codec.decode(name)
    assert id_ is None or codec.encode(*id_) == name


@given(PREFIXES, TEXTS.filter(bool), KEYS, KEYS, TEXTS)
def test_namespace_has_one_slot(
    prefix: str, namespace: str, key: str, other: str, source: str
) -> None:
    """The keys of a namespace share a slot of a cluster, as its markers do."""
    codec = KeyCodec(prefix)
    names = [codec.encode(namespace, one) for one in (key, other)]
    names.append(codec.renaming(source, namespace))
    assert len({key_slot(name) for name in names}) == 1


@given(TEXTS.filter(bool), KEYS)
def test_tag_is_that_of_the_namespace(namespace: str, key: str) -> None:
    """The tag holds the namespace, escaped: two namespaces rarely share a slot."""
    name = KeyCodec("seen").encode(namespace, key)
    tag = name[name.index(b"{") + 1 : name.index(b"}")]
    assert key_slot(name) == crc_hqx(tag, 0) % SLOTS


@given(KEYS)
@example("{a}b")
@example("}{a}")
def test_default_namespace_is_spread_by_the_whole_name(key: str) -> None:
    """Braces in a key of the default namespace do not make a tag."""
    name = KeyCodec("seen").encode("", key)
    assert key_slot(name) == crc_hqx(name, 0) % SLOTS


def test_names_are_those_of_the_documentation() -> None:
    """The form of the names is documented, for operators and access rights."""
    codec = KeyCodec("seen")
    assert codec.encode("bbc", "k:1") == b"seen:%{bbc}:k:1"
    assert codec.encode("", "k") == b"seen:%{}:k"
    assert codec.encode("https://a.b/?q=*", "k") == b"seen:%{https://a.b/%3Fq=%2A}:k"
    assert codec.layout == b"seen:%layout"
    assert OldKeyCodec("seen").encode("a:b", "k:1") == b"seen:a%3Ab:k:1"
