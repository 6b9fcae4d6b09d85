"""Keys of what sources list."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalyst_seen import SeenStore
from catalyst_seen.keys import canonical_url, storable

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
