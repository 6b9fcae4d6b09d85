"""What the commands on lines of standard input are made of."""

from __future__ import annotations
