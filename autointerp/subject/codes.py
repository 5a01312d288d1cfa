"""Sparse codes: what features are active on which rows, as flat tensors; and how dense values become them.

Pre-activations or dense activations `[n, d_sae]` flow in, `SparseCode` flows out. Knows no dictionary, hook point or
file.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DENSE_LIMIT = 1 << 26
"""Most values of a dense `[rows, d_sae]` intermediate: 256 MB of float32."""


class SparseCode(NamedTuple):
    """The non-zero activations of some rows, sorted by row, then by feature."""

    row: Int[Tensor, " nnz"]
    """int64."""
    feature: Int[Tensor, " nnz"]
    """int64."""
    value: Float[Tensor, " nnz"]
    """float32, in the dictionary's own units, never 0; NaN stays visible."""


def rows_a_chunk(d_sae: int) -> int:
    """How many rows may be dense at once."""
    return max(1, DENSE_LIMIT // d_sae)


def select_where(values: Float[Tensor, "n d_sae"], active: Bool[Tensor, "n d_sae"]) -> SparseCode:
    """The values at the marked places."""
    row, feature = active.nonzero(as_tuple=True)
    return SparseCode(row, feature, values[row, feature].float())


def select_nonzero(acts: Float[Tensor, "n d_sae"]) -> SparseCode:
    """Every value that is not 0 (NaN is not)."""
    return select_where(acts, acts != 0)


def select_indices(values: Float[Tensor, "n d_sae"], index: Int[Tensor, "n k"]) -> SparseCode:
    """The values at `index` of each row, ascending in it, less those that are 0."""
    chosen = values.gather(1, index)
    row, column = (chosen != 0).nonzero(as_tuple=True)
    return SparseCode(row, index[row, column], chosen[row, column].float())


def top_indices(scores: Float[Tensor, "n d_sae"], k: int) -> Int[Tensor, "n k"]:
    """Indices of the k largest scores of each row, ascending; among equal scores the lowest index is taken."""
    width = scores.shape[1]
    values, index = scores.topk(min(k + 1, width), dim=1)
    if k >= width:
        return index.sort(dim=1).values
    tied = values[:, k - 1] == values[:, k]
    index = index[:, :k]
    if bool(tied.any()):
        index[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    return index.sort(dim=1).values


def densify(code: SparseCode, n_row: int, d_sae: int) -> Float[Tensor, "n d_sae"]:
    """The dense activations of a code."""
    acts = torch.zeros(n_row, d_sae, dtype=code.value.dtype, device=code.value.device)
    acts[code.row, code.feature] = code.value
    return acts


def join_codes(codes: Iterable[tuple[int, SparseCode]]) -> SparseCode:
    """One code from those of consecutive chunks, each with its first row's number."""
    shifted = [SparseCode(code.row + first, code.feature, code.value) for first, code in codes]
    if len(shifted) == 1:
        return shifted[0]
    return SparseCode(*(torch.cat(parts) for parts in zip(*shifted, strict=True)))
