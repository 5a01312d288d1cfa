"""Feature scores and summaries: undefined reasons in their order, failures left out, controls paired."""

from collections.abc import Sequence

import numpy as np
import pytest

from autointerp.interpret.intervals import jackknife
from autointerp.interpret.score import Predicted, Terms, score_feature
from autointerp.interpret.statistics import spearman
from autointerp.interpret.summary import DictionarySummary, counted, summarise
from autointerp.records import Done, Example, Failed, FeatureId, Outcome, Skipped, TokenTable
from autointerp.scores import FeatureScore, Score, UndefinedReason
from tests.unit.interpret.planted import make_example, make_record

WIDTH = 6


def windows(n: int = 24, n_active: int = 12, n_document: int = 12, seed: int = 0) -> list[Example]:
    """Every active window has its own pattern; the others are silent."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        acts = np.where(rng.random(WIDTH) < 0.4, rng.uniform(0.3, 2, WIDTH), 0.0) if i < n_active else np.zeros(WIDTH)
        if i < n_active:
            acts[i % WIDTH] = 1.5
        made.append(
            make_example(list("abcdef"), acts.tolist(), f"doc{i % n_document}", "decile" if i < n_active else "uniform")
        )
    return made


def truth_of(examples: Sequence[Example]) -> list[tuple[int, ...] | None]:
    return [example.levels for example in examples]


def score(
    examples: Sequence[Example], predicted: Predicted, *, no_pattern: bool = False, lookup: Sequence[int] = ()
) -> FeatureScore:
    """Scored with jackknife intervals; `lookup` holds the baseline's level of each of the tokens a to f."""
    record = make_record(score=examples)
    if lookup:
        table = TokenTable(
            tokens=tuple("abcdef"), counts=(1,) * 6, level_sums=tuple(lookup), pairs=(), pair_counts=(),
            pair_level_sums=(), mean_level=0,
        )  # fmt: skip
        record = record.model_copy(update={"token_table": table})
    return score_feature(
        record,
        examples,
        predicted,
        Terms("simulate", "lookup", "jackknife"),
        no_pattern=no_pattern,
    )


def rho(examples: Sequence[Example], predicted: Predicted) -> float:
    kept = [i for i, p in enumerate(predicted) if p is not None]
    truth = np.array([examples[i].record.activations for i in kept])
    levels = np.array([predicted[i] for i in kept], dtype=float)
    return float(spearman(truth[None], levels[None], np.ones((1, *truth.shape), dtype=bool))[0])


def test_the_truth_scores_its_own_ceiling() -> None:
    """The ceiling is what perfect levels would get; a score above it means that something else was compared."""
    examples = windows()
    found = score(examples, truth_of(examples)).spearman
    assert found.value == found.ceiling
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high <= 1
    assert found.null_threshold is not None
    assert 0 < found.null_threshold < found.value


def test_a_failed_window_is_left_out_and_never_a_zero() -> None:
    """Both published programs read an unparsed answer as zeros; here the other windows alone decide."""
    examples = windows()
    predicted = truth_of(examples)
    predicted[0] = predicted[20] = None
    found = score(examples, predicted)
    assert found.n_windows == found.spearman.n_windows == 22
    assert found.spearman.value == pytest.approx(rho(examples, predicted))
    as_zeros = [p if p is not None else (0,) * WIDTH for p in predicted]
    assert found.spearman.value != pytest.approx(rho(examples, as_zeros))


@pytest.mark.parametrize(("n_failed", "undefined"), [(3, None), (4, "too_many_failures")])
def test_over_a_tenth_failed_is_undefined(n_failed: int, undefined: str | None) -> None:
    """Exactly a tenth of 30 windows is still allowed, one more is not."""
    examples = windows(30)
    predicted = truth_of(examples)
    for i in range(n_failed):
        predicted[-1 - i] = None
    assert score(examples, predicted).spearman.undefined == undefined


