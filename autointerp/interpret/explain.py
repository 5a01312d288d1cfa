"""Explainers: from the explain part of a feature's record to a text.

A feature record flows in, an explanation or a failure flows out. An explainer never sees the other parts; one that can
refine sees the select part as well, and never the score part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autointerp.records import Explanation, Failed, FeatureRecord, Level, Usage

ANSWER_TOKENS = 2000
"""Room for a model that thinks before it answers, in tokens."""


class Explainer(Protocol):
    """Says in words what a feature responds to."""

    @property
    def author(self) -> str:
        """Who speaks: `provider:name`, `lookup`, or `human`."""
        ...

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        """At most `n_candidates` different explanations from the record's explain part, at least one."""
        ...


@dataclass(frozen=True)
class Revision:
    """What came of asking for a revision, and what it cost."""

    revision: Explanation | Failed
    usage: Usage


class Refiner(Protocol):
    """Revises an explanation by its errors on the select part."""

    @property
    def refine_digest(self) -> str:
        """Of everything that a revision is asked with but the feature."""
        ...

    async def refine(
        self, record: FeatureRecord, explanation: Explanation, predicted: Sequence[Sequence[Level] | None]
    ) -> Revision:
        """A revision, from the select part's windows and what the explanation predicted there."""
        ...
