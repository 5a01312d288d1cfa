"""The planted features and judges hold the constants they are described by; the samplers draw what they say."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from autointerp.provenance import generator
from autointerp.selftest.generator import (
    CONFUSABLES,
    FRAGMENT,
    JUDGES,
    LEAST,
    Planted,
    Quality,
    Sample,
    density_name,
    draw_luck,
    judge_levels,
    plant,
)
from autointerp.selftest.measure import population_score
from autointerp.selftest.samplers import DESIGNS, BenchProtocol, by_decile, choose, graded, hard_windows, silent_windows


@pytest.fixture(scope="module")
def planted() -> Planted:
    """A feature active on one token in a hundred, over a tenth of the bench's text."""
    return plant(1e-2, generator("test"), n_fragments=5_000)


def whole(planted: Planted) -> Sample:
    """All its text as one draw."""
    return Sample(planted.activation[None], planted.confusable[None])


def test_a_planted_feature_has_its_density_its_bursts_and_its_look_alikes(planted: Planted) -> None:
    """A generator that spread its activations evenly would make random text look like a fair protocol."""
    active = planted.activation > 0
    assert active.mean() == pytest.approx(1e-2, rel=0.05)
    assert active[active.any(axis=1)].mean() == pytest.approx(0.15, rel=0.05)
    assert planted.confusable.mean() == pytest.approx(CONFUSABLES * 1e-2 * 0.99, rel=0.05)
    assert not (active & planted.confusable).any()
    assert planted.values[0] >= LEAST
    # Exp(1) times Gamma(2, 1/2): mean 1, second moment 2 * 1.5.
    values = planted.values - LEAST
    assert values.mean() == pytest.approx(1, rel=0.1)
    assert (values**2).mean() == pytest.approx(3, rel=0.25)


def test_density_names_are_the_keys_of_the_json() -> None:
    assert [density_name(d) for d in (1e-2, 1e-3, 1e-4)] == ["1e-2", "1e-3", "1e-4"]


@pytest.mark.parametrize("quality", ["good", "broad", "narrow", "noisy", "lookup"])
def test_a_judge_hits_at_its_quoted_rates(planted: Planted, quality: str) -> None:
    """Recall at the strong end, look-alikes and base rate, with the share of windows missed or hallucinated."""
    judge = next(j for name, j in JUDGES.items() if name == quality)
    sample = whole(planted)
    hit = judge_levels(judge, planted, sample, draw_luck(sample, generator("luck"))) > 0
    active, strong = sample.activation > 0, sample.activation >= planted.sure
    kept = 1 - judge.window_miss * 0.8
    assert hit[strong].mean() == pytest.approx(judge.recall_high * kept, abs=0.1)
    ease = np.minimum(sample.activation[active] / planted.sure, 1).mean()
    recall = (judge.recall_low + (judge.recall_high - judge.recall_low) * ease) * kept
    assert hit[active].mean() == pytest.approx(recall, abs=0.04)
    assert hit[sample.confusable].mean() == pytest.approx(judge.confusable, abs=0.02)
    plain = ~active & ~sample.confusable
    assert hit[plain].mean() == pytest.approx(judge.base * (1 + 9 * judge.window_hallucination), rel=0.1, abs=1e-5)


def test_the_random_judge_does_not_see_what_is_active(planted: Planted) -> None:
    """Recall equals the false-alarm rate in every window: else its mean rho could not be 0."""
    sample = whole(planted)
    luck = draw_luck(sample, generator("luck"))
    hit = judge_levels(JUDGES["random"], planted, sample, luck) > 0
    assert np.array_equal(hit, luck.hit < np.where(luck.hallucinated < 0.1, 0.3, 0.03))


def test_levels_of_true_hits_are_the_deciles_of_the_feature(planted: Planted) -> None:
    """Without noise the level is the number of deciles reached; with it the mean error is 0 away from the ends."""
    sample = whole(planted)
    luck = draw_luck(sample, generator("luck"))._replace(noise=np.zeros(sample.activation.shape))
    levels = judge_levels(JUDGES["good"], planted, sample, luck)
    hits = (levels > 0) & (sample.activation > 0)
    n = len(planted.active)
    flat = sample.activation.reshape(-1)
    rank = np.searchsorted(planted.values, flat[np.flatnonzero(hits.reshape(-1))], side="left")
    assert np.abs(levels[hits] - np.ceil((rank + 1) * 10 / n)).max() <= 1
    assert (levels[hits] == np.ceil((rank + 1) * 10 / n)).mean() > 0.99