def test_undefined_reasons() -> None:
    """Each reason is met by the input that deserves it, and no undefined score holds a number."""
    good = windows()
    no_documents = windows(n_document=4)
    cases: list[tuple[Sequence[Example], Predicted, UndefinedReason]] = [
        (windows(19), truth_of(windows(19)), "too_few_windows"),
        (windows(n_active=4), truth_of(windows(n_active=4)), "too_few_windows"),
        (no_documents, truth_of(no_documents), "too_few_windows"),
        ([], [], "too_few_windows"),
        (good, [(3,) * WIDTH] * 24, "constant_prediction"),
        (good, [None] * 24, "too_many_failures"),
    ]
    constant = [make_example(list("abcdef"), [1.0] * WIDTH, f"doc{i}") for i in range(24)]
    varied: list[tuple[int, ...]] = [(0, 1, 2, 3, 4, 5)] * 24
    cases.append((constant, varied, "constant_truth"))
    for examples, predicted, reason in cases:
        found = score(examples, predicted)
        assert found.spearman.undefined == reason
        assert (found.spearman.value, found.spearman.low, found.spearman.null_threshold) == (None, None, None)
        assert found.lift.value is None


def test_no_pattern_counts_only_where_a_score_was_possible() -> None:
    """An explainer that gives up on everything must not be excused; one without enough text must not be punished."""
    zeros = [(0,) * WIDTH] * 24
    assert score(windows(), zeros, no_pattern=True).spearman.undefined == "no_pattern"
    assert score(windows(10), [(0,) * WIDTH] * 10, no_pattern=True).spearman.undefined == "too_few_windows"


def test_too_many_failures_come_before_too_few_windows() -> None:
    """30 windows of which 15 failed leave 15: the endpoint is to blame, not the text."""
    examples = windows(30)
    predicted: list[tuple[int, ...] | None] = [*truth_of(examples)[:15], *[None] * 15]
    assert score(examples, predicted).spearman.undefined == "too_many_failures"


def test_lift_is_paired_on_the_windows_that_were_answered() -> None:
    """One lost window made the lift undefined, since the baseline had a window more."""
    examples = windows()
    predicted = truth_of(examples)
    predicted[3] = None
    by_token = (5, 0, 7, 2, 10, 3)
    lookup = [by_token] * len(examples)
    found = score(examples, predicted, lookup=by_token)
    same = [levels if predicted[i] is not None else None for i, levels in enumerate(lookup)]
    assert found.lookup.n_windows == 23
    assert found.lookup.value == pytest.approx(rho(examples, same))
    assert found.spearman.value is not None
    assert found.lookup.value is not None
    assert found.lift.value == pytest.approx(found.spearman.value - found.lookup.value)
    kept = [i for i in range(24) if i != 3]
    truth, own, base = (
        np.array([side[i] for i in kept], dtype=float)[None]
        for side in ([e.record.activations for e in examples], predicted, lookup)
    )
    thirds = np.array([[examples[i].stratum == "uniform" for i in kept]], dtype=int)
    expected = jackknife(truth, own, np.ones_like(truth, dtype=bool), thirds, base).lift
    assert (found.lift.low, found.lift.high) == pytest.approx((expected.low[0], expected.high[0]))


def test_the_lift_over_itself_is_exactly_zero() -> None:
    """An unpaired interval would be wide here; the paired one has no width."""
    examples = windows()
    by_token = (5, 0, 7, 2, 10, 3)
    found = score(examples, [by_token] * len(examples), lookup=by_token)
    assert (found.lift.value, found.lift.low, found.lift.high) == pytest.approx((0, 0, 0))


def test_a_simulation_of_the_wrong_length_is_refused() -> None:
    """Missing levels were read as zeros, so a simulator that stops early looked like a careful one."""
    examples = windows()
    short = [levels[:-1] if levels else None for levels in truth_of(examples)]
    with pytest.raises(ValueError, match="levels"):
        score(examples, short)
    with pytest.raises(ValueError, match="zip"):
        score(examples, truth_of(examples)[:-1])


def test_without_a_table_or_another_explanation_the_controls_say_so() -> None:
    """A missing control must not look like a control of 0."""
    found = score(windows(), truth_of(windows()))
    assert found.lookup.undefined == "no_table"
    assert found.shuffled.undefined == "no_other_explanation"
    assert found.lift.value is None


