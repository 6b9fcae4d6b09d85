"""What the commands on feeds are made of."""

from __future__ import annotations
