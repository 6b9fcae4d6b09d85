"""The URL of a server: its address, and errors about it.

A driver raises what it likes for a bad address, and often only when it connects:
``OverflowError``, ``UnicodeError``, errors of its own. The address is checked before;
what a driver raises for the rest is translated.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._errors import ConfigurationError
from .._targets import UNESCAPED, redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._config import SeenStoreConfig

_HOST = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")
_MAX_PORT = 65_535
_NAMED = (
    "a name after # is read in SEEN_STORE_URL, in AsyncSeenStore(url) and by the tool;"
    " beside SeenStoreConfig(url=...) it is prefix=... for Redis, schema=... for"
    " PostgreSQL"
)
_RAW = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What drivers raise for options and addresses that they do not check."""


def bad_url(url: str, problem: str) -> ConfigurationError:
    """Return the error of a URL, which shows the URL without secrets."""
    return ConfigurationError("url", f"{redacted(url)!r}: {problem}")


@contextmanager
def url_errors(config: SeenStoreConfig) -> Iterator[None]:
    """Translate what a driver raises for a URL, and name the variable that holds it."""
    try:
        yield
    except ConfigurationError as exc:
        if exc.setting != "url" or config.origin("url") == "url":
            raise
        raise ConfigurationError(config.origin("url"), exc.problem) from exc.__cause__
    except _RAW as exc:
        if config.url is None:
            raise
        problem = f"its driver fails on it ({type(exc).__name__}): check its parts"
        url = f"{redacted(config.url)!r}"
        raise ConfigurationError(config.origin("url"), f"{url}: {problem}") from exc


def check_no_name(url: str) -> None:
    """Refuse a ``#`` in a URL: the name after that of an address was read before.

    Raises:
        ConfigurationError: There is one.
    """
    _, mark, name = url.partition("#")
    if mark:
        raise bad_url(url, UNESCAPED if "@" in name else _NAMED)


def check_address(url: str) -> None:
    """Check the hosts and ports of a URL; it may have several, with commas.

    Raises:
        ConfigurationError: One can be no host or no port.
    """
    rest = url.partition("://")[2]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    addresses = authority.rpartition("@")[2].split(",")
    if len(addresses) > 1 and "" in addresses:
        raise bad_url(url, "a host is missing beside a comma")
    for address in addresses:
        if problem := _problem(address):
            raise bad_url(url, problem)


def _problem(address: str) -> str | None:
    """Return what is wrong with ``host:port``, ``[IPv6]:port`` or a part of it."""
    match = _HOST.fullmatch(address)
    if match is None:
        return "an IPv6 address is written in brackets, as in [::1]:6379"
    host, port = match["host"], match["port"]
    if port and not (
        port.isdecimal() and port.isascii() and 0 < int(port) <= _MAX_PORT
    ):
        return (
            "the port must be a number from 1 to 65535; : @ / ? # in a password are"
            " written as %3A %40 %2F %3F %23"
        )
    return _problem_of_ipv6(host[1:-1]) if host[:1] == "[" else _problem_of_name(host)


def _problem_of_ipv6(host: str) -> str | None:
    from ipaddress import IPv6Address

    try:
        IPv6Address(host)
    except ValueError:
        return f"[{host}] is no IPv6 address"
    return None


def _problem_of_name(host: str) -> str | None:
    from urllib.parse import unquote

    name = unquote(host)
    if not name or name.startswith("/"):  # the default, or the directory of a socket
        return None
    try:
        name.encode("idna")
    except UnicodeError:
        return "the name of a host has parts of 1 to 63 characters between its dots"
    return None if name.isprintable() and " " not in name else "it names no host"
