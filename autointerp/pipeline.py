"""From a finished harvest, or bare records, to outcomes: examples, explanation, simulation, score, by feature.

A store and the features' record makers flow in; every step ends in the store as Done, Skipped or Failed, so a killed
run goes on at its first missing step. One bounded pool works on all dictionaries and stages. Knows no model, no corpus
and no provider.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import numpy as np

from autointerp.errors import StoppedError
from autointerp.feature_steps import explain_one, refine_one, score_one
from autointerp.interpret.ask import PENDING
from autointerp.plans import Interpretation, Results, asks_again
from autointerp.provenance import generator
from autointerp.records import Done, Failed, FeatureId, FeatureRecord, Outcome, Skipped
from autointerp.scores import UndefinedReason

Commit = Callable[[], None]
Job = Callable[[], Awaitable[None]]
COMMIT_EVERY = 32
"""Features whose finished steps share one transaction, at most."""
COMMIT_AFTER_S = 0.5
"""A finished step waits no longer than this for others, where any follow."""
SHUFFLED_SHARE = 0.1
LEAST_SHUFFLED = 50
"""Features whose shuffled control is simulated where simulating costs money."""


async def interpret(plans: Sequence[Interpretation], *, scoring: bool = True) -> int:
    """Examples, explanation and, with `scoring`, simulation and score for every feature that lacks them.

    All features of all dictionaries go through one pool, stage by stage, so that requests with the same head follow
    each other. Inside a stage dictionaries take turns, feature by feature, so that a provider that drifts drifts for
    all of them alike. A feature that has to wait holds up no other one.

    Returns:
        How many steps of features were worked on.

    Raises:
        StoppedError: something stopped the run; what was under way has ended and is kept.
    """
    if not plans:
        return 0
    writer = _Writer(plans[0])
    stages = [_Stages(plan, writer) for plan in plans]
    jobs = chain(
        _in_turns([stage.explain_jobs() for stage in stages]),
        _in_turns([stage.score_jobs() for stage in stages if scoring]),
    )
    try:
        await _work_through(jobs, max(plan.concurrency for plan in plans))
    except StoppedError:
        writer.flush()
        raise
    writer.flush()
    return sum(stage.n_worked for stage in stages)


def _in_turns(rows: Sequence[Iterator[Job]]) -> Iterator[Job]:
    """The first of each row, then the second of each, until all are empty."""
    left = list(rows)
    while left:
        for row in tuple(left):
            job = next(row, None)
            if job is None:
                left.remove(row)
            else:
                yield job


async def _work_through(jobs: Iterator[Job], n_workers: int) -> None:
    """A bounded number at a time; one that stops lets the others end, any other error ends them."""
    stopped: list[StoppedError] = []

    async def worker() -> None:
        for job in jobs:
            try:
                await job()
            except StoppedError as error:
                stopped.append(error)
            if stopped:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(n_workers):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if stopped:
        raise stopped[0]


@dataclass
class _Writer:
    """Finished steps on their way into the store, several in one transaction."""

    plan: Interpretation
    """Any: all of a run's plans have one store."""
    waiting: dict[tuple[str, FeatureId], Commit] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def put(self, stage: str, feature: FeatureId, commit: Commit) -> None:
        """Write soon."""
        self.waiting[stage, feature] = commit
        if len(self.waiting) >= COMMIT_EVERY or time.monotonic() - self._since >= COMMIT_AFTER_S:
            self.flush()

    def flush(self) -> None:
        """Write now."""
        with self.plan.store.step():
            for commit in self.waiting.values():
                commit()
        self.waiting.clear()
        self._since = time.monotonic()


