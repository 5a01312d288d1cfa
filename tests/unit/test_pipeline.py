"""From records to outcomes: resume at (feature, step), failures as rows, features selected."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp.config import ScoreConfig
from autointerp.errors import UsageError
from autointerp.examples import Chooser
from autointerp.interpret.explain import Explainer
from autointerp.interpret.lookup import LookupExplainer, LookupSimulator
from autointerp.interpret.protocols import PROTOCOLS, make_plan
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.summary import summarise
from autointerp.pipeline import drawn_for_shuffling, final_outcomes, interpret, partner_order
from autointerp.plans import Interpretation
from autointerp.records import Explanation, Failed, FeatureId, FeatureRecord, Outcome, Simulation, Skipped, Window
from autointerp.selection import read_ranges, select_features
from autointerp.splits import CorpusIndex
from autointerp.store.runs import RunStore
from tests.unit.small_corpus import NEVER, SmallReader, make_corpus, make_reader

FEATURES = range(80)


@pytest.fixture(scope="module")
def chooser() -> Chooser:
    """Eighty features: the six planted ones over and over, so that several commits are needed."""
    corpus = make_corpus()
    dense = make_reader(corpus).dense[[i % 6 for i in FEATURES]]
    return Chooser(SmallReader(corpus, dense), CorpusIndex(corpus, 11), "d", PROTOCOLS["simulate"].design)


class Counting:
    """An explainer and a simulator that count what they are asked, and fail where told."""

    author = "lookup"
    name = "lookup"

    def __init__(self, bad: Callable[[int], bool] = lambda index: False, reason: str = "refused") -> None:
        self.explained: list[int] = []
        self.simulated = 0
        self.bad = bad
        self.reason = reason

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        self.explained.append(record.feature.index)
        if self.bad(record.feature.index):
            return Failed(stage="explain", reason=self.reason, message="I cannot help with that")
        return await LookupExplainer().explain(record, n_candidates)

    async def simulate(self, explanation: Explanation, windows: Sequence[Window]) -> Simulation:
        self.simulated += 1
        return await LookupSimulator().simulate(explanation, windows)


def plan(
    path: Path, chooser: Chooser, explainer: Explainer | None = None, simulator: Simulator | None = None
) -> Interpretation:
    return Interpretation(
        store=RunStore(path / "store.sqlite"),
        dictionary="d",
        features=FEATURES,
        maker=chooser,
        plan=make_plan("simulate", ScoreConfig()),
        explainer=explainer or LookupExplainer(),
        explainer_key="lookup",
        refiner=None,
        simulator=simulator or LookupSimulator(),
        simulator_is_free=True,
        simulator_key="lookup",
        candidates=1,
        guided=0,
        interval="jackknife",
        seed=3,
        concurrency=4,
        progress=lambda stage, done, total: None,
    )


def run(work: Interpretation) -> str:
    """Explain and score everything; returns the summary as bytes would hold it."""
    asyncio.run(interpret([work]))
    return conclude(work)


def conclude(work: Interpretation) -> str:
    summary = summarise(
        "trained", work.features, work.store.scores("d", work.key), final_outcomes(work), explained=1,
        protocol="simulate", n_windows=48, n_tokens=1, l0=1.0, density=None, n_alive=1, refinements={}, seed=3,
    )  # fmt: skip
    total = summary.scored + sum(
        n for part in (summary.undefined, summary.failed, summary.skipped) for n in part.values()
    )
    assert total == summary.n_features == len(work.features)
    return summary.model_dump_json()


class KilledError(Exception):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def whole(chooser: Chooser, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The summary of an undisturbed run."""
    return run(plan(tmp_path_factory.mktemp("whole"), chooser))


def test_dictionaries_take_turns(tmp_path: Path, chooser: Chooser) -> None:
    """One after the other, a provider's drift during a run would be a difference between dictionaries."""
    asked = Counting()
    work = replace(plan(tmp_path, chooser, asked), concurrency=1)
    works = [replace(work, features=features) for features in ((0, 1, 2, 6), (12, 13, 14))]
    asyncio.run(interpret(works, scoring=False))
    assert asked.explained == [0, 12, 1, 13, 2, 14, 6]


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_run_goes_on_and_computes_nothing_twice(
    tmp_path: Path, chooser: Chooser, whole: str, after: int
) -> None:
    """Work done again is money spent again; work skipped is a hole in the table."""
    counting = Counting()
    cut = plan(tmp_path, chooser, counting, counting)
    steps = 0

    def dying(stage: str, done: int, total: int) -> None:
        nonlocal steps
        steps += done > 0
        if steps == after:
            raise KilledError

    with pytest.raises(KilledError):
        run(replace(cut, progress=dying))
    committed = set(cut.store.explained("d", cut.design, "lookup"))
    again = Counting()
    assert run(replace(cut, explainer=again, simulator=again)) == whole
    assert not committed & set(again.explained)
    assert committed | set(again.explained) == set(cut.store.explained("d", cut.design, "lookup"))
    third = Counting()
    assert run(replace(cut, explainer=third, simulator=third)) == whole
    assert (third.explained, third.simulated) == ([], 0)


