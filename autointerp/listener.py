"""Who is told how a run goes: progress, notes, and how to end it gently. Plain calls flow out; knows no terminal."""

from collections.abc import Callable
from typing import NamedTuple


class Spending(NamedTuple):
    """What a run has cost until now."""

    calls: int
    tokens: int
    """Input and output."""
    usd: float | None
    """None where the price is not known."""


class Listener(NamedTuple):
    """Who is told how a run goes."""

    progress: Callable[[str, int, int], None] = lambda stage, done, total: None
    """A stage, what is done, and what there is (0 where unknown)."""
    note: Callable[[str], None] = lambda text: None
    """One line worth knowing that is no error."""
    spent: Callable[[Spending], None] = lambda spending: None
    """What language models have cost until now; told with their progress."""
    stoppable: Callable[[Callable[[], None] | None], None] = lambda stop: None
    """Given what ends the asking of language models gently, while there is any; then None."""


SILENT = Listener()
