"""Feeds: what a source lists, read so that the keys of its entries hold."""

from __future__ import annotations

from ._errors import FeedError, FeedFault
from ._listing import Enclosure, Entry, Listing
from ._parse import parse
from ._parser import Parser

__all__ = [
    "Enclosure",
    "Entry",
    "FeedError",
    "FeedFault",
    "Listing",
    "Parser",
    "parse",
]