def test_a_refusal_is_a_row_and_the_others_means_stand(tmp_path: Path, chooser: Chooser) -> None:
    """A failed feature must be counted and named; it must neither be asked again nor move a mean."""
    refusing = Counting(bad=lambda index: index % 12 == 0)
    work = plan(tmp_path, chooser, refusing)
    run(work)
    ended = final_outcomes(work)
    failed = [i for i, outcome in ended.items() if isinstance(outcome, Failed)]
    assert failed == [i for i in FEATURES if i % 12 == 0]
    assert {s.feature.index for s in work.store.scores("d", work.key)}.isdisjoint(failed)
    asked = len(refusing.explained)
    run(work)
    assert len(refusing.explained) == asked


def test_what_was_never_answered_is_asked_again_by_the_next_run(tmp_path: Path, chooser: Chooser, whole: str) -> None:
    """An endpoint that was gone for an hour must not leave holes that no rerun fills."""
    gone = Counting(bad=lambda index: True, reason="connection_lost")
    work = plan(tmp_path, chooser, gone)
    run(work)
    assert not work.store.explained("d", work.design, "lookup")
    back = Counting()
    assert run(replace(work, explainer=back)) == whole
    assert sorted(set(back.explained)) == sorted(set(gone.explained))


class Garbling:
    """Answers text outside the grammar for some features."""

    author = "lookup"

    async def explain(self, record: FeatureRecord, n_candidates: int) -> list[Explanation] | Failed:
        made = await LookupExplainer().explain(record, n_candidates)
        if isinstance(made, Failed) or record.feature.index % 2 == 0 or made[0].no_pattern:
            return made
        return [made[0].model_copy(update={"text": "It is about food, mostly."})]


def test_text_that_cannot_be_simulated_is_a_failure_and_not_a_score(tmp_path: Path, chooser: Chooser) -> None:
    """Every window failed: a score of 0 would say that the explanation was tested."""
    work = plan(tmp_path, chooser, Garbling())
    run(work)
    ended = final_outcomes(work)
    scores = {s.feature.index: s for s in work.store.scores("d", work.key)}
    garbled = [i for i in FEATURES if isinstance(ended[i], Failed)]
    assert garbled
    assert all(i % 2 == 1 for i in garbled)
    assert {outcome.reason for outcome in ended.values() if isinstance(outcome, Failed)} == {"outside_grammar"}
    shuffled = [s.shuffled.undefined for s in scores.values() if s.shuffled_from and s.shuffled_from.index in garbled]
    assert shuffled
    assert set(shuffled) <= {"too_many_failures", "too_few_windows"}


def test_dead_and_unexplainable_features_are_skipped_with_their_reason(tmp_path: Path, chooser: Chooser) -> None:
    """'Nothing found' has two causes, and the report tells them apart."""
    work = plan(tmp_path, chooser)
    run(work)
    ended: dict[int, Outcome] = final_outcomes(work)
    assert ended[NEVER] == Skipped(reason="dead")
    reasons = {outcome.reason for outcome in ended.values() if isinstance(outcome, Skipped)}
    assert reasons <= {"dead", "no_activation_to_explain"}


def test_a_run_that_was_not_finished_says_so(tmp_path: Path, chooser: Chooser) -> None:
    """A feature whose turn never came is neither scored nor skipped."""
    work = plan(tmp_path, chooser)
    asyncio.run(interpret([work], scoring=False))
    pending = [o for o in final_outcomes(work).values() if isinstance(o, Failed)]
    assert pending
    assert {o.reason for o in pending} == {"not_reached"}
    conclude(work)


def shuffled_from(work: Interpretation) -> dict[int, int | None]:
    scores = work.store.scores("d", work.key)
    return {s.feature.index: s.shuffled_from.index if s.shuffled_from else None for s in scores}


