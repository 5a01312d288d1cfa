"""Contrasts on arrays: verdicts, sentences, pairs, groups, families."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from autointerp.compare.contrast import Pairs, Sides, correct, measure, standard_error
from autointerp.compare.features import Features, entropy_tertiles
from autointerp.compare.verdict import sentence_of, short, verdict_of


def make_features(n: int, mean: float, seed: int, low: float = -3.5, high: float = -2.0) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        index=np.arange(n),
        density=10 ** rng.uniform(low, high, n),
        value=mean + 0.2 * rng.standard_normal(n),
        lookup=np.full(n, mean - 0.1),
        shuffled=np.zeros(n),
        entropy=rng.uniform(0, 9, n),
        single=(rng.random(n) < 0.4).astype(float),
    )


def make_sides(a: Features, b: Features, pairs: Pairs | str = "not looked for") -> Sides:
    return Sides("A", "B", a, b, "dictionary", True, pairs, entropy_tertiles([a, b]), 0)


def one_dictionary(a: Features, b: Features) -> Pairs:
    both, rows_a, rows_b = np.intersect1d(a.index, b.index, return_indices=True)
    own_a, own_b = (np.isin(arm.index, both) for arm in (a, b))
    return Pairs(True, rows_a, rows_b, np.full(len(both), np.nan), True, own_a, own_b, len(both), len(both))


def test_a_planted_gap_is_found_in_the_right_direction() -> None:
    """Guards against a and b swapped somewhere between strata, bootstrap and verdict."""
    better, worse = make_features(200, 0.6, 1), make_features(200, 0.4, 2)
    above, below = measure(make_sides(better, worse)), measure(make_sides(worse, better))
    assert (above.verdict, below.verdict) == ("above", "below")
    assert above.difference == pytest.approx(-(below.difference or 0), abs=1e-6)
    assert above.sentence.startswith("A above B by .")
    assert below.sentence.startswith("A below B by .")
    assert above.p_permutation is not None
    assert above.p_permutation < 0.01
    assert above.mean_a.value is not None
    assert above.mean_a.value == pytest.approx(0.6, abs=0.05)
    assert sum(row.weight for row in above.strata) == pytest.approx(1, abs=1e-5)
    assert sum(row.n_a for row in above.strata) == 200


def test_the_same_draws_make_the_same_figures() -> None:
    """A report that changes when it is made again cannot be checked."""
    sides = make_sides(make_features(60, 0.5, 3), make_features(60, 0.5, 4))
    assert measure(sides) == measure(sides)


def test_no_gap_says_how_many_features_one_of_that_size_takes() -> None:
    """By the closed form: the number grows with the square of reach times error over gap."""
    contrast = measure(make_sides(make_features(100, 0.5, 5), make_features(100, 0.5, 6)))
    assert contrast.verdict == "not_separable"
    assert contrast.n_needed is not None
    assert contrast.error is not None
    assert contrast.difference is not None
    wanted = 100 * (2.8016 * contrast.error / contrast.difference) ** 2
    assert contrast.n_needed == pytest.approx(wanted, rel=0.01)
    assert "not separable at this size" in contrast.sentence
    assert "features of each would be needed" in contrast.sentence


@pytest.mark.parametrize(
    ("b", "reason", "words"),
    [
        (make_features(100, 0.5, 7, -6, -5), "no_overlap", "densities do not overlap; no ranking"),
        (make_features(12, 0.5, 8), "too_few_features", "too few features with a score; no ranking"),
        (make_features(0, 0.5, 8), "too_few_features", "too few features with a score; no ranking"),
    ],
)
def test_what_cannot_be_ranked_is_not(b: Features, reason: str, words: str) -> None:
    """Guards against a number where nothing can be compared."""
    contrast = measure(make_sides(make_features(100, 0.9, 9), b))
    assert (contrast.verdict, contrast.reason) == ("not_comparable", reason)
    assert contrast.sentence == f"A and B: {words}"
    assert (contrast.difference, contrast.low, contrast.p, contrast.n_needed) == (None, None, None, None)
    assert standard_error(make_sides(make_features(100, 0.9, 9), b)) is None


def test_one_dictionarys_features_are_paired() -> None:
    """Scores that differ by .02 between wide spreads: seen as pairs, lost as two samples."""
    a = make_features(80, 0.5, 10)
    b = replace(a, value=a.value - 0.02 + 0.01 * np.random.default_rng(11).standard_normal(80))
    paired = measure(make_sides(a, b, one_dictionary(a, b)))
    assert (paired.verdict, paired.n_inside_a, paired.n_inside_b) == ("above", 80, 80)
    assert paired.difference == pytest.approx(float((a.value - b.value).mean()), abs=1e-6)
    assert paired.pairing is not None
    assert paired.pairing.unmatched is None
    assert measure(make_sides(a, b)).verdict == "not_separable"


def test_matched_features_stand_beside_the_unmatched_rest() -> None:
    """The first 30 of each are one feature: their gap of .1 is the paired difference, the rest has none."""
    a, b = make_features(100, 0.5, 12), make_features(100, 0.5, 13)
    b = replace(b, value=np.concatenate([a.value[:30] - 0.1, b.value[30:]]))
    rows, own = np.arange(30), np.arange(100) < 30
    contrast = measure(make_sides(a, b, Pairs(False, rows, rows, np.ones(30), False, own, own, 30, 30, 0.7, 1.0)))
    pairing = contrast.pairing
    assert pairing is not None
    assert pairing.difference.value == pytest.approx(0.1, abs=1e-6)
    assert pairing.density_ratio == pytest.approx(float(stats.gmean(a.density[:30] / b.density[:30])), rel=1e-3)
    assert (pairing.difference.n_a, pairing.n_matched_a) == (30, 30)
    near = np.abs(np.log10(a.density[:30] / b.density[:30])) <= 0.5
    assert pairing.alike is not None
    assert pairing.alike.n_a == near.sum()
    assert pairing.unmatched_a is not None
    assert pairing.unmatched_a.n == 70
    assert pairing.unmatched_a.value == pytest.approx(float(a.value[30:].mean()), abs=1e-6)


def test_groups_split_by_flag_and_by_common_tertiles() -> None:
    """Tertiles are of both arms together, so that low means the same entropy in each."""
    a, b = make_features(150, 0.5, 14), make_features(150, 0.5, 15)
    a = replace(a, value=np.where(a.single == 1, a.value + 0.4, a.value))
    groups = measure(make_sides(a, b)).groups
    assert (groups["single token"].low or 0) > 0.2
    assert abs(groups["several tokens"].value or 1) < 0.1
    sides = make_sides(a, b)
    in_tertiles = [arm.within(g, sides.entropy_edges).sum() for arm in (a, b) for g in groups if "entropy" in g]
    assert sum(in_tertiles) == 300
    unknown = replace(a, entropy=np.full(150, np.nan), single=np.full(150, np.nan))
    assert {d.undefined for d in measure(make_sides(unknown, b)).groups.values()} == {"too_few_features"}


def test_a_family_is_corrected_together() -> None:
    """One gap among many contrasts: its p is multiplied, and a verdict that does not outlive that is taken back."""
    real = measure(make_sides(make_features(200, 0.53, 16), make_features(200, 0.48, 17)))
    assert real.verdict == "above"
    idle = measure(make_sides(make_features(60, 0.5, 18), make_features(60, 0.5, 18)))
    family = correct([real, idle, *(idle.model_copy(update={"p": 0.5 + i / 100}) for i in range(40))])
    assert family[0].family == 42
    assert family[0].p_holm == pytest.approx(min(1, 42 * (real.p or 0)), abs=1e-6)
    assert family[0].verdict == "not_separable"
    assert any("corrected over 42 contrasts" in note for note in family[0].notes)
    none = measure(make_sides(make_features(100, 0.9, 9), make_features(9, 0.5, 8)))
    assert [c.family for c in correct([real, none])] == [1, 1]


def test_a_gap_that_density_makes_is_told_in_a_note() -> None:
    """Guards against a silent disagreement between plain and standardised means."""
    a, b = make_features(300, 0, 19, -4, -3), make_features(300, 0, 20, -3.4, -2)
    a, b = (replace(arm, value=-0.3 * np.log10(arm.density) + 0.1 * arm.value) for arm in (a, b))
    contrast = measure(make_sides(a, b))
    assert contrast.verdict == "not_separable"
    assert (contrast.uniform.low or 0) > 0.1
    assert any("density alone can make such a gap" in note for note in contrast.notes)
    assert any("in strata that both fill" in note for note in contrast.notes)


@pytest.mark.parametrize(
    ("value", "text"), [(0.06, ".06"), (-0.031, "-.03"), (0.0, ".00"), (-0.001, ".00"), (1.0, "1.00"), (-1.2, "-1.20")]
)
def test_numbers_have_no_zero_before_the_point(value: float, text: str) -> None:
    """Sentences say .06, as papers do, and never -.00."""
    assert short(value) == text


def test_sentences_say_the_verdict_and_its_interval() -> None:
    """The promised wording, and a third digit where two would hide which side of 0 an end is on."""
    assert sentence_of("A", "B", "above", None, (0.06, 0.03, 0.09), 80) == "A above B by .06 [.03, .09]"
    assert sentence_of("A", "B", "below", None, (-0.06, -0.09, -0.03), 80) == "A below B by .06 [.03, .09]"
    assert sentence_of("A", "B", "above", None, (0.006, 0.001, 0.011), 9) == "A above B by .006 [.001, .011]"
    said = sentence_of("A", "B", "not_separable", None, (0.01, -0.04, 0.07), 22_278)
    assert (
        said
        == "A and B are not separable at this size (.01 [-.04, .07]); about 23,000 features of each would be needed"
    )
    assert "no gap to look for" in sentence_of("A", "B", "not_separable", None, (0.0, -0.04, 0.04), None)


def test_a_verdict_needs_interval_and_corrected_p() -> None:
    """Neither alone ranks."""
    assert verdict_of(0.01, 0.1, 0.04, 0.05) == "above"
    assert verdict_of(-0.1, -0.01, 0.04, 0.05) == "below"
    assert verdict_of(0.01, 0.1, 0.06, 0.05) == "not_separable"
    assert verdict_of(-0.01, 0.1, 0.04, 0.05) == "not_separable"
