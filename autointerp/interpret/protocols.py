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

    def n_windows(self, blocks: int) -> int:
        """Windows a feature is scored on in the first `blocks` blocks when every stratum is full."""
        return 3 * sum(self.design.blocks[:blocks])


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "graded": Protocol(
        name="graded",
        design=Design(
            name="graded-120x32",
            width=32,
            blocks=(20, 7, 7, 6),
            n_select=10,
            targets=True,
        ),
        description=(
            "windows of 32 tokens with one marked token each, whose level is predicted: a third on activations of "
            "every decile, a third on silent tokens drawn uniformly, a third on silent tokens that a wrong "
            "explanation would fire on"
        ),
    ),
    "simulate": Protocol(
        name="simulate",
        design=Design(name="simulate-48x16", width=16, blocks=(16,), n_select=8),
        description=(
            "48 windows of 16 tokens, a level predicted for every token: 16 around activations of every decile, "
            "16 silent ones drawn uniformly, 16 silent ones that a wrong explanation would fire on"
        ),
    ),
}