def test_shuffled_partners_are_others_that_have_an_explanation(tmp_path: Path, chooser: Chooser) -> None:
    """A feature as its own control would score like itself."""
    work = plan(tmp_path, chooser, Counting(bad=lambda index: index % 3 == 0))
    run(work)
    partners = shuffled_from(work)
    assert all(other is not None and other != index and other % 3 for index, other in partners.items())
    assert len(set(partners.values())) > 10
    (tmp_path / "alone").mkdir()
    alone = plan(tmp_path / "alone", chooser, Counting(bad=lambda index: index != 7))
    run(alone)
    (score,) = alone.store.scores("d", alone.key)
    assert (score.shuffled_from, score.shuffled.undefined) == (None, "no_other_explanation")


def test_an_explanation_lost_changes_only_the_partners_it_was(tmp_path: Path, chooser: Chooser) -> None:
    """One failed explanation moved every feature's control, and with it the control's mean."""
    for name in ("whole", "without"):
        (tmp_path / name).mkdir()
    whole, without = plan(tmp_path / "whole", chooser), plan(tmp_path / "without", chooser, Counting(lambda i: i == 7))
    run(whole)
    run(without)
    before, after = shuffled_from(whole), shuffled_from(without)
    assert all(after[i] == before[i] for i in after if before[i] != 7)
    assert len(set(before.values())) > 20
    assert list(partner_order(3, list(FEATURES), "d", 3)) == list(partner_order(3, list(FEATURES), "d", 3))


def test_where_simulating_costs_a_tenth_is_drawn_at_least_fifty() -> None:
    """A control of all features doubles the bill; one of five says nothing."""
    few, many = list(range(30)), list(range(2000))
    assert sorted(drawn_for_shuffling(few, "d", 0)) == few
    drawn = drawn_for_shuffling(many, "d", 0)
    assert len(drawn) == len(set(drawn)) == 200
    assert drawn == drawn_for_shuffling(many, "d", 0) != drawn_for_shuffling(many, "d", 1)


N_ACTIVE = np.array([0, 5, 0, 100, 1, 7, 7, 3, 0, 2])


def test_selected_features(tmp_path: Path) -> None:
    """Each form of the grammar, in ascending order and without repeats."""
    (tmp_path / "list.txt").write_text("3\n1-2, 9\n 9\n", encoding="utf-8")
    cases = {
        "all": list(range(10)),
        "5,0-2,1": [0, 1, 2, 5],
        f"@{tmp_path / 'list.txt'}": [1, 2, 3, 9],
        "sample:500": [1, 3, 4, 5, 6, 7, 9],
        "sample:7": [1, 3, 4, 5, 6, 7, 9],
    }
    for spec, features in cases.items():
        assert select_features(spec, N_ACTIVE, "d", 0) == features


def test_a_sample_is_seeded_spread_over_density_and_alive() -> None:
    """A sample of mostly dense features would make a dictionary look better or worse than it is."""
    n_active = np.r_[np.zeros(500, int), np.arange(1, 1001)]
    sample = select_features("sample:100", n_active, "d", 0)
    assert len(set(sample)) == 100
    assert n_active[sample].min() > 0
    by_decile = np.histogram(n_active[sample], bins=10, range=(0, 1000))[0]
    assert by_decile.tolist() == [10] * 10
    assert sample == select_features("sample:100", n_active, "d", 0)
    assert sample != select_features("sample:100", n_active, "d", 1)
    assert select_features("sample:3", np.zeros(4, int), "d", 0) == []


@pytest.mark.parametrize("bad", ["5-2", "a", "1;2", "@/nowhere/list"])
def test_bad_selections_are_refused_without_a_dictionary(bad: str) -> None:
    """They were found only after the harvest."""
    with pytest.raises(UsageError):
        read_ranges(bad)


@pytest.mark.parametrize("bad", ["10", "0-10", "99999999999"])
def test_features_that_do_not_exist_are_refused(bad: str) -> None:
    """Leaving them out would make n_features smaller than what was asked."""
    with pytest.raises(UsageError, match="has 0 to 9"):
        select_features(bad, N_ACTIVE, "d", 0)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    """An empty file is a mistake and not a wish for nothing."""
    (tmp_path / "list").write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError):
        read_ranges(f"@{tmp_path / 'list'}")


def test_feature_ids_print_as_references() -> None:
    """`id/index` is how people and the report name a feature."""
    assert str(FeatureId(dictionary="topk", index=7)) == "topk/7"
