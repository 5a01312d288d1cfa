"""Protocols: named ways to choose, show, ask and score.

One table, keyed by `config.ProtocolName`. Knows no corpus and no LLM.
"""

from dataclasses import dataclass

from autointerp.config import ProtocolName
from autointerp.strata import Design


@dataclass(frozen=True)
class Protocol:
    """A protocol and what to say of it."""

    name: ProtocolName
    design: Design
    description: str

    @property
    def n_windows(self) -> int:
        """Windows a feature is scored on when every stratum is full."""
        return self.design.n_active + self.design.n_uniform + self.design.n_hard


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "simulate": Protocol(
        name="simulate",
        design=Design(name="simulate-48x16", width=16, n_active=16, n_uniform=16, n_hard=16),
        description=(
            "48 windows of 16 tokens, a level predicted for every token: 16 around activations of every decile, "
            "16 silent ones drawn uniformly, 16 silent ones that a wrong explanation would fire on"
        ),
    ),
}
