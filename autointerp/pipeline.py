"""From a finished harvest, or bare records, to outcomes: examples, explanation, simulation, score, by feature.

A store and a feature's record maker flow in; every step ends in the store as Done, Skipped or Failed, so a killed run
goes on at its first missing step. Bounded concurrency. Knows no model, no corpus and no provider.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from autointerp.errors import UsageError
from autointerp.interpret.explain import Explainer
from autointerp.interpret.lookup import baseline_levels
from autointerp.interpret.protocols import Protocol
from autointerp.interpret.score import score_feature, select_value
from autointerp.interpret.simulate import Simulator
from autointerp.provenance import generator
from autointerp.records import (
    Done,
    Explanation,
    Failed,
    FeatureId,
    FeatureRecord,
    Outcome,
    Simulation,
    Skipped,
    Usage,
)
from autointerp.store.runs import RunStore, ScoreKey

Progress = Callable[[str, int, int], None]
Commit = Callable[[], None]
NEVER_ANSWERED = ("rate_limited", "server_error", "timeout", "connection_lost", "lost")
"""Reasons of failures that cost nothing and may pass: the endpoint gave no answer (`llm.errors`)."""
COMMIT_EVERY = 32
"""Features whose finished steps share one transaction."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where the results of one dictionary stand in a store."""

    store: RunStore
    dictionary: str
    features: Sequence[int]
    protocol: Protocol
    explainer_key: str
    simulator_key: str

    @property
    def design(self) -> str:
        """Name of the sampling design of the records."""
        return self.protocol.design.name

    @property
    def key(self) -> ScoreKey:
        """Where the scores stand in the store."""
        return ScoreKey(self.protocol.name, self.explainer_key, self.simulator_key)

    @property
    def steps(self) -> tuple[str, str, str]:
        """Names of the three steps in the store, in order."""
        return (
            f"examples/{self.design}",
            f"explain/{self.design}/{self.explainer_key}",
            "score/" + "/".join(self.key),
        )

    def feature(self, index: int) -> FeatureId:
        """The key of one of the dictionary's features."""
        return FeatureId(dictionary=self.dictionary, index=index)


@dataclass(frozen=True, kw_only=True)
class Interpretation(Results):
    """How the features of one dictionary are explained and scored."""

    make_record: Callable[[int], FeatureRecord] | None
    """Chooses a feature's examples; None where the store holds all records there are."""
    explainer: Explainer
    simulator: Simulator
    candidates: int
    """Explanations asked for; the best on the select part is kept."""
    seed: int
    concurrency: int
    progress: Progress


async def explain_features(plan: Interpretation) -> int:
    """Examples and an explanation for every feature that lacks them; how many features that were."""
    examples_step, explain_step, _ = plan.steps
    chosen = plan.store.outcomes(plan.dictionary, examples_step)
    ended = plan.store.outcomes(plan.dictionary, explain_step)

    async def work(index: int) -> Commit:
        feature = plan.feature(index)
        record = plan.store.record(feature, plan.design)
        new = record is None and index not in chosen and plan.make_record is not None
        if new and plan.make_record is not None:
            record = plan.make_record(index)
        if record is None or not _has_activations(record):
            reason = "dead" if record is not None and record.stats.n_active == 0 else "no_activation_to_explain"
            return lambda: plan.store.put_outcome(feature, examples_step, Skipped(reason=reason))
        answer = await _explain(plan, record)

        def commit() -> None:
            if new:
                plan.store.put_record(record)
                plan.store.put_outcome(feature, examples_step, Done())
            if isinstance(answer, Failed):
                plan.store.put_outcome(feature, explain_step, answer)
            else:
                plan.store.put_explanation(answer, plan.design, plan.explainer_key)
                plan.store.put_outcome(feature, explain_step, Done())

        return commit

    todo = [i for i in plan.features if not _settled(ended.get(i)) and not isinstance(chosen.get(i), Skipped)]
    await _run(plan, f"explain {plan.dictionary}", todo, work)
    return len(todo)


async def _explain(plan: Interpretation, record: FeatureRecord) -> Explanation | Failed:
    """The candidate that scores best on the select part; the first where that part is empty."""
    candidates = await plan.explainer.explain(record, plan.candidates)
    examples = record.splits.select
    if isinstance(candidates, Failed) or len(candidates) == 1 or not examples:
        return candidates if isinstance(candidates, Failed) else candidates[0]
    windows = [example.record.tokens for example in examples]
    best: tuple[float, Explanation] | None = None
    usage, reason = Usage(), ""
    for candidate in candidates:
        simulation = await _simulate(plan.simulator, candidate, windows)
        usage += candidate.usage + simulation.usage
        if not any(simulation.levels):
            reason = simulation.failures[0][1]
            continue
        value = select_value(examples, simulation.levels)
        if best is None or value > best[0]:
            best = (value, candidate)
    if best is None:
        return Failed(stage="select", reason=reason, message="no candidate's simulation was answered")
    return best[1].model_copy(update={"usage": usage})


def _settled(outcome: Outcome | None) -> bool:
    """Whether a step has ended; one that was never answered is asked again by the next run."""
    return outcome is not None and not (isinstance(outcome, Failed) and outcome.reason in NEVER_ANSWERED)


def _has_activations(record: FeatureRecord) -> bool:
    return any(level > 0 for example in record.splits.explain for level in example.levels)