class _Stages:
    """The features of one dictionary on their way."""

    def __init__(self, plan: Interpretation, writer: _Writer) -> None:
        self.plan = plan
        self.n_worked = 0
        self._writer = writer
        self._under_way: dict[int, asyncio.Event] = {}
        """Explanations being made."""
        self._left: set[int] = set()
        """Features with a step that was interrupted, or waits for answers: not done, and not failed."""
        self._explained = set(plan.store.explained(plan.dictionary, plan.design, plan.explainer_key))

    def explain_jobs(self) -> Iterator[Job]:
        """One for every feature that lacks an explanation and may get one."""
        plan = self.plan
        chosen = plan.store.ends(plan.dictionary, plan.steps[0])
        ended = plan.store.ends(plan.dictionary, plan.steps[1])
        todo = [i for i in plan.features if plan.is_open(ended.get(i)) and chosen.get(i) != "skipped"]
        without = set(todo) - set(chosen)
        yield from self._jobs("explain", todo, lambda index: self._explain(index, new=index in without))

    def score_jobs(self) -> Iterator[Job]:
        """One for every explained feature that lacks a score or its shuffled control; begun when explaining has."""
        plan = self.plan
        ended = plan.store.ends(plan.dictionary, plan.steps[2])
        shuffled = plan.store.ends(plan.dictionary, plan.shuffled_step)
        again = plan.store.with_lost_windows(plan.dictionary, plan.key, partial(asks_again, plan.retries))
        todo = [
            i
            for i in plan.features
            if (i in self._explained or i in self._under_way)
            and (plan.is_open(ended.get(i)) or plan.is_open(shuffled.get(i, "done")) or i in again)
        ]
        drawn = drawn_for_shuffling(plan.features, plan.dictionary, plan.seed)
        asked = set(plan.features if plan.simulator_is_free else drawn)
        yield from self._jobs("score", todo, lambda index: self._score(index, drawn=index in asked))

    def _jobs(self, stage: str, todo: Sequence[int], work: Callable[[int], Awaitable[Commit | None]]) -> Iterator[Job]:
        """Work whose result is written with others', and whose progress is told when it is."""
        name, done = f"{stage} {self.plan.dictionary}", 0
        self.plan.progress(name, 0, len(todo))

        def count() -> None:
            nonlocal done
            done += 1
            if done == len(todo) or done % COMMIT_EVERY == 0 or not self.plan.simulator_is_free:
                self.plan.progress(name, done, len(todo))

        async def job(index: int) -> None:
            commit = await work(index)
            if commit is None and index in self._left:
                return

            def write() -> None:
                if commit:
                    commit()
                count()

            self._writer.put(stage, self.plan.feature(index), write)

        for index in todo:
            self.n_worked += 1
            yield lambda index=index: job(index)  # type: ignore[misc]

    async def _explain(self, index: int, *, new: bool) -> Commit | None:
        settled = self._under_way[index] = asyncio.Event()
        try:
            commit, explained = await self._explained_by_plan(index, new=new)
            if explained:
                self._explained.add(index)
            return commit
        except StoppedError:
            self._left.add(index)
            raise
        finally:
            del self._under_way[index]
            settled.set()

    async def _explained_by_plan(self, index: int, *, new: bool) -> tuple[Commit | None, bool]:
        """What to write, and whether there is an explanation."""
        plan, feature = self.plan, self.plan.feature(index)
        record = plan.store.record(feature, plan.design)
        make = new and record is None and plan.maker is not None
        if make and plan.maker is not None:
            record = plan.maker.feature_record(index)
        if record is None or not _has_activations(record):
            reason = "dead" if record is not None and record.stats.n_active == 0 else "no_activation_to_explain"
            return lambda: plan.store.put_outcome(feature, plan.steps[0], Skipped(reason=reason)), False
        answer = await explain_one(plan, record)
        refined = None if isinstance(answer, Failed) or plan.refiner is None else await refine_one(plan, record, answer)
        pending = _is_pending(answer) or (refined is not None and _is_pending(refined.outcome))
        if pending:
            self._left.add(index)

        def commit() -> None:
            if make:
                plan.store.put_record(record)
                plan.store.put_outcome(feature, plan.steps[0], Done())
            if pending:
                return
            if isinstance(answer, Failed):
                plan.store.put_outcome(feature, plan.steps[1], answer)
                return
            plan.store.put_explanation(refined.explanation if refined else answer, plan.design, plan.explainer_key)
            plan.store.put_outcome(feature, plan.steps[1], Done())
            if refined:
                plan.store.put_outcome(feature, plan.refine_step, refined.outcome)

        return commit, not (pending or isinstance(answer, Failed))

    async def _score(self, index: int, *, drawn: bool) -> Commit | None:
        plan, feature = self.plan, self.plan.feature(index)
        if not await self._is_explained(index):
            return None
        partner = await self._partner(index) if drawn else None
        why_not: UndefinedReason = "no_other_explanation" if drawn else "not_drawn"
        scored = await score_one(plan, index, plan.feature(partner) if partner is not None else None, why_not)
        if _is_pending(scored):
            self._left.add(index)
            return None

        def commit() -> None:
            if isinstance(scored, Failed):
                plan.store.put_outcome(feature, plan.steps[2], scored)
                return
            plan.store.put_score(scored.score, scored.explanation, plan.key, scored.simulations)
            plan.store.put_outcome(feature, plan.steps[2], Done())
            if scored.shuffled:
                plan.store.put_outcome(feature, plan.shuffled_step, scored.shuffled)

        return commit

    async def _is_explained(self, index: int) -> bool:
        """Whether a feature has an explanation, which then is in the store; waits for one that is being made."""
        if index in self._under_way:
            await self._under_way[index].wait()
        if ("explain", self.plan.feature(index)) in self._writer.waiting:
            self._writer.flush()
        return index in self._explained

    async def _partner(self, index: int) -> int | None:
        """Whose explanation is the shuffled control; None where there is no other one."""
        for other in partner_order(index, self.plan.features, self.plan.dictionary, self.plan.seed):
            if other != index and await self._is_explained(other):
                return other
        return None


