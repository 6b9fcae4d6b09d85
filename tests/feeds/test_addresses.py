"""Addresses: which servers are the same, and what is a secret in them."""

from __future__ import annotations

import pytest

from catalyst_seen.feeds._addresses import has_secrets, origin, shown, sign_in

HOME = "http://h.example/f"


@pytest.mark.parametrize(
    ("url", "may_see"),
    [
        ("http://h.example/other", True),
        ("http://H.EXAMPLE:80/f", True),
        ("https://h.example/f", True),
        ("https://h.example:8443/f", False),
        ("http://h.example:8080/f", False),
        ("https://www.h.example/f", False),
        ("https://h.example.evil.example/f", False),
        ("https://h.example@evil.example/f", False),
    ],
)
def test_who_may_see_secrets(url: str, *, may_see: bool) -> None:
    """A server sees its own secrets, also over ``https``; nobody else does."""
    assert origin(url).may_see_secrets_of(origin(HOME)) is may_see


def test_no_step_back() -> None:
    """Secrets that went over ``https`` do not go over ``http``."""
    secure = origin("https://h.example/f")
    assert not origin(HOME).may_see_secrets_of(secure)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://h.example/s3cret", "h.example"),
        ("https://h.example:443/", "h.example"),
        ("http://h.example:8080/", "h.example:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[::1]/", "[::1]"),
    ],
)
def test_place(url: str, place: str) -> None:
    """A message names the host, and the port if it is another than the usual one."""
    assert origin(url).place == place


@pytest.mark.parametrize(
    "name",
    ["key", "KEY", "api_key", "apikey", "api-key", "apiKey", "token", "access_token",
     "auth", "authorization", "sig", "signature", "X-Amz-Signature",
     "X-Amz-Security-Token", "X-Goog-Credential", "password", "pass", "pwd", "secret",
     "client_secret", "hmac", "jwt", "session", "feed_token", "rsskey", "user.token"],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    """What these names hold is hidden, wherever they are in an address."""
    for form in ("?{}=s3cret", "?a=1&{}=s3cret&b=2", "?a=1;{}=s3cret", "#{}=s3cret"):
        url = "https://h.example/f" + form.format(name)
        assert "s3cret" not in shown(url)
        assert has_secrets(url)
        assert shown(url).replace("***", "s3cret") == url


@pytest.mark.parametrize(
    "url",
    ["https://h.example/key=1", "https://h.example/?monkey=1&keyword=2&tokens=3",
     "https://h.example/?q=key&author=x&passage=1&design=2", "https://h.example/?key="],
)  # fmt: skip
def test_no_secrets(url: str) -> None:
    """Other values are shown: they tell one source from another."""
    assert shown(url) == url
    assert not has_secrets(url)


@pytest.mark.parametrize(
    ("url", "auth", "header"),
    [
        ("https://h.example/", None, None),
        ("https://h.example/@", None, None),
        ("https://a:b@h.example/", None, "Basic YTpi"),
        ("https://a@h.example/", None, "Basic YTo="),
        ("https://a:b@h.example/", ("c", "ü"), "Basic YzrDvA=="),
    ],
)
def test_sign_in(url: str, auth: tuple[str, str] | None, header: str | None) -> None:
    """User and password make the header, in UTF-8."""
    assert sign_in(url, auth) == header
