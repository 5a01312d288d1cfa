"""Sparse codes: what features are active on which rows, as flat tensors; and how dense values become them.

Pre-activations or dense activations `[n, d_sae]` flow in, `SparseCode` flows out. Knows no dictionary, hook point or
file.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DENSE_LIMIT = 1 << 26
"""Most values of a dense `[rows, d_sae]` intermediate on a GPU, and of any other big one: 256 MB of float32."""
CACHED_LIMIT = 1 << 22
"""The same on a CPU, where 16 MB stay in the cache while they are encoded and searched."""
LEAST_ROWS = 256
"""As many rows at once on a CPU all the same, within `DENSE_LIMIT`: smaller products lose more than the cache wins."""
_more_dense: ContextVar[int | None] = ContextVar("more dense values than DENSE_LIMIT", default=None)
MARKS_AT_ONCE = 1 << 20
LEAST_BLOCK, MOST_BLOCK = 32, 128


class SparseCode(NamedTuple):
    """The non-zero activations of some rows, sorted by row, then by feature."""

    row: Int[Tensor, " nnz"]
    """int64."""
    feature: Int[Tensor, " nnz"]
    """int64."""
    value: Float[Tensor, " nnz"]
    """float32, in the dictionary's own units, never 0; NaN stays visible."""


def rows_a_chunk(d_sae: int, device: torch.device | str) -> int:
    """How many rows may be dense at once on a device."""
    if torch.device(device).type == "cpu":
        return min(max(1, DENSE_LIMIT // d_sae), max(LEAST_ROWS, CACHED_LIMIT // d_sae))
    return max(1, (_more_dense.get() or DENSE_LIMIT) // d_sae)


@contextmanager
def at_most_dense(n: int) -> Iterator[None]:
    """Inside it as many values may be dense at once on a GPU."""
    token = _more_dense.set(n)
    try:
        yield
    finally:
        _more_dense.reset(token)


def select_where(values: Float[Tensor, "n d_sae"], is_active: Callable[[Tensor], Tensor]) -> SparseCode:
    """The values that `is_active` marks; it is given some rows of them at a time."""
    if values.device.type == "cpu":
        n, width = values.shape
        flat = torch.from_numpy(_find(n, width, lambda rows: is_active(values[rows]).numpy()))
        row = flat.div(width, rounding_mode="floor")
        return SparseCode(row, flat - row * width, values.reshape(-1)[flat].float())
    row, feature = is_active(values).nonzero(as_tuple=True)
    return SparseCode(row, feature, values[row, feature].float())


def _find(n: int, width: int, mark: Callable[[slice], Bool[np.ndarray, "rows width"]]) -> Int[np.ndarray, " nnz"]:
    """The marked places of `n` rows, counted through; several times faster than torch's own search on a CPU.

    Marks of all rows at once would be megabytes that come and go with every chunk, and leave holes in the heap.
    """
    size = max(1, MARKS_AT_ONCE // width)
    found = [np.flatnonzero(mark(slice(low, low + size))) + low * width for low in range(0, n, size)]
    return np.concatenate([np.zeros(0, np.int64), *found])


def select_nonzero(acts: Float[Tensor, "n d_sae"]) -> SparseCode:
    """Every value that is not 0 (NaN is not)."""
    return select_where(acts, lambda some: some != 0)


def select_indices(
    values: Float[Tensor, "n d_sae"],
    index: Int[Tensor, "n k"],
    then: Callable[[Float[Tensor, "n k"]], Float[Tensor, "n k"]] | None = None,
) -> SparseCode:
    """The values at `index` of each row, ascending in it, and mapped by `then`, less those that are 0."""
    chosen = values.gather(1, index)
    if then is not None:
        chosen = then(chosen)
    row, column = (chosen != 0).nonzero(as_tuple=True)
    return SparseCode(row, index[row, column], chosen[row, column].float())


def top_indices(scores: Float[Tensor, "n d_sae"], k: int) -> Int[Tensor, "n k"]:
    """Indices of the k largest scores of each row, ascending; among equal scores the lowest index is taken."""
    candidates = _candidates(scores, k) if scores.device.type == "cpu" else None
    if candidates is not None:
        values, feature = candidates
        return feature if feature.shape[1] == k else feature.gather(1, _top(values, k))
    return _top(scores, k)


def _top(scores: Float[Tensor, "n d_sae"], k: int) -> Int[Tensor, "n k"]:
    """As `top_indices`, by torch's own search."""
    width = scores.shape[1]
    values, index = scores.topk(min(k + 1, width), dim=1)
    if k >= width:
        return index.sort(dim=1).values
    tied = values[:, k - 1] == values[:, k]
    index = index[:, :k]
    if bool(tied.any()):
        index[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    return index.sort(dim=1).values


def _candidates(
    scores: Float[Tensor, "n d_sae"], k: int
) -> tuple[Float[Tensor, "n most"], Int[Tensor, "n most"]] | None:
    """The few scores of each row among which its k largest are, ascending in the index, -inf filling up.

    The k-th largest of the maxima of blocks is at most the k-th largest score, so only scores from it up matter. None
    where rows are too short to gain by it, or hold a NaN.
    """
    n, width = scores.shape
    block = min(MOST_BLOCK, 1 << max((width // (4 * k)).bit_length() - 1, 0))
    if block < LEAST_BLOCK or not n or scores.dtype != torch.float32:
        return None
    whole = width - width % block
    maxima = scores[:, :whole].view(n, -1, block).amax(2)
    if whole < width:
        maxima = torch.cat([maxima, scores[:, whole:].amax(1, keepdim=True)], dim=1)
    bound = maxima.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    if bool(maxima.isnan().any()):
        return None
    plain, least = scores.numpy(), bound.numpy()
    row, feature = np.divmod(_find(n, width, lambda rows: plain[rows] >= least[rows]), width)
    count = np.bincount(row, minlength=n)
    most = int(count.max())
    if most == k:
        return scores, torch.from_numpy(feature.reshape(n, k))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    values, index = np.full((n, most), -np.inf, np.float32), np.zeros((n, most), np.int64)
    values[row, place], index[row, place] = plain[row, feature], feature
    return torch.from_numpy(values), torch.from_numpy(index)


def densify(code: SparseCode, n_row: int, d_sae: int) -> Float[Tensor, "n d_sae"]:
    """The dense activations of a code."""
    acts = torch.zeros(n_row, d_sae, dtype=code.value.dtype, device=code.value.device)
    acts[code.row, code.feature] = code.value
    return acts


def dense_chunks(code: SparseCode, n_row: int, d_sae: int) -> Iterator[Float[Tensor, "chunk d_sae"]]:
    """The dense activations of a code, some rows at a time; one empty chunk where there are no rows."""
    size = rows_a_chunk(d_sae, code.value.device)
    for low in range(0, max(n_row, 1), size):
        high = min(low + size, n_row)
        a, b = torch.searchsorted(code.row, torch.tensor([low, high], device=code.row.device)).tolist()
        part = SparseCode(code.row[a:b] - low, code.feature[a:b], code.value[a:b])
        yield densify(part, high - low, d_sae)


def join_codes(codes: Iterable[tuple[int, SparseCode]]) -> SparseCode:
    """One code from those of consecutive chunks, each with its first row's number."""
    shifted = [SparseCode(code.row + first, code.feature, code.value) for first, code in codes]
    if len(shifted) == 1:
        return shifted[0]
    return SparseCode(*(torch.cat(parts) for parts in zip(*shifted, strict=True)))
