"""The first use of an installed package, where nothing else is installed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import catalyst_seen


def main() -> None:
    """Look for what an archive may lack, and use a store."""
    root = Path(catalyst_seen.__file__).parent
    assert "site-packages" in root.parts, root
    assert (root / "py.typed").exists()
    for script in ("rows.lua", "script.lua"):
        assert (root / "backends" / "redis" / script).exists()
    version = importlib.metadata.version("catalyst-seen")
    assert catalyst_seen.__version__ == version
    for url in ("redis://localhost", "postgresql://localhost/db"):
        try:
            catalyst_seen.AsyncSeenStore(url)
        except catalyst_seen.ConfigurationError as exc:
            message = str(exc)
        else:
            message = f"{url} needs no driver?"
        assert "catalyst-seen[" in message, message
    with catalyst_seen.SeenStore(":memory:") as store:
        assert [bool(store.check_and_mark("k")) for _ in range(2)] == [True, False]
    print("catalyst-seen", version, "works")


if __name__ == "__main__":
    main()
