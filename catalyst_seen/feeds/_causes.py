"""Why there is no answer: a clear text for each error of the network, without secrets.

The texts of aiohttp have whole addresses, and name its own refusals like a status of
the server.
"""

from __future__ import annotations

import errno
import os
from http import HTTPStatus

import aiohttp


class FetchError(Exception):
    """There is no answer that can be used.

    Attributes:
        problem: What happened, without secrets.
        is_momentary: May the same request succeed in a second?
    """

    def __init__(self, problem: str, *, is_momentary: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_momentary = is_momentary


def phrase_of(status: int) -> str:
    """Return the standard's words for a status; a server's could say anything."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def is_momentary(exc: BaseException) -> bool:
    """May the request that failed so succeed in a second?"""
    return isinstance(exc, FetchError) and exc.is_momentary


def cause_of(exc: Exception, timeout: float) -> FetchError:
    """Return the error of a request in our words."""
    problem, may_pass = _problem(exc, timeout)
    return FetchError(problem, is_momentary=may_pass)


def _problem(exc: Exception, timeout: float) -> tuple[str, bool]:
    """Return what happened, and whether it may pass in a second."""
    match exc:
        case TimeoutError():
            return f"no complete answer within {timeout:g} seconds", False
        case OSError():
            return _broken(exc)
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer", True
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP, or has a header that is too large", False
        case ValueError():
            return "the address or a header cannot be sent", False
    return f"the request failed: {type(exc).__name__}", False


def _broken(exc: OSError) -> tuple[str, bool]:
    """Return the same for an error of the connection."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            cause = exc.certificate_error
            reason = getattr(cause, "verify_message", type(cause).__name__)
            return f"the certificate of {exc.host} is not accepted: {reason}", False
        case aiohttp.ClientConnectorDNSError():
            return f"no address is known for the host {exc.host}", True
        case aiohttp.ClientConnectorError():
            reason = _reason(exc.os_error)
            return f"cannot connect to {exc.host}:{exc.port}: {reason}", True
    return f"the connection broke: {_reason(exc)}", True


def _reason(exc: OSError) -> str:
    """Return the system's words for an error; those of asyncio repeat the address."""
    if exc.errno is None or exc.errno not in errno.errorcode:
        return type(exc).__name__
    return os.strerror(exc.errno)
