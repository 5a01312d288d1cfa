"""Matching by decoder cosine, splitting, and the geometry of a card, against brute force and closed forms."""

import numpy as np
import pytest
from scipy import stats

from autointerp import nearest as match
from autointerp.compare.geometry import concentration, mean_pair_cosine, recovery, redundancy
from autointerp.compare.splitting import split_between
from autointerp.nearest import mutual, nearest


def directions(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_blocks_find_what_one_product_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a nearest neighbour lost at the edge of a block, in rows or in columns."""
    monkeypatch.setattr(match, "_ROWS", 7)
    monkeypatch.setattr(match, "_COLUMNS", 11)
    a, b = directions(40, 6, 0), directions(53, 6, 1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    cosine = unit[0] @ unit[1].T
    found = nearest(a, b)
    assert found.of_a.tolist() == cosine.argmax(axis=1).tolist()
    assert found.of_b.tolist() == cosine.argmax(axis=0).tolist()
    assert found.cosine_a == pytest.approx(cosine.max(axis=1), abs=1e-6)
    assert found.cosine_b == pytest.approx(cosine.max(axis=0), abs=1e-6)


def test_a_shuffled_dictionary_is_found_again_and_strangers_are_not() -> None:
    """Every feature pairs with its own copy under noise and another norm; unrelated ones stay below the floor."""
    a = directions(60, 64, 2)
    order = np.random.default_rng(3).permutation(60)
    b = np.concatenate([3 * a[order] + 0.3 * directions(60, 64, 4), directions(20, 64, 5)])
    found = mutual(nearest(a, b))
    assert found.a.tolist() == list(range(60))
    assert order[found.b].tolist() == list(range(60))
    assert not len(mutual(nearest(a, directions(80, 64, 6))).a)


def test_only_mutual_neighbours_pair() -> None:
    """Two features near one: the nearer has it, the other is left; a decoder of zeros is near nothing."""
    a = np.array([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.0, 0.0]])
    b = np.array([[1.0, 0.05, 0.0], [0.0, 0.0, 1.0]])
    found = mutual(nearest(a, b))
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == [(0, 0)]


def test_splitting_by_hand() -> None:
    """Of three features one splits in two, one comes again, one is gone; one of the wider ones is new."""
    small = np.eye(4)[:3]
    large = np.array([[1, 0.2, 0, 0], [1, -0.2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    for found, a_is_small in ((nearest(small, large), True), (nearest(large, small), False)):
        split = split_between("s", "l", found, a_is_small=a_is_small)
        assert (split.absent, split.one, split.several, split.novel) == (1, 1, 1, 1)
        assert (split.n_small, split.n_large) == (3, 4)


def test_concentration_tells_neurons_from_gaussian_directions() -> None:
    """One-hot vectors have all their norm on one coordinate; kurtosis is scipy's; Gaussian ones are their reference."""
    one_hot = concentration(np.eye(32), "h")
    assert (one_hot.top_1, one_hot.top_10) == (1, 1)
    assert one_hot.kurtosis == pytest.approx(stats.kurtosis(np.eye(32)[0], fisher=False), abs=1e-5)
    assert one_hot.gaussian_kurtosis == pytest.approx(3 * 31 / 33, abs=0.05)
    drawn = concentration(np.concatenate([directions(3000, 32, 7), np.zeros((5, 32))]), "h")
    assert drawn.top_1 == pytest.approx(drawn.gaussian_top_1, abs=0.01)
    assert drawn.top_10 == pytest.approx(drawn.gaussian_top_10, abs=0.01)


def test_mean_cosine_between_pairs_is_that_of_all_pairs() -> None:
    """The sum of squares is a shortcut; the sum over pairs is the truth."""
    x = directions(15, 5, 8)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(15, 1)]
    assert mean_pair_cosine(x) == pytest.approx(pairs.mean(), abs=1e-6)
    assert mean_pair_cosine(x[:1]) is None


def test_recovery_of_itself_is_full_and_of_strangers_is_not() -> None:
    """Guards against the maximum taken over the wrong side."""
    known = directions(10, 64, 9)
    found = recovery("truth", known, np.concatenate([directions(50, 64, 10), 2 * known[:5]]))
    assert found.share_over_09 == 0.5
    assert recovery("truth", known, known).mean_max_cosine == pytest.approx(1, abs=1e-5)
    assert redundancy(np.array([0.2, 0.8, 0.95, 0.1])).share_over_07 == 0.5
