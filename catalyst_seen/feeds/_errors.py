"""The error of a source that shows no usable listing."""

from __future__ import annotations

from typing import Literal

from catalyst_seen import SeenError

FeedFault = Literal["empty", "malformed", "not a feed", "too large"]
"""What is wrong with a document."""

_REMEDIES: dict[FeedFault, str] = {
    "empty": "poll again later",
    "malformed": "poll again later; if it stays so, tell the publisher",
    "not a feed": "check the address",
    "too large": "ask the publisher for a shorter feed",
}


class FeedError(SeenError):
    """A document that is no usable listing, and so no poll.

    No key may be taken from such a document: what was seen stays seen, and what is new
    comes with the next good one.

    Attributes:
        kind: ``"empty"``, ``"malformed"`` (not well-formed, also after the repairs that
            cannot touch an identity), ``"not a feed"`` or ``"too large"``.
        problem: What was found. Neither the address nor a text of the document is part
            of it.
    """

    def __init__(self, kind: FeedFault, problem: str) -> None:
        super().__init__(kind, problem)
        self.kind: FeedFault = kind
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.kind}: {self.problem}; {_REMEDIES[self.kind]}"
