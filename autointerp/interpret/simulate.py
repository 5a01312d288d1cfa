"""Simulators: from an explanation and bare tokens to predicted levels.

A simulator sees token texts and never an activation, a stratum or anything else of the feature.
"""

from collections.abc import Sequence
from typing import Protocol

from autointerp.records import Explanation, Simulation

Tokens = Sequence[str]
"""Escaped token texts of one window, in order."""


class Simulator(Protocol):
    """Predicts a feature's levels from an explanation alone."""

    @property
    def name(self) -> str:
        """As in the configuration's `simulator`, with the model where there is one."""
        ...

    async def simulate(self, explanation: Explanation, windows: Sequence[Tokens]) -> Simulation:
        """One level 0..10 per token of every window; a window whose answer failed is None with a reason."""
        ...
