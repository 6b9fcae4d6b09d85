"""The texts for errors of a connection that no local server causes."""

from __future__ import annotations

import errno
import ssl
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from catalyst_seen.feeds._causes import cause_of

AT = Mock(spec=ConnectionKey, host="h.example", port=443, ssl=True)


def certificate_error() -> aiohttp.ClientConnectorCertificateError:
    """Return the error of a certificate that has expired."""
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "certificate has expired"
    return aiohttp.ClientConnectorCertificateError(AT, cause)


@pytest.mark.parametrize(
    ("exc", "problem", "is_momentary"),
    [
        (
            certificate_error(),
            "the certificate of h.example is not accepted: certificate has expired",
            False,
        ),
        (
            aiohttp.ClientConnectorDNSError(AT, OSError(-2, "Name not known")),
            "no address is known for the host h.example",
            True,
        ),
        (
            aiohttp.ClientConnectorError(AT, OSError(errno.ENETUNREACH, "s3cret")),
            "cannot connect to h.example:443: Network is unreachable",
            True,
        ),
        (
            aiohttp.ClientOSError(errno.ECONNRESET, "s3cret"),
            "the connection broke: Connection reset by peer",
            True,
        ),
        (OSError("s3cret"), "the connection broke: OSError", True),
        (
            aiohttp.InvalidURL("http://s3cret"),
            "the address or a header cannot be sent",
            False,
        ),
        (aiohttp.ClientError("s3cret"), "the request failed: ClientError", False),
        (TimeoutError(), "no complete answer within 30 seconds", False),
        (
            aiohttp.ServerTimeoutError("s3cret"),
            "no complete answer within 30 seconds",
            False,
        ),
    ],
)
def test_text(exc: Exception, problem: str, *, is_momentary: bool) -> None:
    """Each error has one clear text, without the words of libraries."""
    made = cause_of(exc, 30)
    assert (made.problem, made.is_momentary) == (problem, is_momentary)
