"""Protocols: named ways to choose, show, ask and score.

One table, keyed by `config.ProtocolName`. Knows no corpus and no LLM.
"""

from dataclasses import dataclass

from autointerp.config import ProtocolName, ScoreConfig
from autointerp.errors import UsageError
from autointerp.strata import Design


@dataclass(frozen=True)
class Protocol:
    """A protocol and what to say of it."""

    name: ProtocolName
    design: Design
    description: str


@dataclass(frozen=True)
class Plan:
    """A protocol with its number of windows: block by block, from the first ones on."""

    protocol: Protocol
    label: str
    """Name of the plan in the store and in tables: `graded-60`, `graded-ci`, `simulate`."""
    first_blocks: int
    most_blocks: int

    @property
    def design(self) -> Design:
        """How its windows are chosen."""
        return self.protocol.design

    @property
    def n_windows(self) -> int:
        """Windows every feature is scored on, where all strata are full."""
        return 3 * sum(self.design.blocks[: self.first_blocks])

    @property
    def most_windows(self) -> int:
        """Windows a feature is scored on at most."""
        return 3 * sum(self.design.blocks[: self.most_blocks])


def make_plan(name: ProtocolName, score: ScoreConfig) -> Plan:
    """The protocol as a run's configuration has it."""
    protocol = PROTOCOLS[name]
    n_blocks = len(protocol.design.blocks)
    if n_blocks == 1:
        return Plan(protocol, protocol.name, 1, 1)
    if score.stop == "ci":
        return Plan(protocol, f"{protocol.name}-ci", 1, n_blocks)
    sizes = [3 * sum(protocol.design.blocks[: n + 1]) for n in range(n_blocks)]
    blocks = sizes.index(score.windows) + 1
    return Plan(protocol, f"{protocol.name}-{score.windows}", blocks, blocks)


def plan_of(label: str) -> Plan:
    """The plan of a label, as stores and tables name it.

    Raises:
        UsageError: no protocol of this version goes by it.
    """
    ways = (ScoreConfig(windows=60), ScoreConfig(windows=120), ScoreConfig(stop="ci"))
    plans = {plan.label: plan for name in PROTOCOLS for plan in (make_plan(name, way) for way in ways)}
    if label not in plans:
        raise UsageError(f"no protocol is called {label!r}; there are {', '.join(plans)}")
    return plans[label]


PROTOCOLS: dict[ProtocolName, Protocol] = {
    "graded": Protocol(
        name="graded",
        design=Design(
            name="graded-120x32",
            width=32,
            blocks=(20, 10, 10),
            n_select=16,
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
