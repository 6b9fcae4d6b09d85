"""What every fault has: a long form, and time for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness.zygote import Zygote


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every fault has a long form, and time for it."""
    for item in items:
        if "/faults/" in item.nodeid:
            item.add_marker(pytest.mark.torture)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(1_200))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Fork processes that mark keys: a hundred times faster than to start them."""
    with Zygote(tmp_path_factory.mktemp("said")) as made:
        yield made