async def score_features(plan: Interpretation) -> int:
    """A simulation and a score for every explained feature that lacks them; how many features that were."""
    score_step = plan.steps[2]
    explained = plan.store.explained(plan.dictionary, plan.design, plan.explainer_key)
    partner = shuffled_partners(explained, plan.dictionary, plan.seed)
    ended = plan.store.outcomes(plan.dictionary, score_step)
    wanted = set(plan.features)

    async def work(index: int) -> Commit:
        feature = plan.feature(index)
        record = plan.store.record(feature, plan.design)
        own = plan.store.explanation(feature, plan.design, plan.explainer_key)
        if record is None or own is None:
            raise AssertionError(f"{feature} has an outcome but no record or explanation")
        windows = [example.record.tokens for example in record.splits.score]
        simulation = await _simulate(plan.simulator, own.explanation, windows)
        if windows and not own.explanation.no_pattern and not any(simulation.levels):
            failed = Failed(stage="simulate", reason=simulation.failures[0][1], message="no window was answered")
            return lambda: plan.store.put_outcome(feature, score_step, failed)
        other_id = plan.feature(partner[index]) if index in partner else None
        other = plan.store.explanation(other_id, plan.design, plan.explainer_key) if other_id else None
        shuffled = await _simulate(plan.simulator, other.explanation, windows) if other else None
        score = score_feature(
            record,
            simulation.levels,
            no_pattern=own.explanation.no_pattern,
            lookup=baseline_levels(record.token_table, windows) if record.token_table else None,
            shuffled=shuffled.levels if shuffled else None,
            shuffled_from=other_id,
            protocol=plan.protocol.name,
            simulator=plan.simulator.name,
            usage=simulation.usage + (shuffled.usage if shuffled else Usage()),
        )
        kept = {"explanation": simulation} | ({"shuffled": shuffled} if shuffled else {})

        def commit() -> None:
            plan.store.put_score(score, own.id, plan.key, kept)
            plan.store.put_outcome(feature, score_step, Done())

        return commit

    todo = [index for index in explained if index in wanted and not _settled(ended.get(index))]
    await _run(plan, f"score {plan.dictionary}", todo, work)
    return len(todo)


async def _simulate(simulator: Simulator, explanation: Explanation, windows: Sequence[Sequence[str]]) -> Simulation:
    if explanation.no_pattern:
        return Simulation(levels=tuple((0,) * len(window) for window in windows))
    return await simulator.simulate(explanation, windows)


def shuffled_partners(explained: Sequence[int], dictionary: str, seed: int) -> dict[int, int]:
    """For each explained feature another one of the dictionary, whose explanation is its shuffled control."""
    if len(explained) < 2:
        return {}
    partners = {}
    for place, index in enumerate(explained):
        other = int(generator(seed, dictionary, index, "shuffled").integers(len(explained) - 1))
        partners[index] = explained[other + (other >= place)]
    return partners


async def _run(plan: Interpretation, stage: str, todo: Sequence[int], work: Callable[[int], Awaitable[Commit]]) -> None:
    """Work on features, a bounded number at a time; finished steps reach the store in the features' order."""
    slots = asyncio.Semaphore(plan.concurrency)

    async def one(index: int) -> Commit:
        async with slots:
            return await work(index)

    plan.progress(stage, 0, len(todo))
    for low in range(0, len(todo), COMMIT_EVERY):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(index)) for index in todo[low : low + COMMIT_EVERY]]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        with plan.store.step():
            for task in tasks:
                task.result()()
        plan.progress(stage, min(low + COMMIT_EVERY, len(todo)), len(todo))


def final_outcomes(plan: Results) -> dict[int, Outcome]:
    """How the last step that was reached ended, for every asked feature."""
    reached: list[Mapping[int, Outcome]] = [plan.store.outcomes(plan.dictionary, step) for step in plan.steps]
    pending = Failed(stage="score", reason="not_reached", message="the run stopped before this feature's turn")
    ended: dict[int, Outcome] = {}
    for index in plan.features:
        known = [outcomes[index] for outcomes in reached if index in outcomes]
        ended[index] = next((o for o in known if not isinstance(o, Done)), known[-1] if len(known) == 3 else pending)
    return ended


def select_features(spec: str, n_active: Int[np.ndarray, " d_sae"], dictionary: str, seed: int) -> list[int]:
    """The features that `all`, `0-999,7`, `@file` or `sample:N` name, ascending.

    A sample is systematic over live features in order of density, from a seeded start, so every density has its share.
    """
    d_sae = len(n_active)
    if spec == "all":
        return list(range(d_sae))
    if spec.startswith("sample:"):
        size = int(spec.removeprefix("sample:"))
        alive = np.flatnonzero(n_active)
        rng = generator(seed, dictionary, "sample")
        order = alive[np.lexsort((rng.permutation(len(alive)), n_active[alive]))]
        if size >= len(order):
            return sorted(order.tolist())
        places = (np.arange(size) + rng.random()) * (len(order) / size)
        return sorted(order[places.astype(np.int64)].tolist())
    chosen: set[int] = set()
    for low, high in read_ranges(spec):
        if high >= d_sae:
            raise UsageError(f"features: dictionary {dictionary} has 0 to {d_sae - 1}, not {high}")
        chosen.update(range(low, high + 1))
    return sorted(chosen)


def read_ranges(spec: str) -> list[tuple[int, int]]:
    """First and last feature of each range that `0-999,7` or the file of `@file` names; none for `all` and a sample.

    Raises:
        UsageError: the file cannot be read, or names something else.
    """
    if spec == "all" or spec.startswith("sample:"):
        return []
    text = _read_feature_file(Path(spec[1:])) if spec.startswith("@") else spec
    ranges = []
    for item in re.split(r"[\s,]+", text.strip()):
        bounds = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", item)
        if not bounds or int(bounds[1]) > int(bounds[2] or bounds[1]):
            raise UsageError(f"features: {item!r} is neither a number nor a range such as 0-999")
        ranges.append((int(bounds[1]), int(bounds[2] or bounds[1])))
    return ranges


def _read_feature_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the feature list {path}: {error}") from None
