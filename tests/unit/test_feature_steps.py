"""One feature's steps: windows by blocks until a score is clear, revisions kept only where they are better."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autointerp.config import ScoreConfig
from autointerp.examples import Chooser
from autointerp.feature_steps import explain_one, refine_one, score_one
from autointerp.interpret.lookup import LookupExplainer, LookupSimulator
from autointerp.interpret.protocols import make_plan
from autointerp.interpret.score import is_open
from autointerp.interpret.summary import summarise
from autointerp.pipeline import interpret
from autointerp.plans import Interpretation
from autointerp.records import (
    Done,
    Explanation,
    Failed,
    FeatureRecord,
    Simulation,
    Skipped,
    Usage,
    Window,
)
from autointerp.splits import CorpusIndex
from autointerp.store.runs import RunStore
from tests.unit.small_corpus import EVERYWHERE, NEAR, SOMETIMES, TOKEN, SmallReader, make_corpus, make_reader

FEATURES = (TOKEN, SOMETIMES, NEAR)


@pytest.fixture(scope="module")
def chooser() -> Chooser:
    corpus = make_corpus(n_source=900)
    return Chooser(
        SmallReader(corpus, make_reader(corpus).dense), CorpusIndex(corpus, 5), "d", make_plan("graded", FIXED).design
    )


FIXED = ScoreConfig()
CI = ScoreConfig(stop="ci")


class Blunt:
    """Explains by look-up, but one feature by a text that is clearly worse than the table."""

    author = "lookup"

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        made = await LookupExplainer().explain(record, n_candidates)
        if record.feature.index != NEAR or isinstance(made, Failed):
            return made
        return [made[0].model_copy(update={"text": BLUNT})]


WORSE = 'fires on " w2" (9); on " w5" (2); else 0'
BLUNT = 'fires on " w2" (9); on " w3" (9); on " w9" (2); else 0'


@dataclass
class Counting:
    """The look-up simulator, counting the windows of each asking."""

    asked: list[int] = field(default_factory=list)
    name: str = "lookup"

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        self.asked.append(len(windows))
        return await LookupSimulator().simulate(explanation, windows)


def plan(path: Path, chooser: Chooser, score: ScoreConfig = FIXED) -> Interpretation:
    return Interpretation(
        store=RunStore(path / "store.sqlite"),
        dictionary="d",
        features=FEATURES,
        plan=make_plan("graded", score),
        maker=chooser,
        explainer=LookupExplainer(),
        explainer_key="lookup",
        refiner=None,
        simulator=Counting(),
        simulator_key="lookup",
        simulator_is_free=True,
        candidates=1,
        guided=0,
        interval="jackknife",
        seed=3,
        concurrency=1,
        progress=lambda stage, done, total: None,
    )


def run(work: Interpretation) -> None:
    asyncio.run(interpret([work]))


def test_sixty_windows_are_the_first_of_a_hundred_and_twenty(chooser: Chooser, tmp_path: Path) -> None:
    """Other windows under `windows = 120` would be paid for again, and the two scores would not be nested."""
    sixty, more = tmp_path / "60", tmp_path / "120"
    sixty.mkdir()
    more.mkdir()
    first, second = plan(sixty, chooser), plan(more, chooser, ScoreConfig(windows=120))
    run(first)
    run(second)
    assert (first.plan.label, first.plan.n_windows) == ("graded-60", 60)
    assert (second.plan.label, second.plan.n_windows) == ("graded-120", 120)
    for index in FEATURES:
        short = first.store.simulation(first.feature(index), first.key, "explanation")
        long = second.store.simulation(second.feature(index), second.key, "explanation")
        assert short is not None
        assert long is not None
        assert long.levels[: len(short.levels)] == short.levels
        assert len(long.levels) > len(short.levels)


def test_more_windows_are_asked_only_while_the_score_is_open(chooser: Chooser, tmp_path: Path) -> None:
    """`stop = "ci"` saves calls on clear features and spends them on open ones; what it saved is written down."""
    work = replace(plan(tmp_path, chooser, CI), explainer=Blunt())
    run(work)
    scores = {s.feature.index: s for s in work.store.scores("d", work.key)}
    sizes = set()
    for index, score in scores.items():
        record = work.store.record(work.feature(index), work.design)
        assert record is not None
        asked, there = score.n_windows, len(record.splits.score)
        assert asked + score.n_saved == there
        ends = [sum(e.block <= block for e in record.splits.score) for block in range(3)]
        assert asked in ends
        assert asked == there or not is_open(score)
        for end in ends[: ends.index(asked)]:
            simulation = work.store.simulation(score.feature, work.key, "explanation")
            assert simulation is not None
            assert is_open_at(work, record, simulation, end)
        sizes.add(asked < there)
    assert sizes == {True, False}, "the planted features should hold a clear one and an open one"


def test_means_are_over_the_windows_that_every_feature_has(chooser: Chooser, tmp_path: Path) -> None:
    """A feature goes on while its score is open: the mean over what each ended with is biased by the choosing."""
    fixed, stopped = tmp_path / "fixed", tmp_path / "stopped"
    fixed.mkdir()
    stopped.mkdir()
    sixty = replace(plan(fixed, chooser), explainer=Blunt())
    some = replace(plan(stopped, chooser, CI), explainer=Blunt())
    run(sixty)
    run(some)
    means = [
        summarise(
            "trained", FEATURES, work.store.scores("d", work.key), {}, explained=3, protocol=work.plan.label,
            n_windows=60, n_tokens=1, l0=None, density=None, n_alive=3, refinements={}, seed=0,
        ).model_dump(exclude={"protocol", "windows_asked", "windows_saved", "why"})
        for work in (sixty, some)
    ]  # fmt: skip
    assert means[0] == means[1]
    assert any(score.first is not None for score in some.store.scores("d", some.key))


def is_open_at(work: Interpretation, record: FeatureRecord, simulation: Simulation, n: int) -> bool:
    from autointerp.interpret.score import score_feature

    return is_open(score_feature(record, record.splits.score[:n], simulation.levels[:n], work.terms))


def test_a_control_that_was_lost_is_simulated_alone(chooser: Chooser, tmp_path: Path) -> None:
    """The explanation's own simulation is in the store; asking for it again is money for nothing."""
    work = plan(tmp_path, chooser)
    run(work)
    with work.store.step():
        lost = Failed(stage="shuffled", reason="timeout", message="no answer")
        work.store.put_outcome(work.feature(TOKEN), work.shuffled_step, lost)
    before = work.store.scores("d", work.key)
    again = Counting()
    asyncio.run(interpret([replace(work, simulator=again)]))
    assert len(again.asked) == 1
    assert work.store.outcomes("d", work.shuffled_step)[TOKEN] == Done()
    assert work.store.scores("d", work.key) == before


