"""Keys of what sources list."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catalyst_seen import SeenStore, keys
from catalyst_seen.keys import (
    Fields,
    RecipeName,
    canonical_url,
    identity,
    recipe_name,
    storable,
)

PAGE = "https://shop.example/list?id=7"

SAME = {
    "scheme": "http://shop.example/list?id=7",
    "www": "https://www.shop.example/list?id=7",
    "case of the host": "HTTPS://Shop.EXAMPLE/list?id=7",
    "default port": "https://shop.example:443/list?id=7",
    "default port of http": "http://shop.example:80/list?id=7",
    "tracking before": "https://shop.example/list?utm_source=feed&id=7",
    "tracking after": "https://shop.example/list?id=7&UTM_Campaign=x&gclid=1",
    "mail": "https://shop.example/list?mc_cid=1&id=7&mc_eid=2",
    "from a feed": "https://shop.example/list?id=7&ref=rss",
    "escaped once": "https://shop.example/list?utm_medium=rss&amp;id=7",
    "escaped twice": "https://shop.example/list?utm_medium=rss&amp;amp;id=7",
    "fragment of tracking": "https://shop.example/list?id=7#xtor=RSS-1",
    "empty fragment": "https://shop.example/list?id=7#",
    "empty parameter": "https://shop.example/list?&id=7&",
    "needless escapes": "https://shop.example/%6Cist?%69d=%37",
    "blanks around": " https://shop.example/list?id=7\n",
}

OTHERS = {
    "slash": "https://shop.example/list/?id=7",
    "case of the path": "https://shop.example/List?id=7",
    "value": "https://shop.example/list?id=8",
    "value with a slash": "https://shop.example/list?id=7%2F",
    "parameter": "https://shop.example/list?id=7&tag=a",
    "ref of a branch": "https://shop.example/list?id=7&ref=main",
    "no parameter": "https://shop.example/list",
    "fragment": "https://shop.example/list?id=7#2",
    "port": "https://shop.example:8443/list?id=7",
    "host": "https://www2.shop.example/list?id=7",
    "user": "https://me@shop.example/list?id=7",
}


@pytest.mark.parametrize("url", SAME.values(), ids=SAME)
def test_spellings_of_one_address(url: str) -> None:
    """What says nothing about the page is folded."""
    assert canonical_url(url) == PAGE


@pytest.mark.parametrize("url", OTHERS.values(), ids=OTHERS)
def test_other_addresses(url: str) -> None:
    """What may name another page is kept, as it was written."""
    assert canonical_url(url) == url


def test_international_addresses() -> None:
    """Letters of other scripts may be escaped or not; separators may not."""
    assert canonical_url("https://e.example/caf%c3%a9") == "https://e.example/café"
    assert canonical_url("https://e.example/a%2fb%26%e4") == (
        "https://e.example/a%2Fb%26%E4"
    )
    assert canonical_url("https://e.example/%F0%9F%98%80%20x") == (
        "https://e.example/😀%20x"
    )


def test_order_of_parameters_with_one_name() -> None:
    """Parameters are ordered by their names; those with one name keep their order."""
    url = "https://e.example/?b=2&a=9&a=1"
    assert canonical_url(url) == "https://e.example/?a=9&a=1&b=2"


@pytest.mark.parametrize(
    "text",
    [
        "tag:e.example,2026:1",
        "urn:uuid:1",
        "123",
        "",
        "https://[::1",
        "https://e.example:port/",
        "https:///a",
        "mailto:a@e.example",
        "/a?utm_source=x",
    ],
)
def test_no_address_of_a_page(text: str) -> None:
    """Anything else is returned as it is."""
    assert canonical_url(f" {text} ") == text


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=20))
@example(path="", query="\x0c", fragment="")
def test_canonical_form_is_final(path: str, query: str, fragment: str) -> None:
    """The form of a form is the form."""
    once = canonical_url(f"http://www.e.example/{path}?{query}#{fragment}")
    assert canonical_url(once) == once


@given(st.text())
def test_storable_texts_are_keys(text: str) -> None:
    """Every text can be stored, and texts that are keys are not changed."""
    key = storable(text)
    with SeenStore(":memory:", purge_interval=None) as store:
        assert store.check_and_mark(key)
        assert not store.check_and_mark(storable(text))
    assert key == text or key.startswith("sha256:")


def test_digest_of_a_long_text() -> None:
    """A text that is too long becomes its digest."""
    text = "a" * 2_049
    assert storable(text) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert storable("a" * 2_048) == "a" * 2_048
    assert storable("\ud800") != storable("\ud801")


def the_title(fields: Fields) -> str:
    """Return the title, as a recipe."""
    return fields.title


class TestIdentity:
    """What names an item."""

    def test_guid_link_digest(self) -> None:
        """The guid, else the canonical link, else a digest of what there is."""
        link = "http://www.e.example/a?utm_source=rss&id=1"
        by_guid = identity(guid=" tag:1\n", link=link, title="T")
        by_link = identity(guid="  ", link=link, title="T")
        by_digest = identity(title="T", content="C")
        assert (by_guid.key, by_guid.recipe) == ("tag:1", "guid")
        assert (by_link.key, by_link.recipe) == ("https://e.example/a?id=1", "link")
        assert by_digest.recipe == "digest"
        assert by_digest.key.startswith("sha256:")

    def test_digest_of_every_field(self) -> None:
        """Items without guid and link are others if any of their fields differs."""
        keys = {
            identity(title="T", content="C").key,
            identity(title="T\nC").key,
            identity(title="T", content="C", enclosures=["1"]).key,
            identity(title="T", content="C", enclosures=["2"]).key,
            identity(title="T", content="C", date="2026-06-01").key,
            identity(title="T").key,
            identity(content="T").key,
            identity(enclosures=["T"]).key,
            identity(date="T").key,
        }
        assert len(keys) == 9

    def test_digest_ignores_blanks(self) -> None:
        """A text that is wrapped otherwise is the same."""
        assert identity(title="a  b\n").key == identity(title="a b").key

    def test_link_first(self) -> None:
        """The recipe link takes the guid only where there is no link."""
        both = identity(guid="1", link="https://e.example/a", recipe="link")
        one = identity(guid="1", recipe="link")
        assert (both.key, both.recipe) == ("https://e.example/a", "link")
        assert (one.key, one.recipe) == ("1", "guid")

    def test_strip_fragment(self) -> None:
        """The editions of a page are one item; the whole guid is a spelling of it."""
        first = identity(guid="https://e.example/a#0", recipe="strip_fragment")
        second = identity(guid="https://e.example/a#1", recipe="strip_fragment")
        assert first.key == second.key == "https://e.example/a"
        assert first.recipe == "strip_fragment"
        assert first.spellings == ("https://e.example/a#0",)
        assert identity(guid="#1", recipe="strip_fragment").key == "#1"

    def test_own_recipe(self) -> None:
        """A function gives the key, or leaves it to the guid."""
        own = identity(guid="1", title="T", recipe=the_title)
        none = identity(guid="1", recipe=the_title)
        assert (own.key, own.recipe, own.spellings) == ("T", "the_title", ())
        assert (none.key, none.recipe) == ("1", "guid")
        assert recipe_name(the_title) == "the_title"
        assert recipe_name("link") == "link"

    def test_wrong_recipes(self) -> None:
        """A recipe is a name that exists, or a function with a name of its own."""

        def guid(fields: Fields) -> str:
            return fields.title

        def number(fields: Fields) -> int:
            return len(fields.title)

        wrong: Any
        for wrong in ("title", "", lambda fields: fields.title, guid):
            with pytest.raises(ValueError, match="recipe"):
                identity(guid="1", recipe=wrong)
        for wrong in (None, 1, partial(the_title), number):
            with pytest.raises(TypeError, match="recipe"):
                identity(guid="1", recipe=wrong)

    def test_recipe_that_changed(self) -> None:
        """The key by a former recipe is a spelling, if it is asked for.

        It is none otherwise: several items may share a link.
        """
        link, raw = "https://e.example/a", "http://www.e.example/a?ref=rss"
        plain = identity(guid="1", link=raw)
        after = identity(guid="1", link=raw, formerly=["link"])
        back = identity(guid="1", link=raw, recipe="link", formerly=["guid"])
        own = identity(guid="1", title="T", formerly=[the_title])
        assert plain.spellings == ()
        assert after.spellings == (link, raw)
        assert back.spellings[0] == "1"
        assert own.spellings == ("T",)

    def test_long_guid(self) -> None:
        """A guid that no store accepts is stored as its digest."""
        guid = "x" * 3_000
        assert identity(guid=guid).key == storable(guid)

    @given(
        st.fixed_dictionaries(
            {}, optional={name: st.text() for name in ("guid", "link", "title", "date")}
        ),
        st.sampled_from(["guid", "link", "strip_fragment"]),
    )
    def test_every_item_has_keys(
        self, texts: dict[str, str], recipe: RecipeName
    ) -> None:
        """Whatever the texts are, key and spellings can be stored, and are few."""
        named = identity(**texts, recipe=recipe, formerly=["link", "guid"])
        assert storable(named.key) == named.key
        assert all(storable(form) == form for form in named.spellings)
        assert len(named.spellings) == len({*named.spellings} - {named.key}) <= 8


class TestSpellings:
    """Other forms of a key, as older programs stored them."""

    @pytest.mark.parametrize(
        "stored",
        [
            "http://www.e.example/a?c=1&n=7&amp;ref=rss",
            "http://www.e.example/a?c=1&n=7&ref=rss",
            "http://www.e.example/a?c=1&n=7&ampref=rss",
            "http://www.e.example/a?c=1&amp;n=7&amp;ref=rss",
            "http://www.e.example/a?c=1&ampn=7&ampref=rss",
        ],
    )
    def test_links(self, stored: str) -> None:
        """A link as published, with one escape less, and as the loose parser has it."""
        named = identity(link="http://www.e.example/a?c=1&n=7&amp;ref=rss")
        assert named.key == "https://e.example/a?c=1&n=7"
        assert stored in named.spellings

    @pytest.mark.parametrize(
        "stored",
        [
            "a?b=1&amp;c=&lt;'2'&gt;",
            "a?b=1&amp;c=&lt;&apos;2&apos;&gt;",
            " a?b=1&c=<'2'>",
        ],
    )
    def test_guids(self, stored: str) -> None:
        """An id that the loose parser left escaped, and one with its blanks."""
        named = identity(guid=" a?b=1&c=<'2'>")
        assert named.key == "a?b=1&c=<'2'>"
        assert stored in named.spellings

    def test_guid_escaped_twice(self) -> None:
        """A publisher that escapes once more, or once less, names the same item."""
        assert "a?b=1&c=2" in identity(guid="a?b=1&amp;c=2").spellings
        assert "a?b=1&amp;c=2" in identity(guid="a?b=1&c=2").spellings

    def test_digest_of_the_first_poller(self) -> None:
        """An item without id and link was stored by title, summary and contents."""
        text = "T\nS\nC"
        old = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        named = identity(title="T", content="S\nC", date="2026")
        assert named.spellings == (old,)

    def test_at_most_eight(self) -> None:
        """A key with many forms has the eight likeliest."""
        named = identity(
            guid=" a&amp;b=<'c'>  d", link="http://e.example/?a=1&amp;b=2",
            formerly=["link"],
        )  # fmt: skip
        assert len(named.spellings) == 8
        assert named.spellings[0] == "https://e.example/?a=1&b=2"

    def test_ordinary_keys_have_none(self) -> None:
        """A key that every program reads alike has no other form."""
        assert identity(guid="tag:1", link="https://e.example/?a=1&b=2").spellings == ()
        assert identity(link="https://e.example/a").spellings == ()


class TestAlias:
    """What says that an item under another id is the same."""

    def test_link_and_witnesses(self) -> None:
        """The link without tracking and edition, a witness each for title and date."""
        first = identity(guid="1", link="http://e.example/a#1", title="T", date="D")
        moved = identity(guid="2", link="https://e.example/a#2", title=" T ", date="E")
        redated = identity(guid="3", link="https://e.example/a", title="U", date="D")
        assert first.alias
        assert moved.alias
        assert redated.alias
        assert first.alias[0] == moved.alias[0] == "https://e.example/a"
        assert {*first.alias[1:]} & {*moved.alias[1:]}
        assert {*first.alias[1:]} & {*redated.alias[1:]}
        assert not {*moved.alias[1:]} & {*redated.alias[1:]}

    def test_fragments_that_are_no_number(self) -> None:
        """Another fragment may name another item."""
        alias = identity(link="https://e.example/a#v1", title="T").alias
        assert alias
        assert alias[0] == "https://e.example/a#v1"

    def test_no_alias(self) -> None:
        """Without a link, or anything beside it, nothing says so."""
        assert identity(guid="1", title="T", date="D").alias is None
        assert identity(guid="1", link="https://e.example/a").alias is None

    def test_content_is_the_last_witness(self) -> None:
        """It counts where there is neither title nor date, for it is often edited."""
        link = "https://e.example/a"
        first, same, edited = (
            identity(guid=str(n), link=link, content=text).alias
            for n, text in enumerate(["some  text", "some text", "other text"])
        )
        assert first
        assert edited
        assert first == same
        assert first[1] != edited[1]
        titled = identity(link=link, content="some text", title="T").alias
        assert titled == identity(link=link, title="T").alias

    def test_title_is_no_date(self) -> None:
        """A title that reads like a date is no witness for one."""
        title = identity(link="https://e.example/a", title="2026").alias
        date = identity(link="https://e.example/a", date="2026").alias
        assert title
        assert date
        assert not {*title[1:]} & {*date[1:]}


def test_all_names_every_public_object() -> None:
    """__all__ is sorted and names the public objects that are defined here."""
    assert sorted(keys.__all__) == keys.__all__
    assert all(hasattr(keys, name) for name in keys.__all__)
