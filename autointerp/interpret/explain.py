"""Explainers: from the explain part of a feature's record to a text.

A feature record flows in, an explanation or a failure flows out. An explainer never sees the other parts.
"""

from typing import Protocol

from autointerp.records import Explanation, Failed, FeatureRecord


class Explainer(Protocol):
    """Says in words what a feature responds to."""

    @property
    def author(self) -> str:
        """Who speaks: `provider:name`, `lookup`, or `human`."""
        ...

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        """At most `n_candidates` different explanations from the record's explain part, at least one."""
        ...
