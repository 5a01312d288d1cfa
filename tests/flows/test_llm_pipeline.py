"""Planted features through the whole pipeline and store, against the rehearsal server over HTTP."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from autointerp import pipeline
from autointerp.config import ScoreConfig
from autointerp.interpret.explain import Explainer
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.protocols import PROTOCOLS, Plan, make_plan
from autointerp.interpret.simulate_llm import LlmSimulatorName, make_llm_simulator
from autointerp.llm.base import ChatModel
from autointerp.llm.probe import probe
from autointerp.llm.registry import LOOPBACK_ONLY, connect_model
from autointerp.pipeline import final_outcomes
from autointerp.plans import Interpretation
from autointerp.records import Done, Example, Explanation, Failed, FeatureRecord, Outcome
from autointerp.scores import FeatureScore
from autointerp.store.runs import RunStore
from tests.flows.planted import N_FEATURES, explanation_of, feature_record
from tests.flows.rehearsal import rehearsing

PLANS = [make_plan(name, ScoreConfig()) for name in PROTOCOLS]
SIMULATORS: tuple[LlmSimulatorName, ...] = ("structured", "top-logprobs")


@dataclass(frozen=True)
class Knowing:
    """Explains every feature by the truth, or by the truth about its neighbour."""

    shift: int = 0
    author: str = "human"

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        text = explanation_of((record.feature.index + self.shift) % N_FEATURES)
        return [
            Explanation(feature=record.feature, text=text, author=self.author, method="human", examples_digest="none")
        ]


class Planted:
    """Makes the planted features' records; their silent windows are the guided negatives."""

    def __init__(self, plan: Plan) -> None:
        self._design = plan.design

    def feature_record(self, feature: int) -> FeatureRecord:
        return feature_record(feature, self._design.name, targets=self._design.targets)

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        silent = [e for e in self.feature_record(feature).splits.score if not any(e.scored_levels)]
        return tuple(silent[:n])


@dataclass(frozen=True)
class Ended:
    """What the store holds after a run."""

    scores: Sequence[FeatureScore]
    outcomes: Sequence[Outcome]


def interpret(base_url: str, kind: LlmSimulatorName, scored: Plan, explainer: Explainer | None, folder: Path) -> Ended:
    """Explain and score all planted features; without an explainer the served model explains."""

    async def run() -> Ended:
        connected = connect_model("any", base_url=base_url, in_flight=16, first_pause_s=0.05)
        store = RunStore(folder / "store.sqlite")
        try:
            capabilities = await probe(connected.provider, connected.meter)
            plan = Interpretation(
                store=store,
                dictionary="planted",
                features=range(N_FEATURES),
                plan=scored,
                explainer_key="test",
                simulator_key=kind,
                maker=Planted(scored),
                explainer=explainer or _served(connected.model),
                refiner=None,
                simulator=make_llm_simulator(kind, connected.model, capabilities),
                simulator_is_free=False,
                candidates=1,
                guided=5,
                interval="jackknife",
                seed=0,
                concurrency=8,
                progress=lambda stage, done, total: None,
            )
            await pipeline.interpret([plan])
            return Ended(store.scores("planted", plan.key), list(final_outcomes(plan).values()))
        finally:
            store.close()
            await connected.aclose()

    return asyncio.run(run())


def _served(model: ChatModel) -> Explainer:
    return TsvExplainer(model)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    monkeypatch.setenv(LOOPBACK_ONLY, "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("scored", PLANS, ids=lambda plan: plan.label)
@pytest.mark.parametrize("kind", SIMULATORS)
def test_planted_features_end_as_they_should(kind: LlmSimulatorName, scored: Plan, tmp_path: Path) -> None:
    """Explained and scored by the server: median rho at least .9; by a wrong text: counted mean near 0."""
    with rehearsing("--answer", "tests.flows.planted:truthful") as base_url:
        (tmp_path / "wrong").mkdir()
        true = interpret(base_url, kind, scored, None, tmp_path)
        wrong = interpret(base_url, kind, scored, Knowing(shift=1), tmp_path / "wrong")
    assert {type(outcome) for outcome in true.outcomes} == {Done}
    assert median(score.spearman.value or 0.0 for score in true.scores) >= 0.9
    assert len(wrong.scores) == N_FEATURES
    assert abs(sum(score.spearman.value or 0.0 for score in wrong.scores) / N_FEATURES) < 0.05


@pytest.mark.parametrize("kind", SIMULATORS)
@pytest.mark.parametrize("scored", PLANS, ids=lambda plan: plan.label)
@pytest.mark.parametrize("explained", [True, False])
def test_a_garbled_answerer_gives_twenty_failures_and_no_score(
    kind: LlmSimulatorName, scored: Plan, explained: bool, tmp_path: Path
) -> None:
    """Garbled simulations of good explanations, and garbled explanations: each is a row with its reason."""
    with rehearsing("--answer", "tests.flows.planted:garbled") as base_url:
        ended = interpret(base_url, kind, scored, Knowing() if explained else None, tmp_path)
    failed = [outcome for outcome in ended.outcomes if isinstance(outcome, Failed)]
    assert len(failed) == N_FEATURES
    assert not ended.scores
    assert Counter(outcome.stage for outcome in failed) == {"simulate" if explained else "explain": N_FEATURES}
