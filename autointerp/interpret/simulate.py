"""Simulators: from an explanation and bare tokens to predicted levels.

A simulator sees token texts and never an activation, a stratum or anything else of the feature.
"""

from collections.abc import Sequence
from typing import Protocol

from autointerp.records import Explanation, Simulation, Window

Tokens = Sequence[str]
"""Escaped token texts of one window, in order."""
WINDOWS_A_REQUEST = 10
"""Windows with a target that one request asks for; they share its instructions, demonstrations and explanation."""


class Simulator(Protocol):
    """Predicts a feature's levels from an explanation alone."""

    @property
    def name(self) -> str:
        """As in the configuration's `simulator`, with the model where there is one."""
        ...

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        """Levels 0..10 of every window: of its target alone, or of all its tokens where it has none.

        A window whose answer failed is None with a reason.
        """
        ...
