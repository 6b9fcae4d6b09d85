"""Feeds: what a source lists, read so that the keys of its entries hold."""

from __future__ import annotations

from ._errors import FeedError, FeedFault
from ._listing import Enclosure, Entry, Listing
from ._parse import parse
from ._parser import Parser
from ._poll import Outcome, Poll
from ._poller import Poller
from ._post import Json, Posted, post
from ._source import Feed

__all__ = [
    "Enclosure",
    "Entry",
    "Feed",
    "FeedError",
    "FeedFault",
    "Json",
    "Listing",
    "Outcome",
    "Parser",
    "Poll",
    "Poller",
    "Posted",
    "parse",
    "post",
]
