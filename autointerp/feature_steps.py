"""One feature through its steps: explanation, refinement, simulation with its controls, score.

A plan and a feature's record flow in; an explanation, a score with its simulations, or a failure flow out. Writes
nothing itself. Knows no other feature but the one whose explanation serves as control.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.interpret.ask import PENDING
from autointerp.interpret.lookup import words_of
from autointerp.interpret.score import Guided, Shuffled, is_open, score_feature, select_value
from autointerp.interpret.simulate import Simulator
from autointerp.llm.purpose import asking_for
from autointerp.plans import Interpretation
from autointerp.records import (
    Done,
    Example,
    Explanation,
    Failed,
    FailedStage,
    FeatureId,
    FeatureRecord,
    Outcome,
    Refinement,
    Simulation,
    Skipped,
    Usage,
)
from autointerp.scores import FeatureScore, UndefinedReason
from autointerp.store.runs import StoredExplanation


async def explain_one(plan: Interpretation, record: FeatureRecord) -> Explanation | Failed:
    """The candidate that scores best on the select part; the first where that part is empty."""
    with asking_for("explain", record.feature):
        candidates = await plan.explainer.explain(record, plan.candidates)
    examples = record.splits.select
    if isinstance(candidates, Failed) or len(candidates) == 1 or not examples:
        return candidates if isinstance(candidates, Failed) else candidates[0]
    best: tuple[float, Explanation] | None = None
    usage, reason = Usage(), ""
    for candidate in candidates:
        with asking_for("select", record.feature):
            simulation = await simulate_one(plan.simulator, candidate, examples)
        usage += candidate.usage + simulation.usage
        if reason == PENDING or _is_pending(simulation):
            reason = PENDING
        elif not any(simulation.levels):
            reason = simulation.failures[0][1]
        elif best is None or (select_value(examples, simulation.levels) or 0.0) > best[0]:
            best = (select_value(examples, simulation.levels) or 0.0, candidate)
    if best is None or reason == PENDING:
        return Failed(stage="select", reason=reason, message="no candidate's simulation was answered", usage=usage)
    return best[1].model_copy(update={"usage": usage})


def _is_pending(simulation: Simulation) -> bool:
    return any(reason == PENDING for _, reason in simulation.failures)


@dataclass(frozen=True)
class Refined:
    """The explanation after its round of refinement, and how the round ended."""

    explanation: Explanation
    outcome: Outcome


async def refine_one(plan: Interpretation, record: FeatureRecord, explanation: Explanation) -> Refined:
    """One revision by the errors on one half of the select part, kept only if it is better on the other half.

    On the windows whose errors it was made from, a revision that merely lists them is better than any.
    """
    with asking_for("refine", record.feature):
        return await _refine(plan, record, explanation)


async def _refine(plan: Interpretation, record: FeatureRecord, explanation: Explanation) -> Refined:
    shown, held = _halves(record.splits.select)
    if not held or explanation.no_pattern or plan.refiner is None:
        return Refined(explanation, Skipped(reason="nothing_to_refine"))
    before = await simulate_one(plan.simulator, explanation, [*shown, *held])
    if not any(before.levels) or _is_pending(before):
        return Refined(explanation, _unanswered("refine", before, before.usage))
    seen = record.model_copy(update={"splits": record.splits.model_copy(update={"select": tuple(shown)})})
    revision = await plan.refiner.refine(seen, explanation, Simulation(levels=before.levels[: len(shown)]))
    if isinstance(revision, Failed) and not revision.attempts:
        return Refined(_charged(explanation, before.usage), Skipped(reason=revision.reason))
    if isinstance(revision, Failed):
        return Refined(explanation, revision.model_copy(update={"usage": before.usage + revision.usage}))
    after = await simulate_one(plan.simulator, revision, held)
    usage = before.usage + revision.usage + after.usage
    if not any(after.levels) or _is_pending(after):
        return Refined(explanation, _unanswered("refine", after, usage))
    values = [select_value(held, levels) for levels in (before.levels[len(shown) :], after.levels)]
    kept = (values[1] or 0.0) > (values[0] or 0.0)
    refinement = Refinement(
        before=explanation.text, kept=kept, select_before=values[0], select_after=values[1], usage=usage
    )
    better = revision if kept else explanation
    changes = {"refinement": refinement, "usage": explanation.usage + usage}
    return Refined(better.model_copy(update=changes), Done())


def _halves(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Two halves with as many windows of each stratum."""
    halves: tuple[list[Example], list[Example]] = ([], [])
    for number, example in enumerate(sorted(examples, key=lambda example: example.stratum)):
        halves[number % 2].append(example)
    return halves


