"""Keeps Python's cycle collector from looking through answers: thousands of small objects a reply, none in a cycle.

Nothing flows. At its usual threshold the collector starts twice a reply of 64 tokens with 11 alternatives each, and
takes a fifth of the time that the whole reply takes.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG_OBJECTS = 50_000
"""New objects before a collection, instead of 700; some 30 replies' worth."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """While the block runs, for the whole process; the threshold of before stands again afterwards.

    A process that never collects, or more rarely still, is left as it is.
    """
    before = gc.get_threshold()
    if 0 < before[0] < YOUNG_OBJECTS:
        gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
