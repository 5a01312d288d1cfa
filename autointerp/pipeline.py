"""From a finished harvest, or bare records, to outcomes: examples, explanation, simulation, score, by feature.

A store and a feature's record maker flow in; every step ends in the store as Done, Skipped or Failed, so a killed run
goes on at its first missing step. Dictionaries take turns, so that a provider that drifts drifts for all of them alike.
Bounded concurrency. Knows no model, no corpus and no provider.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from autointerp.feature_steps import explain_one, refine_one, score_one
from autointerp.plans import Interpretation, Results
from autointerp.provenance import generator
from autointerp.records import Done, Failed, FeatureRecord, Outcome, Skipped
from autointerp.scores import UndefinedReason

Commit = Callable[[], None]
NEVER_ANSWERED = ("rate_limited", "server_error", "timeout", "connection_lost", "lost")
"""Reasons of failures that cost nothing and may pass: the endpoint gave no answer (`llm.errors`)."""
COMMIT_EVERY = 32
"""Features whose finished steps share one transaction."""
SHUFFLED_SHARE = 0.1
LEAST_SHUFFLED = 50
"""Features whose shuffled control is simulated where simulating costs money."""


class _Stage(NamedTuple):
    """What is left to do with one dictionary."""

    plan: Interpretation
    name: str
    todo: Sequence[int]
    work: Callable[[int], Awaitable[Commit]]


async def explain_features(*plans: Interpretation) -> int:
    """Examples and an explanation for every feature that lacks them; how many features that were."""
    return await _in_turns([_explaining(plan) for plan in plans])


async def score_features(*plans: Interpretation) -> int:
    """A simulation and a score for every explained feature that lacks them; how many features that were."""
    return await _in_turns([_scoring(plan) for plan in plans])


def _explaining(plan: Interpretation) -> _Stage:
    examples_step, explain_step, _ = plan.steps
    chosen = plan.store.outcomes(plan.dictionary, examples_step)
    ended = plan.store.outcomes(plan.dictionary, explain_step)

    async def work(index: int) -> Commit:
        feature = plan.feature(index)
        record = plan.store.record(feature, plan.design)
        new = record is None and index not in chosen and plan.maker is not None
        if new and plan.maker is not None:
            record = plan.maker.feature_record(index)
        if record is None or not _has_activations(record):
            reason = "dead" if record is not None and record.stats.n_active == 0 else "no_activation_to_explain"
            return lambda: plan.store.put_outcome(feature, examples_step, Skipped(reason=reason))
        answer = await explain_one(plan, record)
        refined = None if isinstance(answer, Failed) or plan.refiner is None else await refine_one(plan, record, answer)

        def commit() -> None:
            if new:
                plan.store.put_record(record)
                plan.store.put_outcome(feature, examples_step, Done())
            if isinstance(answer, Failed):
                plan.store.put_outcome(feature, explain_step, answer)
                return
            plan.store.put_explanation(refined.explanation if refined else answer, plan.design, plan.explainer_key)
            plan.store.put_outcome(feature, explain_step, Done())
            if refined:
                plan.store.put_outcome(feature, plan.refine_step, refined.outcome)

        return commit

    todo = [i for i in plan.features if not _settled(ended.get(i)) and not isinstance(chosen.get(i), Skipped)]
    return _Stage(plan, f"explain {plan.dictionary}", todo, work)


def _settled(outcome: Outcome | None) -> bool:
    """Whether a step has ended; one that was never answered is asked again by the next run."""
    return outcome is not None and not (isinstance(outcome, Failed) and outcome.reason in NEVER_ANSWERED)


def _has_activations(record: FeatureRecord) -> bool:
    return any(level > 0 for example in record.splits.explain for level in example.levels)


def _scoring(plan: Interpretation) -> _Stage:
    known = set(plan.store.explained(plan.dictionary, plan.design, plan.explainer_key))
    explained = [index for index in plan.features if index in known]
    partner = shuffled_partners(plan.features, explained, plan.dictionary, plan.seed)
    drawn = set(explained if plan.simulator_is_free else drawn_for_shuffling(explained, plan.dictionary, plan.seed))
    ended = plan.store.outcomes(plan.dictionary, plan.steps[2])
    shuffled = plan.store.outcomes(plan.dictionary, plan.shuffled_step)

    async def work(index: int) -> Commit:
        other = plan.feature(partner[index]) if index in partner and index in drawn else None
        why_not: UndefinedReason = "not_drawn" if index in partner else "no_other_explanation"
        scored = await score_one(plan, index, other, why_not)

        def commit() -> None:
            if isinstance(scored, Failed):
                plan.store.put_outcome(plan.feature(index), plan.steps[2], scored)
                return
            plan.store.put_score(scored.score, scored.explanation, plan.key, scored.simulations)
            plan.store.put_outcome(plan.feature(index), plan.steps[2], Done())
            if scored.shuffled:
                plan.store.put_outcome(plan.feature(index), plan.shuffled_step, scored.shuffled)

        return commit

    todo = [
        index
        for index in explained
        if not (_settled(ended.get(index)) and (index not in shuffled or _settled(shuffled[index])))
    ]
    return _Stage(plan, f"score {plan.dictionary}", todo, work)


def shuffled_partners(features: Sequence[int], explained: Sequence[int], dictionary: str, seed: int) -> dict[int, int]:
    """For each explained feature another one of the dictionary, whose explanation is its shuffled control.

    The first explained one in a seeded order of all features asked for, so that a feature without an explanation
    changes nobody's partner but that of those who would have had it.
    """
    known = set(explained)
    if len(known) < 2:
        return {}
    partners = {}
    for index in explained:
        order = generator(seed, dictionary, index, "shuffled").permutation(len(features))
        partners[index] = next(features[i] for i in order.tolist() if features[i] in known and features[i] != index)
    return partners


def drawn_for_shuffling(explained: Sequence[int], dictionary: str, seed: int) -> list[int]:
    """A seeded tenth of the features, at least 50."""
    size = max(LEAST_SHUFFLED, round(SHUFFLED_SHARE * len(explained)))
    lots = [generator(seed, dictionary, index, "drawn for shuffling").random() for index in explained]
    return [explained[i] for i in np.argsort(lots, kind="stable")[:size]]


async def _in_turns(stages: Sequence[_Stage]) -> int:
    """A batch of each dictionary, then the next of each; how many features there were."""
    for stage in stages:
        stage.plan.progress(stage.name, 0, len(stage.todo))
    for low in range(0, max((len(stage.todo) for stage in stages), default=0), COMMIT_EVERY):
        for stage in stages:
            if low < len(stage.todo):
                await _do(stage, stage.todo[low : low + COMMIT_EVERY])
                stage.plan.progress(stage.name, min(low + COMMIT_EVERY, len(stage.todo)), len(stage.todo))
    return sum(len(stage.todo) for stage in stages)


async def _do(stage: _Stage, batch: Sequence[int]) -> None:
    """Work on features, a bounded number at a time; finished steps reach the store in the features' order."""
    slots = asyncio.Semaphore(stage.plan.concurrency)

    async def one(index: int) -> Commit:
        async with slots:
            return await stage.work(index)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index)) for index in batch]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    with stage.plan.store.step():
        for task in tasks:
            task.result()()


def final_outcomes(plan: Results) -> dict[int, Outcome]:
    """How the last step that was reached ended, for every asked feature."""
    reached: list[Mapping[int, Outcome]] = [plan.store.outcomes(plan.dictionary, step) for step in plan.steps]
    pending = Failed(stage="score", reason="not_reached", message="the run stopped before this feature's turn")
    ended: dict[int, Outcome] = {}
    for index in plan.features:
        known = [outcomes[index] for outcomes in reached if index in outcomes]
        ended[index] = next((o for o in known if not isinstance(o, Done)), known[-1] if len(known) == 3 else pending)
    return ended
