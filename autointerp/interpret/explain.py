"""Explainers: from the explain part of a feature's record to a text.

A feature record flows in, an explanation or a failure flows out. An explainer never sees the other parts; one that can
refine sees the select part as well, and never the score part.
"""

from typing import Protocol

from autointerp.records import Explanation, Failed, FeatureRecord, Simulation

ANSWER_TOKENS = 2000
"""Room for a model that thinks before it answers, in tokens."""


def answer_schema(attempt: int) -> dict[str, object] | None:
    """The shape of an answer: free at first, then an object, where an endpoint can be held to one."""
    if attempt == 0:
        return None
    return {
        "type": "object",
        "properties": {"explanation": {"type": "string"}},
        "required": ["explanation"],
        "additionalProperties": False,
    }


class Explainer(Protocol):
    """Says in words what a feature responds to."""

    @property
    def author(self) -> str:
        """Who speaks: `provider:name`, `lookup`, or `human`."""
        ...

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        """At most `n_candidates` different explanations from the record's explain part, at least one."""
        ...


class Refiner(Protocol):
    """Revises an explanation in the light of its own errors."""

    @property
    def refine_digest(self) -> str:
        """Of everything the revision is asked with but the feature."""
        ...

    async def refine(
        self, record: FeatureRecord, explanation: Explanation, simulated: Simulation
    ) -> Explanation | Failed:
        """A revision after a look at where `simulated`, the explanation on the record's select part, went wrong."""
        ...
