"""The text bench: planted features of python-docs through the project's own path, from events to scores.

A cache folder and judges flow in; for every feature the score of its true explanation and of each near-miss flows out,
and for every judge and protocol how often the true one stands above. Opens no connection.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from autointerp.bare import N_BINS
from autointerp.config import ScoreConfig
from autointerp.examples import Chooser
from autointerp.format import MIN_DISTINCT_FOR_DECILES, level_edges, weighted_quantiles
from autointerp.interpret.ask import all_in_order
from autointerp.interpret.protocols import Plan, make_plan
from autointerp.interpret.score import Guided, Terms, score_feature
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.summary import counted
from autointerp.records import (
    HARD_STRATA,
    Example,
    Explanation,
    FeatureFacts,
    FeatureRecord,
    FeatureStats,
    Record,
    Simulation,
)
from autointerp.scores import FeatureScore
from autointerp.selftest.judges import JUDGES, DialledJudge, known_claims
from autointerp.selftest.planted import NEAR_MISSES, Claim, PlantedText, plant_activations, planted_texts
from autointerp.selftest.text import Grid, TextRows
from autointerp.splits import CorpusIndex
from autointerp.subject.corpus.python_docs import read_python_docs

DICTIONARY = "planted"
N_GUIDED = ScoreConfig().guided
Progress = Callable[[str, int, int], None]
PLANS: dict[str, Plan] = {
    "graded-60": make_plan("graded", ScoreConfig(windows=60)),
    "graded-120": make_plan("graded", ScoreConfig(windows=120)),
    "simulate": make_plan("simulate", ScoreConfig()),
}


class PlantedReader:
    """The planted features' activations over the corpus; an `examples.FeatureReader`."""

    def __init__(self, rows: TextRows, planted: Sequence[PlantedText], seed: int) -> None:
        grid = Grid(rows.vocabulary, rows.tokens, rows.length)
        self._n_tokens = int(rows.length.sum())
        self._events: list[tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]] = []
        for feature in planted:
            dense = plant_activations(feature, grid, seed).reshape(-1)
            slot = np.flatnonzero(dense)
            self._events.append((slot, dense[slot]))

    def read(self, feature: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Slots, ascending, and values."""
        return self._events[feature]

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """Level edges over the whole corpus, and whether they go by rank."""
        distinct, counts = np.unique(self._events[feature][1], return_counts=True)
        return level_edges(distinct, counts), len(distinct) < MIN_DISTINCT_FOR_DECILES

    def neighbours(self, feature: int) -> Sequence[tuple[int, float]]:
        """None: there are no weights."""
        return ()

    def feature_stats(self, feature: int) -> FeatureStats:
        """Over the whole corpus."""
        value = self._events[feature][1]
        distinct, counts = np.unique(value, return_counts=True)
        top = float(distinct[-1]) if len(distinct) else 0.0
        deciles = weighted_quantiles(distinct, counts, np.arange(1, 10) / 10).tolist() if len(distinct) else ()
        return FeatureStats(
            n_tokens=self._n_tokens,
            n_active=len(value),
            max=top,
            mean_active=float(value.mean()) if len(value) else 0.0,
            deciles=tuple(deciles),
            histogram=tuple(np.histogram(value, bins=N_BINS, range=(0.0, top or 1.0))[0].tolist()),
        )

    def feature_facts(self, feature: int) -> FeatureFacts:
        """Nothing: there are no weights."""
        return FeatureFacts()


class Bench:
    """The planted features' records, protocol by protocol."""

    def __init__(self, cache: Path, seed: int) -> None:
        self.planted = planted_texts()
        rows = TextRows(read_python_docs(cache))
        self._reader = PlantedReader(rows, self.planted, seed)
        self._index = CorpusIndex(rows, seed)
        self._records: dict[tuple[str, int], FeatureRecord] = {}

    def record(self, plan: Plan, feature: int) -> FeatureRecord:
        """The feature's examples under a plan's design, chosen once."""
        key = (plan.design.name, feature)
        if key not in self._records:
            self._records[key] = self._chooser(plan).feature_record(feature)
        return self._records[key]

    def guided(self, plan: Plan, feature: int, claim: Claim) -> tuple[Example, ...]:
        """Silent windows of the score part that the claim's words point at; none where the feature has no windows."""
        if not self.record(plan, feature).splits.score:
            return ()
        return self._chooser(plan).guided_examples(feature, claim.text, N_GUIDED)

    def _chooser(self, plan: Plan) -> Chooser:
        return Chooser(self._reader, self._index, DICTIONARY, plan.design)

    def examples(self, plan: Plan, feature: int) -> list[Example]:
        """The windows that the plan scores."""
        return [e for e in self.record(plan, feature).splits.score if e.block < plan.most_blocks]


class ClaimScore(Record):
    """One explanation's score on one feature."""

    text: str
    value: float | None
    """Rho; 0 where the prediction is constant, None where there is no score."""
    undefined: str | None
    low: float | None
    high: float | None
    null_threshold: float | None
    hit_rate: float | None
    """Share of hard negatives answered above 0."""
    guided: float | None
    """False positives per 1,000 silent windows that its own words point at."""


class FeatureRow(Record):
    """One planted feature with all its explanations under one judge and protocol."""

    kind: str
    density: float
    n_windows: int
    n_active: int
    n_hard: int
    lookup: float | None
    """Rho of the look-up baseline."""
    claims: dict[str, ClaimScore]
    """`true` and the near-misses."""


class JudgeRow(Record):
    """One judge under one protocol, over all planted features."""

    true_mean: float | None
    """Mean value of the true explanations that have one."""
    n_true: int
    above: dict[str, float | None]
    """Share of features whose true explanation stands above that near-miss, where both have a value."""
    without_score: dict[str, int]
    """Explanations without a score, by reason."""
    calls: int


class TextReport(Record):
    """All figures of the text bench."""

    features: tuple[FeatureRow, ...]
    """Under the careful judge and graded-60."""
    judges: dict[str, dict[str, JudgeRow]]
    """By judge and protocol."""


def run_text_bench(cache: Path, plans: Sequence[str], n_askings: int, seed: int, progress: Progress) -> TextReport:
    """Every judge under every plan, each asked `n_askings` times with another luck."""
    bench, claims = Bench(cache, seed), known_claims()
    judges: dict[str, dict[str, JudgeRow]] = {}
    first: tuple[FeatureRow, ...] = ()
    for i, (judge, dials) in enumerate(JUDGES.items()):
        progress("planted text", i, len(JUDGES))
        judges[judge] = {}
        for plan in plans:
            askings = [
                asyncio.run(score_planted(bench, plan, DialledJudge(dials, claims, k))) for k in range(n_askings)
            ]
            first = first or tuple(asking.row for asking in askings[0])
            judges[judge][plan] = summarise_judge([scored for asking in askings for scored in asking])
    progress("planted text", len(JUDGES), len(JUDGES))
    return TextReport(features=first, judges=judges)


class ScoredFeature(NamedTuple):
    """A planted feature's row and the simulations behind it, by claim."""

    row: FeatureRow
    examples: Sequence[Example]
    simulations: dict[str, Simulation]
    guided: dict[str, Simulation]
    """On silent windows that the claim's own words point at."""


async def score_planted(
    bench: Bench, plan_name: str, simulator: Simulator, progress: Progress = lambda stage, done, total: None
) -> list[ScoredFeature]:
    """Simulate and score every explanation of every planted feature; one without windows is scored as such."""
    plan = PLANS[plan_name]
    terms = Terms(protocol=plan.label, simulator=simulator.name, interval="bca")
    scored: list[ScoredFeature] = []
    for feature, planted in enumerate(bench.planted):
        progress("planted features", feature, len(bench.planted))
        record, examples = bench.record(plan, feature), bench.examples(plan, feature)
        claims = {"true": planted.true} | {str(name): claim for name, claim in planted.near.items()}
        guided = [bench.guided(plan, feature, claim) for claim in claims.values()]
        asked = [
            simulator.simulate(explain(record, claim), [e.window for e in windows])
            for claim, found in zip(claims.values(), guided, strict=True)
            for windows in (examples, found)
        ]
        answers = await all_in_order(asked)
        simulations = dict(zip(claims, answers[::2], strict=True))
        on_guided = dict(zip(claims, answers[1::2], strict=True))
        scores = {
            name: score_feature(record, examples, own.levels, terms, guided=Guided(found, other.levels))
            for (name, own), found, other in zip(simulations.items(), guided, on_guided.values(), strict=True)
        }
        row = _row(planted, record, examples, claims, scores)
        scored.append(ScoredFeature(row, examples, simulations, on_guided))
    progress("planted features", len(bench.planted), len(bench.planted))
    return scored


def explain(record: FeatureRecord, claim: Claim) -> Explanation:
    """A claim as an explanation of a feature."""
    return Explanation(
        feature=record.feature, text=claim.text, author="human", method="planted", examples_digest="none"
    )


def _row(
    planted: PlantedText,
    record: FeatureRecord,
    examples: Sequence[Example],
    claims: Mapping[str, Claim],
    scores: Mapping[str, FeatureScore],
) -> FeatureRow:
    return FeatureRow(
        kind=planted.kind,
        density=record.stats.density,
        n_windows=len(examples),
        n_active=sum(e.stratum == "decile" for e in examples),
        n_hard=sum(e.stratum in HARD_STRATA for e in examples),
        lookup=scores["true"].lookup.value,
        claims={name: _claim_score(claims[name].text, score) for name, score in scores.items()},
    )


def _claim_score(text: str, score: FeatureScore) -> ClaimScore:
    s = score.spearman
    return ClaimScore(
        text=text,
        value=counted(s),
        undefined=s.undefined,
        low=s.low,
        high=s.high,
        null_threshold=s.null_threshold,
        hit_rate=score.hit_rate,
        guided=score.false_positives.get("guided"),
    )


def summarise_judge(scored: Sequence[ScoredFeature]) -> JudgeRow:
    """One judge's rows over features and askings."""
    rows = [s.row for s in scored]
    true = [row.claims["true"].value for row in rows]
    known = [value for value in true if value is not None]
    lacking = Counter(c.undefined for row in rows for c in row.claims.values() if c.value is None and c.undefined)
    return JudgeRow(
        true_mean=sum(known) / len(known) if known else None,
        n_true=len(known),
        above={near: _share_above(rows, near) for near in NEAR_MISSES},
        without_score=dict(lacking),
        calls=sum(
            simulation.usage.calls for s in scored for part in (s.simulations, s.guided) for simulation in part.values()
        ),
    )


def _share_above(rows: Sequence[FeatureRow], near: str) -> float | None:
    pairs = [
        (true, other)
        for row in rows
        if near in row.claims
        for true, other in [(row.claims["true"].value, row.claims[near].value)]
        if true is not None and other is not None
    ]
    return sum(true > other for true, other in pairs) / len(pairs) if pairs else None
