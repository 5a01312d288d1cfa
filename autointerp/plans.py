"""What is to be done with the features of one dictionary: where results stand, who explains, simulates and scores.

Values only; `feature_steps` works on one feature by them, `pipeline` on all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from typing import Protocol as Interface

from autointerp.interpret.explain import Explainer, Refiner
from autointerp.interpret.protocols import Plan
from autointerp.interpret.score import IntervalName, Terms
from autointerp.interpret.simulate import Simulator
from autointerp.records import Example, FeatureId, FeatureRecord
from autointerp.store.runs import RunStore, ScoreKey

Progress = Callable[[str, int, int], None]
Retries = Literal["none", "failed", "refused"]
"""Failed steps that are done again beside those never answered: none, all but refusals, or all."""
NEVER_ANSWERED = ("rate_limited", "server_error", "timeout", "connection_lost", "lost")
"""Reasons of failures that cost nothing and may pass: the endpoint gave no answer (`llm.errors`)."""


def asks_again(retries: Retries, reason: str) -> bool:
    """Whether what ended Failed for this reason is to be done again."""
    return reason in NEVER_ANSWERED or retries == "refused" or (retries == "failed" and reason != "refused")


class RecordMaker(Interface):
    """Chooses a feature's examples; `examples.Chooser` is one."""

    def feature_record(self, feature: int) -> FeatureRecord:
        """The examples that are fixed before any explanation exists."""
        ...

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        """At most n negatives that the words of an explanation point at."""
        ...


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where the results of one dictionary stand in a store."""

    store: RunStore
    dictionary: str
    features: Sequence[int]
    plan: Plan
    explainer_key: str
    simulator_key: str

    @property
    def design(self) -> str:
        """Name of the sampling design of the records."""
        return self.plan.design.name

    @property
    def key(self) -> ScoreKey:
        """Where the scores stand in the store."""
        return ScoreKey(self.plan.label, self.explainer_key, self.simulator_key)

    @property
    def steps(self) -> tuple[str, str, str]:
        """Names of the three steps in the store, in order."""
        return (f"examples/{self.design}", f"explain/{self._explained_by}", "score/" + "/".join(self.key))

    @property
    def refine_step(self) -> str:
        """Name of the step whose failure leaves the explanation as it was."""
        return f"refine/{self._explained_by}"

    @property
    def shuffled_step(self) -> str:
        """Name of the step whose failure leaves the score without its shuffled control."""
        return "shuffled/" + "/".join(self.key)

    @property
    def _explained_by(self) -> str:
        return f"{self.design}/{self.explainer_key}"

    def feature(self, index: int) -> FeatureId:
        """The key of one of the dictionary's features."""
        return FeatureId(dictionary=self.dictionary, index=index)


@dataclass(frozen=True, kw_only=True)
class Interpretation(Results):
    """How the features of one dictionary are explained and scored."""

    maker: RecordMaker | None
    """None where the store holds all records there are."""
    explainer: Explainer
    refiner: Refiner | None
    """Who revises explanations; None for no refinement."""
    simulator: Simulator
    simulator_is_free: bool
    """Whether every feature gets its shuffled control, or a tenth of them."""
    candidates: int
    """Explanations asked for; the best on the select part is kept."""
    guided: int
    """Guided negatives looked for."""
    interval: IntervalName
    seed: int
    concurrency: int
    """Features worked on at the same time."""
    progress: Progress
    retries: Retries = "none"

    def is_open(self, ended: str | None) -> bool:
        """Whether a step that ended so (`RunStore.ends`), or never, is to be done."""
        return ended is None or (ended not in ("done", "skipped") and asks_again(self.retries, ended))

    @property
    def terms(self) -> Terms:
        """What its scores are named by."""
        return Terms(self.plan.label, self.simulator.name, self.interval)