@dataclass
class Revising:
    """Answers with a fixed text."""

    text: str
    refine_digest: str = "blake2b:0"

    async def refine(
        self, record: FeatureRecord, explanation: Explanation, simulated: Simulation
    ) -> Explanation | Failed:
        assert len(simulated.levels) == len(record.splits.select)
        return explanation.model_copy(update={"text": self.text, "usage": Usage(calls=1)})


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (WORSE, 'fires on " w5" (5); else 0', True),
        ('fires on " w5" (5); else 0', WORSE, False),
        ('fires on " w5" (5); else 0', 'fires on " w5" (7); else 0', False),
    ],
)
def test_a_revision_is_kept_only_if_it_is_better_on_the_select_part(
    chooser: Chooser, tmp_path: Path, first: str, second: str, kept: bool
) -> None:
    """A revision that is no better is a second draw, and the better of two draws on the score part is a bias."""
    work = replace(plan(tmp_path, chooser), refiner=Revising(second))
    record = chooser.feature_record(TOKEN)
    said = Explanation(feature=record.feature, text=first, author="x", method="tsv", examples_digest="x")
    refined = asyncio.run(refine_one(work, record, said))
    assert refined.outcome == Done()
    assert refined.explanation.text == (second if kept else first)
    refinement = refined.explanation.refinement
    assert refinement is not None
    assert (refinement.before, refinement.kept) == (first, kept)
    assert refinement.select_before is not None
    assert refinement.select_after is not None
    assert (refinement.select_after > refinement.select_before) == kept
    assert refinement.usage.calls == refined.explanation.usage.calls == 1