def value(metric: str, x: float | None, undefined: UndefinedReason | None = None) -> Score:
    return Score(metric=metric, value=x, undefined=undefined, n_windows=48)


def feature_score(index: int, x: float | None, undefined: UndefinedReason | None = None) -> FeatureScore:
    return FeatureScore(
        feature=FeatureId(dictionary="d", index=index),
        protocol="simulate",
        simulator="lookup",
        n_windows=48,
        spearman=value("spearman", x, undefined),
        more=(),
        lookup=value("spearman", 0.5),
        lift=value("lift", None, "no_table"),
        shuffled=value("spearman", None, "constant_prediction"),
        per_stratum={},
    )


def summary(scores: Sequence[FeatureScore], ended: dict[int, Outcome], n: int) -> DictionarySummary:
    return summarise(
        "trained", range(n), scores, ended, explained=n, protocol="simulate", n_windows=48, n_tokens=1000, l0=1.5,
        density=0.1, n_alive=n, refinements={}, seed=0,
    )  # fmt: skip


def test_both_means_by_hand_and_every_feature_accounted_for() -> None:
    """SCORING A6: no_pattern and constant_prediction count as 0, others are excluded, nothing vanishes."""
    scores = [
        feature_score(0, 0.8),
        feature_score(1, -0.2),
        feature_score(2, None, "no_pattern"),
        feature_score(3, None, "constant_prediction"),
        feature_score(4, None, "too_few_windows"),
        feature_score(5, None, "too_many_failures"),
        feature_score(99, 1.0),
    ]
    failed = Failed(stage="explain", reason="refused", message="no")
    ended: dict[int, Outcome] = {6: failed, 7: Skipped(reason="dead"), **{i: Done() for i in range(6)}}
    s = summary(scores, ended, 8)
    assert s.spearman.mean == pytest.approx(0.3)
    assert s.spearman.counted_mean == pytest.approx(0.15)
    assert s.spearman.median == pytest.approx(0.3)
    assert s.shuffled.mean is None
    assert s.shuffled.counted_mean == 0.0
    assert s.undefined == {"constant_prediction": 1, "no_pattern": 1, "too_few_windows": 1, "too_many_failures": 1}
    assert (s.failed, s.skipped) == ({"refused": 1}, {"dead": 1})
    assert s.n_features == s.scored + sum(s.undefined.values()) + sum(s.failed.values()) + sum(s.skipped.values())
    assert (s.spearman.n, s.spearman.low, s.spearman.high) == (4, None, None)


def test_an_interval_over_features_needs_ten_of_them() -> None:
    """The bootstrap of two features runs from the one to the other: it said of a random judge that it was good."""
    for n in (2, 9, 10):
        s = summary([feature_score(i, 0.1 * (i % 2)) for i in range(n)], {}, n).spearman
        assert (s.low is not None and s.high is not None and s.low < 0.05 < s.high) == (n >= 10)


def test_failures_leave_the_means_alone() -> None:
    """A feature whose explainer failed is listed; it neither lowers nor raises a mean."""
    scores = [feature_score(i, 0.1 * i) for i in range(6)]
    few = summary(scores, {}, 6)
    failed = Failed(stage="explain", reason="refused", message="no")
    more = summary(scores, dict.fromkeys(range(6, 9), failed), 9)
    assert few.spearman == more.spearman
    assert more.failed == {"refused": 3}


def test_a_summary_of_nothing_is_none_and_not_nan() -> None:
    """A run whose features are all dead still has a summary that is valid JSON."""
    s = summary([], {0: Skipped(reason="dead")}, 1)
    assert (s.spearman.mean, s.spearman.counted_mean, s.spearman.median, s.spearman.low) == (None,) * 4


def test_counted_values() -> None:
    """The one rule that means and comparisons share."""
    assert counted(value("spearman", -0.4)) == -0.4
    assert counted(value("spearman", None, "constant_prediction")) == 0.0
    assert counted(value("spearman", None, "constant_truth")) is None