def _charged(explanation: Explanation, usage: Usage) -> Explanation:
    return explanation.model_copy(update={"usage": explanation.usage + usage})


def _unanswered(stage: FailedStage, simulation: Simulation, usage: Usage) -> Failed:
    reason = PENDING if _is_pending(simulation) else simulation.failures[0][1]
    return Failed(stage=stage, reason=reason, message="no window was answered", usage=usage)


@dataclass(frozen=True)
class ScoredOne:
    """A score, the explanation it is of, and the simulations behind it by name."""

    score: FeatureScore
    explanation: int
    """Its key in the store."""
    simulations: dict[str, Simulation]
    shuffled: Outcome | None
    """How simulating the shuffled control ended; None where there is none."""


async def score_one(
    plan: Interpretation, index: int, other_id: FeatureId | None, why_not_shuffled: UndefinedReason
) -> ScoredOne | Failed:
    """Simulate and score one explained feature with its controls.

    Everything is asked that does not hang on an answer still to come, so that those can be fetched together.

    Args:
        other_id: whose explanation is the shuffled control; `why_not_shuffled` says why it is None.
    """
    feature = plan.feature(index)
    record, own = plan.store.record(feature, plan.design), _explanation(plan, feature)
    if record is None or own is None:
        raise AssertionError(f"{feature} has an outcome but no record or explanation")
    with asking_for("simulate", feature):
        chosen = await _simulate_until_clear(plan, record, own.explanation)
    examples, first = chosen.examples, chosen.simulation
    if examples and not own.explanation.no_pattern and not any(first.levels) and not _is_pending(first):
        return _unanswered("simulate", first, first.usage)
    kept = {"explanation": first, **await _simulate_controls(plan, own.explanation, examples, other_id)}
    if any(_is_pending(simulation) for simulation in kept.values()):
        return Failed(stage="simulate", reason=PENDING, message="answers are still to come")
    guided = kept.get("guided")
    n_first = sum(example.block < plan.plan.first_blocks for example in examples)

    def on(n: int) -> FeatureScore:
        levels = {name: simulation.levels[:n] for name, simulation in kept.items()}
        return score_feature(
            record,
            examples[:n],
            levels["explanation"],
            plan.terms,
            no_pattern=own.explanation.no_pattern,
            shuffled=Shuffled(levels.get("shuffled"), other_id, why_not_shuffled),
            unrefined=levels.get("unrefined"),
            guided=Guided(guided.examples, guided.levels) if guided else None,
        )

    changes = {
        "n_saved": chosen.n_saved,
        "first": on(n_first) if n_first < len(examples) and plan.plan.most_blocks > plan.plan.first_blocks else None,
        "usage": sum((s.usage for s in kept.values()), Usage()),
    }
    score = on(len(examples)).model_copy(update=changes)
    return ScoredOne(score, own.id, kept, _shuffled_outcome(kept.get("shuffled")))


async def _simulate_controls(
    plan: Interpretation, explanation: Explanation, examples: Sequence[Example], other_id: FeatureId | None
) -> dict[str, Simulation]:
    """Another feature's explanation, this one as it was before refinement, and what guided windows there are."""
    feature, kept = explanation.feature, dict[str, Simulation]()
    other = _explanation(plan, other_id) if other_id else None
    if other:
        with asking_for("shuffled", feature):
            kept["shuffled"] = await simulate_one(plan.simulator, other.explanation, examples)
    refinement = explanation.refinement
    if refinement and refinement.kept:
        before = explanation.model_copy(update={"text": refinement.before, "no_pattern": False})
        with asking_for("unrefined", feature):
            kept["unrefined"] = await simulate_one(plan.simulator, before, examples)
    with asking_for("guided", feature):
        guided = await _guided(plan, feature.index, explanation)
    if guided:
        kept["guided"] = guided
    return kept


