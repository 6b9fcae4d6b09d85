"""The name under which requests are made."""

from __future__ import annotations

from catalyst_seen import __version__

USER_AGENT = (
    f"catalyst-seen/{__version__} (+https://github.com/catalyst-seen/catalyst-seen)"
)
"""What servers and webhooks see, with a way to the authors."""
