"""Two stores and a plain dict, driven by a Hypothesis state machine, always agree."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ..faults.harness.report import Fault
from ..support.listing_machine import ListingMachine, LoneListingMachine
from ..support.store_machine import (
    RememberingMachine,
    SingleStoreMachine,
    StoreMachine,
)
from ..support.targets import SHARED, Places


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["memory", "reference"])
def test_one_store_in_memory_agrees_with_the_model(
    places: Places, backend: str
) -> None:
    """Any sequence of calls on a store in memory has the results of the model."""
    run_state_machine_as_test(
        partial(SingleStoreMachine, places, backend),  # type: ignore[arg-type]
        settings=settings(max_examples=10, stateful_step_count=40, deadline=None),
    )


@pytest.mark.torture
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("machine", [StoreMachine, RememberingMachine])
@pytest.mark.parametrize("backend", SHARED)
def test_stores_agree_with_the_model(
    places: Places,
    fault: Fault,
    backend: str,
    machine: type[StoreMachine],
    *,
    torture: bool,
) -> None:
    """In any sequence of calls, the stores do what the dict does."""
    row = fault("B10", f"whatever comes in whatever order, {backend}, {machine.name}")
    examples, steps = (200, 50) if torture else (40, 40)
    if backend != "file":  # over the wire it takes longer
        examples //= 6
    run_state_machine_as_test(
        partial(machine, places, backend),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None
        ),
    )
    row.passed(examples)
    row.note(
        f"{examples:,} examples of up to {steps} steps, equal to the model after each"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["memory", "reference"])
def test_listings_in_memory_lose_and_double_nothing(
    places: Places, backend: str
) -> None:
    """Whatever is observed, claimed and ended in whatever order."""
    run_state_machine_as_test(
        partial(LoneListingMachine, places, backend),  # type: ignore[arg-type]
        settings=settings(max_examples=30, stateful_step_count=40, deadline=None),
    )


@pytest.mark.torture
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("backend", SHARED)
def test_listings_lose_and_double_nothing(
    places: Places, fault: Fault, backend: str, *, torture: bool
) -> None:
    """Two stores at one place do what the reference backend does, and lose nothing."""
    row = fault("B11", f"listings, whatever comes in whatever order, {backend}")
    examples, steps = (400, 50) if torture else (60, 40)
    if backend != "file":  # over the wire it takes longer
        examples //= 6
    run_state_machine_as_test(
        partial(ListingMachine, places, backend),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None
        ),
    )
    row.passed(examples)
    row.note(
        f"{examples:,} examples of up to {steps} steps, equal to the reference after"
        " each"
    )