@dataclass
class Watching(Counting):
    """Keeps the windows of each asking."""

    windows: list[list[Window]] = field(default_factory=list)

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        self.windows.append(list(windows))
        return await super().simulate(explanation, windows)


def test_a_revision_is_judged_on_windows_it_was_not_made_from(chooser: Chooser, tmp_path: Path) -> None:
    """On the windows whose errors it was shown, a list of them beats every rule: 17 of 20 were kept, and lost."""
    simulator = Watching()
    work = replace(plan(tmp_path, chooser), refiner=Revising('fires on " w5" (5); else 0'), simulator=simulator)
    record = chooser.feature_record(TOKEN)
    said = Explanation(
        feature=record.feature, text='fires on " w9" (5); else 0', author="x", method="tsv", examples_digest="x"
    )
    asyncio.run(refine_one(work, record, said))
    before, after = simulator.windows
    half = len(before) // 2
    assert len(before) == len(record.splits.select) >= 40
    assert after == before[half:]
    assert not {w.tokens for w in before[:half]} & {w.tokens for w in after}


def test_a_kept_revision_is_scored_beside_what_it_replaced(chooser: Chooser, tmp_path: Path) -> None:
    """The gain is told on the score part, where nothing was chosen; on the select part it is flattered."""
    work = replace(plan(tmp_path, chooser), refiner=Revising('fires on " w5" (5); else 0'))
    record = chooser.feature_record(TOKEN)
    worse = Explanation(
        feature=record.feature,
        text='fires on " w2" (9); on " w5" (2); else 0',
        author="x",
        method="tsv",
        examples_digest="x",
    )
    refined = asyncio.run(refine_one(work, record, worse))
    with work.store.step():
        work.store.put_record(record)
        work.store.put_explanation(refined.explanation, work.design, "lookup")
    scored = asyncio.run(score_one(work, TOKEN, None, "no_other_explanation"))
    assert not isinstance(scored, Failed)
    assert scored.score.unrefined is not None
    assert scored.score.unrefined.value is not None
    assert scored.score.spearman.value is not None
    assert scored.score.spearman.value > scored.score.unrefined.value
    assert set(scored.simulations) == {"explanation", "unrefined"}


def test_nothing_to_refine_is_a_skip(chooser: Chooser, tmp_path: Path) -> None:
    """A feature without a select part, and one without a pattern, are no failures and cost nothing."""
    work = replace(plan(tmp_path, chooser), refiner=Revising("x"))
    record = chooser.feature_record(TOKEN)
    explained = asyncio.run(explain_one(work, record))
    assert isinstance(explained, Explanation)
    bare = record.model_copy(update={"splits": record.splits.model_copy(update={"select": ()})})
    no_pattern = explained.model_copy(update={"no_pattern": True})
    for one, said in ((bare, explained), (record, no_pattern)):
        refined = asyncio.run(refine_one(work, one, said))
        assert refined.outcome == Skipped(reason="nothing_to_refine")
        assert refined.explanation == said


def test_a_dense_feature_is_scored_on_what_silent_text_there_is(chooser: Chooser, tmp_path: Path) -> None:
    """Without any silent token there is no truth that varies by stratum; the score says so by its reason or flag."""
    work = replace(plan(tmp_path, chooser), features=(EVERYWHERE,))
    run(work)
    (score,) = work.store.scores("d", work.key)
    assert score.specificity_untested