def _shuffled_outcome(simulation: Simulation | None) -> Outcome | None:
    if simulation is None:
        return None
    # Its cost is in the score.
    return _unanswered("shuffled", simulation, Usage()) if simulation.levels and not any(simulation.levels) else Done()


def _explanation(plan: Interpretation, feature: FeatureId) -> StoredExplanation | None:
    return plan.store.explanation(feature, plan.design, plan.explainer_key)


@dataclass(frozen=True)
class _Scored:
    """The windows that were simulated, and how many were left unasked."""

    examples: Sequence[Example]
    simulation: Simulation
    n_saved: int


async def _simulate_until_clear(plan: Interpretation, record: FeatureRecord, explanation: Explanation) -> _Scored:
    """Simulate the first blocks of windows, then block by block while the score is open (Wald 1945, in spirit)."""
    everything = record.splits.score
    blocks = plan.plan.first_blocks
    chosen = [example for example in everything if example.block < blocks]
    kept = plan.store.simulation(record.feature, plan.key, "explanation")
    whole = kept is not None and len(kept.levels) >= len(chosen) and not kept.failures
    if kept is not None and whole:  # only a control of this score was missing
        return _Scored(everything[: len(kept.levels)], kept, _n_left(plan, everything, len(kept.levels)))
    simulation = await simulate_one(plan.simulator, explanation, chosen)
    while blocks < plan.plan.most_blocks and _wants_more(plan, record, chosen, simulation):
        more = [example for example in everything if example.block == blocks]
        simulation = _joined(simulation, await simulate_one(plan.simulator, explanation, more))
        chosen += more
        blocks += 1
    return _Scored(chosen, simulation, _n_left(plan, everything, len(chosen)))


def _n_left(plan: Interpretation, examples: Sequence[Example], n: int) -> int:
    return sum(example.block < plan.plan.most_blocks for example in examples) - n


def _wants_more(
    plan: Interpretation, record: FeatureRecord, examples: Sequence[Example], simulation: Simulation
) -> bool:
    """Whether the answers are all there and leave the score open."""
    if not any(simulation.levels) or _is_pending(simulation):
        return False
    return is_open(score_feature(record, examples, simulation.levels, plan.terms))


def _joined(first: Simulation, second: Simulation) -> Simulation:
    """One simulation of the windows of both."""
    n = len(first.levels)
    masses = [
        (s.legal_mass, sum(window is not None for window in s.levels))
        for s in (first, second)
        if s.legal_mass is not None
    ]
    answered = sum(k for _, k in masses)
    return Simulation(
        levels=first.levels + second.levels,
        expected=None if first.expected is None or second.expected is None else first.expected + second.expected,
        failures=first.failures + tuple((n + i, reason) for i, reason in second.failures),
        legal_mass=sum(mass * k for mass, k in masses) / answered if answered else None,
        usage=first.usage + second.usage,
    )


async def _guided(plan: Interpretation, index: int, explanation: Explanation) -> Simulation | None:
    """What the explanation predicts on silent text that its own words point at; None where there is none."""
    if explanation.no_pattern or plan.maker is None or not plan.guided:
        return None
    examples = plan.maker.guided_examples(index, words_of(explanation.text), plan.guided)
    if not examples:
        return None
    simulation = await simulate_one(plan.simulator, explanation, examples)
    return simulation.model_copy(update={"examples": examples})


async def simulate_one(simulator: Simulator, explanation: Explanation, examples: Sequence[Example]) -> Simulation:
    """Levels of the examples' windows; an explanation that found no pattern is not asked about."""
    if explanation.no_pattern:
        return Simulation(levels=tuple((0,) * len(example.scored_levels) for example in examples))
    return await simulator.simulate(explanation, [example.window for example in examples])