def test_population_score_agree_with_scipy() -> None:
    """The counted shortcut treats all silent tokens as one tie."""
    small = plant(1e-2, generator("small"), n_fragments=300)
    sample = whole(small)
    luck = draw_luck(sample, generator("seed"))
    qualities: tuple[Quality, ...] = ("good", "lookup", "random")
    for quality in qualities:
        levels = judge_levels(JUDGES[quality], small, sample, luck)
        expected = spearmanr(small.activation.reshape(-1), levels.reshape(-1)).statistic
        assert population_score(small, quality, ("seed",)) == pytest.approx(expected, abs=1e-9)


def test_choosing_is_without_replacement_and_even() -> None:
    """Floyd's algorithm: every member equally often, never twice in a draw."""
    chosen = choose(generator("choose"), 20_000, 7, 3)
    assert all(len(set(row)) == 3 for row in chosen[:500].tolist())
    counts = np.bincount(chosen.reshape(-1), minlength=7)
    assert counts == pytest.approx(np.full(7, 20_000 * 3 / 7), rel=0.03)
    assert choose(generator("choose"), 2, 2, 5).tolist() == [[0, 1], [0, 1]]


def test_graded_targets_are_thirds(planted: Planted) -> None:
    """Active ones spread over the deciles by rank, uniform ones exactly zero, hard ones look-alikes."""
    sample = graded(60)(planted, 50, generator("graded"))
    assert sample.activation.shape == (50, 60, 1)
    assert (sample.activation[:, :20] > 0).all()
    assert not (sample.activation[:, 20:] > 0).any()
    assert sample.confusable[:, 40:].all()
    rank = np.searchsorted(planted.values, sample.activation[:, :20, 0], side="left")
    decile = rank * 10 // len(planted.values)
    assert all(np.bincount(row, minlength=10).tolist() == [2] * 10 for row in decile)


def test_the_hit_rate_is_the_share_of_true_look_alikes(planted: Planted) -> None:
    sample = graded(60, 0.2)(planted, 500, generator("graded"))
    assert sample.confusable[:, 40:].mean() == pytest.approx(0.2, abs=0.02)
    assert not (sample.activation[:, 40:] > 0).any()


def test_silent_and_hard_windows_are_silent(planted: Planted) -> None:
    """A negative window that fires somewhere would be a wrong label, as in SAEBench."""
    for pick in (silent_windows, hard_windows):
        start = pick(planted, 40, 16, 16, generator(pick.__name__))
        sample = planted.read(start, 16)
        assert not (sample.activation > 0).any()
        assert (start % FRAGMENT <= FRAGMENT - 16).all()
        if pick is hard_windows:
            assert sample.confusable.any(axis=2).all()


@pytest.mark.parametrize("name", list(DESIGNS))
def test_every_design_draws_the_windows_it_is_priced_for(planted: Planted, name: BenchProtocol) -> None:
    design = DESIGNS[name]
    sample = design.draw(planted, 30, generator(name))
    n_draws, n_windows, width = sample.activation.shape
    assert (n_draws, width) == (30, design.n_scored)
    assert n_windows <= design.n_windows
    assert n_windows == design.n_windows or name == "bricken"
    strata = design.strata_of(sample)
    assert strata.shape == (30, n_windows)
    assert np.bincount(strata[0])[1:].tolist() == list(design.strata)


def test_bricken_draws_by_value_and_then_look_alikes(planted: Planted) -> None:
    """Two windows of every interval of value that has any: the weak half of the range is over-sampled by rank."""
    sample = DESIGNS["bricken"].draw(planted, 20, generator("bricken"))
    interval = np.ceil(sample.activation[:, 6:-30] / planted.values[-1] * 12)
    counts = np.bincount(np.ceil(planted.values / planted.values[-1] * 12).astype(int), minlength=13)[1:]
    wanted = np.repeat(np.arange(1, 13), np.minimum(counts, 2))
    assert interval.shape[1] == len(wanted)
    assert (interval == wanted[:, None]).any(axis=2).all()
    assert sample.confusable[:, -20:].any(axis=2).all()


def test_deciles_are_by_rank_not_by_value() -> None:
    """Heavy tails put most activations into the lowest tenth of the range."""
    heavy = plant(1e-2, generator("heavy"), n_fragments=2_000)
    slots = by_decile(heavy, 200, 20, generator("deciles"))
    ranks = rankdata(heavy.values)[np.searchsorted(heavy.values, heavy.activation.reshape(-1)[slots])]
    assert ranks.mean() == pytest.approx((len(heavy.active) + 1) / 2, rel=0.05)
