"""The cycle collector's threshold while a model is asked."""

import gc
from contextlib import suppress

import pytest

from autointerp.llm.collector import YOUNG_OBJECTS, rare_collections


@pytest.mark.parametrize(
    ("before", "within"),
    [((700, 10, 10), YOUNG_OBJECTS), ((0, 10, 10), 0), ((2 * YOUNG_OBJECTS, 5, 5), 2 * YOUNG_OBJECTS)],
)
def test_a_process_has_its_own_threshold_back(before: tuple[int, int, int], within: int) -> None:
    """A notebook that asked for one score must not stay changed, nor one without a collector get one."""
    kept = gc.get_threshold()
    gc.set_threshold(*before)
    try:
        with suppress(ZeroDivisionError), rare_collections():
            assert gc.get_threshold() == (within, *before[1:])
            raise ZeroDivisionError
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*kept)
