"""What ``import`` reads, in every form, and how it comes into a store."""

from __future__ import annotations
