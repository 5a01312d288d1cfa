"""Sparse codes against hand computations and the dense route."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.subject.activations import JumpRelu, Relu, TopK
from autointerp.subject.codes import SparseCode, densify, join_codes, top_indices


def test_top_indices_by_hand() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0, 5.0], [0.0, -1.0, 4.0, 3.0]])
    assert top_indices(scores, 2).tolist() == [[0, 3], [2, 3]]


def test_lowest_index_wins_a_tie() -> None:
    """Which of two equal values survives must not depend on the kernel or on neighbouring rows."""
    scores = torch.tensor([[1.0, 7.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    assert top_indices(scores, 2).tolist() == [[0, 1], [0, 1], [2, 3]]


def test_top_k_keeps_fewer_where_few_are_positive() -> None:
    code = TopK(3).sparse(torch.tensor([[-1.0, 2.0, -3.0, 0.0], [5.0, 4.0, 3.0, 2.0]]))
    assert code.row.tolist() == [0, 1, 1, 1]
    assert code.feature.tolist() == [1, 0, 1, 2]
    assert code.value.tolist() == [2.0, 5.0, 4.0, 3.0]


def test_k_of_the_whole_width() -> None:
    assert TopK(4).sparse(torch.tensor([[1.0, 0.0, 2.0, -1.0]])).feature.tolist() == [0, 2]


def test_threshold_is_strict_and_never_lets_a_negative_out() -> None:
    jump = JumpRelu(torch.tensor([1.0, 1.0, -2.0, -2.0]))
    pre = torch.tensor([[1.0, 1.5, -1.0, 0.5]])
    assert jump.dense(pre).tolist() == [[0.0, 1.5, 0.0, 0.5]]
    assert jump.sparse(pre).feature.tolist() == [1, 3]


def test_nan_stays_visible() -> None:
    """A comparison with NaN is false, so a plain `>` would hide it and the harvest could not report it."""
    pre = torch.tensor([[1.0, float("nan"), -1.0]])
    for activation in (Relu(), JumpRelu(torch.zeros(3)), TopK(2)):
        assert activation.sparse(pre).value.isnan().sum() == 1


@given(st.lists(st.lists(st.integers(-3, 3), min_size=5, max_size=5), min_size=1, max_size=6), st.integers(1, 5))
def test_sparse_is_dense(rows: list[list[int]], k: int) -> None:
    """With many ties: the sparse route holds exactly the dense route's non-zero values, sorted."""
    pre = torch.tensor(rows, dtype=torch.float32)
    for activation in (Relu(), TopK(k), JumpRelu(torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5]))):
        code, dense = activation.sparse(pre), activation.dense(pre)
        assert torch.equal(densify(code, *pre.shape), dense)
        keys = (code.row * 5 + code.feature).tolist()
        assert keys == sorted(set(keys))
        assert (code.value != 0).all()


def test_joined_chunks_count_rows_on() -> None:
    one = SparseCode(torch.tensor([0, 1]), torch.tensor([3, 4]), torch.tensor([1.0, 2.0]))
    assert join_codes([(0, one), (2, one)]).row.tolist() == [0, 1, 2, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([640, 700, 4096]), st.sampled_from([2, 30, 10**6]))
def test_blocks_find_what_a_full_sort_finds(seed: int, k: int, width: int, levels: int) -> None:
    """The quick search looks at blocks first; ties, negative scores and the last short block must not change it."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(-levels, levels, (6, width)) / 7).astype(np.float32)
    scores[0] = -np.inf
    sorted_first = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    assert top_indices(torch.from_numpy(scores), k).tolist() == sorted_first.tolist()


@pytest.mark.parametrize("place", [0, 300, 699])
def test_nan_is_found_in_every_block(place: int) -> None:
    """No comparison with NaN is true, so the quick search would drop it and the harvest report nothing."""
    scores = torch.randn(3, 700)
    scores[1, place] = float("nan")
    assert place in top_indices(scores, 4)[1].tolist()
    assert TopK(4).sparse(scores).value.isnan().sum() == 1
