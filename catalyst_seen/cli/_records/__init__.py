"""What the commands that show and change keys are made of."""

from __future__ import annotations
