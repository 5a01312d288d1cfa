"""The small searches that choosing windows rests on, each held against the plain way to do it."""

import numpy as np
import pytest

from autointerp.splits import CorpusIndex, Windows
from autointerp.vectors import deal, draw_each, first_of_descending, ranges, strongest_of_each
from tests.unit.small_corpus import make_corpus


@pytest.mark.parametrize("k", [0, 1, 7, 50, 200])
@pytest.mark.parametrize("distinct", [1, 3, 1000])
def test_first_of_descending_is_the_beginning_of_a_stable_sort(k: int, distinct: int) -> None:
    """Ties decided by the partition's whim would choose other windows on another machine."""
    values = np.random.default_rng(k).integers(0, distinct, 100).astype(np.float32)
    assert first_of_descending(values, k).tolist() == np.argsort(-values, kind="stable")[:k].tolist()


def test_strongest_of_each_document() -> None:
    """Brute force: by document the first of its largest values, documents by that value, ties in corpus order."""
    rng = np.random.default_rng(0)
    document = np.sort(rng.integers(0, 30, 200))
    value = rng.integers(1, 6, 200).astype(np.float32)
    best = [next(i for i in np.flatnonzero(document == d) if value[i] == value[document == d].max()) for d in range(30)]
    assert strongest_of_each(value, document).tolist() == sorted(best, key=lambda i: (-value[i], i))
    assert not len(strongest_of_each(value[:0], document[:0]))


def test_places_are_drawn_by_weight() -> None:
    """A second route: numpy's own weighted draw from the same stream; zeros behind a row's end are never drawn."""
    weights = np.random.default_rng(1).random((40, 8)) * (np.arange(8) < 6)
    rng = np.random.default_rng(2)
    expected = [rng.choice(6, p=row[:6] / row[:6].sum()) for row in weights]
    assert draw_each(weights, np.random.default_rng(2)).tolist() == expected


def test_ranges_one_after_the_other() -> None:
    """By hand, an empty one among them."""
    assert ranges(np.array([5, 9, 2]), np.array([2, 0, 3])).tolist() == [5, 6, 2, 3, 4]


def test_the_words_of_windows_are_the_sum_of_their_rows() -> None:
    """Windows shown and windows searched must be weighed alike, or the nearest ones are not."""
    index = CorpusIndex(make_corpus(), 3)
    candidates = index.candidates("score", 16)
    some = np.arange(0, len(candidates.first), 3)
    by_row = np.asarray(candidates.words[some].sum(axis=0)).reshape(-1)
    np.testing.assert_allclose(index.word_sum(candidates.windows.take(some)), by_row, rtol=1e-5)
    assert not index.word_sum(Windows.joined([])).any()


def test_every_block_has_its_share_of_each_group() -> None:
    """A score on the first blocks alone must not be one on the strongest deciles alone."""
    group = np.repeat([3, 1, 2], [20, 10, 10])
    block = deal(group, (8, 12, 20), np.random.default_rng(0))
    assert np.bincount(block).tolist() == [8, 12, 20]
    shares = np.stack([np.bincount(group[block == i], minlength=4)[1:] / size for i, size in enumerate((8, 12, 20))])
    assert np.abs(shares - [0.25, 0.25, 0.5]).max() < 0.13
    over = deal(np.zeros(7), (2, 2), np.random.default_rng(0))
    assert np.bincount(over).tolist() == [2, 5]