def _is_pending(ended: object) -> bool:
    """Whether a step met an answer that is still to come, so that it counts as not begun."""
    return isinstance(ended, Failed) and ended.reason == PENDING


def _has_activations(record: FeatureRecord) -> bool:
    return any(level > 0 for example in record.splits.explain for level in example.levels)


def partner_order(index: int, features: Sequence[int], dictionary: str, seed: int) -> Iterator[int]:
    """The features in the order in which they are asked for an explanation to be another one's shuffled control.

    A seeded order of all features asked for, so that one without an explanation changes nobody's partner but that of
    those who would have had it.
    """
    order = generator(seed, dictionary, index, "shuffled").permutation(len(features))
    return (features[i] for i in order.tolist())


def drawn_for_shuffling(features: Sequence[int], dictionary: str, seed: int) -> list[int]:
    """A seeded tenth of the features asked for, at least 50."""
    lots = [generator(seed, dictionary, index, "drawn for shuffling").random() for index in features]
    return [features[i] for i in np.argsort(lots, kind="stable")[: n_shuffled(len(features))]]


def n_shuffled(n_features: int) -> int:
    """Of so many features, how many get their shuffled control where simulating costs money."""
    return min(n_features, max(LEAST_SHUFFLED, round(SHUFFLED_SHARE * n_features)))


def final_outcomes(plan: Results) -> dict[int, Outcome]:
    """How the last step that was reached ended, for every asked feature."""
    reached: list[Mapping[int, Outcome]] = [plan.store.outcomes(plan.dictionary, step) for step in plan.steps]
    pending = Failed(stage="score", reason="not_reached", message="the run stopped before this feature's turn")
    ended: dict[int, Outcome] = {}
    for index in plan.features:
        known = [outcomes[index] for outcomes in reached if index in outcomes]
        ended[index] = next((o for o in known if not isinstance(o, Done)), known[-1] if len(known) == 3 else pending)
    return ended
