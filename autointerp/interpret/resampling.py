"""Spearman's rho of many features under many re-weightings of their windows, exactly.

Activations, predictions and window multiplicities flow in, a correlation a feature and draw flows out. Positions with
the same values on every side are one cell, counted by window, so a draw of window multiplicities `m` weighs the cells
with `m @ count`, and twice the centred mid-rank of a cell is `m @ count @ sign(own value - other value)`: matrix
products of whole numbers, which come out the same in any order, batch and chunk. Knows no interval and no record.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from autointerp.interpret.ranks import chunks
from autointerp.interpret.statistics import Mask, Values
from autointerp.provenance import generator

MOST_SINGLE = 369
"""Positions, repeats counted, up to which all sums, at most n^3 / 3, are whole numbers below 2^24 and so exact in
single precision; in double precision it is 300,000."""

MOST_SERIAL = 1 << 18
"""Multiplications of a matrix product up to which OpenBLAS starts no thread."""

Multiplicity = Float[np.ndarray, "draw window"]
"""How often each window counts: whole numbers, so that every sum is exact."""


class DesignGroup(NamedTuple):
    """Features with the same number of answered windows in each stratum."""

    features: Int[np.ndarray, " n"]
    windows: Int[np.ndarray, "n answered"]
    """Their answered windows, stratum by stratum, in the given order inside one."""
    sizes: tuple[int, ...]
    """Windows of each stratum that has any."""

    def take(self, values: Values) -> Values:
        """The group's part of an array, windows in the group's order."""
        return np.asarray(values[self.features[:, None], self.windows])


class _Cells(NamedTuple):
    """A chunk of features as cells of equal values."""

    counts: Float[np.ndarray, "feature window cell"] | None
    """None where every window is its own cell."""
    codes: Sequence[Int[np.ndarray, "feature cell"]]
    """For each side a number per cell in the order of the values."""


def design_groups(mask: Mask, stratum: Int[np.ndarray, "feature window"]) -> Iterator[DesignGroup]:
    """Group features by their answered windows, those with an unmasked position, per stratum; without any, no group."""
    answered = np.asarray(mask.any(axis=2))
    strata = np.unique(stratum[answered])
    sizes = ((stratum[:, :, None] == strata) & answered[:, :, None]).sum(axis=1)
    order = np.argsort(np.where(answered, stratum, np.iinfo(np.int64).max), axis=1, kind="stable")
    designs, member = np.unique(sizes, axis=0, return_inverse=True)
    for i, design in enumerate(designs):
        features = np.flatnonzero(member.ravel() == i)
        if design.any():
            yield DesignGroup(features, order[features, : design.sum()], tuple(int(n) for n in design if n))


def leave_one_out(sizes: tuple[int, ...]) -> Multiplicity:
    """The draws that leave out each window, the rest of its stratum standing in for it (Jones 1974).

    The others of its stratum count n / (n - 1) times, so that each stratum keeps its share; all is scaled by n - 1 to
    whole numbers. The only window of a stratum cannot be left out: its row leaves all in.
    """
    if len(sizes) == 1:
        return np.ones((sizes[0], sizes[0])) - np.eye(sizes[0])
    n = np.repeat(sizes, sizes)
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    same = stratum[:, None] == stratum
    rows = np.where(same, n[:, None], n[:, None] - 1) * ~np.eye(len(n), dtype=bool)
    return np.where(n[:, None] > 1, rows, 1).astype(float)


@lru_cache(maxsize=32)
def bootstrap_draws(sizes: tuple[int, ...], n_draws: int) -> Multiplicity:
    """Multiplicities of windows resampled inside each stratum; the same draws for every feature of the same sizes."""
    rng = generator("bootstrap windows", sizes, n_draws)
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), n_draws) for n in sizes], axis=1).astype(float)


def resampled_spearman(
    truth: Values, sides: Sequence[Values], mask: Mask, draws: Multiplicity
) -> list[Float[np.ndarray, "feature draw"]]:
    """Spearman's rho of each side with the truth under each draw; NaN where a side is constant in a draw."""
    n_feature, n_window, n_tok = truth.shape
    exact = np.float32 if n_tok * draws.sum(axis=1).max(initial=0) <= MOST_SINGLE else np.float64
    weight = draws.astype(exact)
    found = [np.empty((n_feature, len(draws))) for _ in sides]
    cells_at_most = n_window * n_tok
    for rows in chunks(n_feature, cells_at_most * max(len(draws), cells_at_most)):
        cells = _cells([values[rows] for values in (truth, *sides)], mask[rows])
        for side, rho in zip(found, _correlations(cells, weight), strict=True):
            side[rows] = rho
    return found


def serial_product(left: np.ndarray, right: Float[np.ndarray, "feature k n"]) -> Float[np.ndarray, "feature m n"]:
    """Matrix products feature by feature, a few rows at a time, so that the calling thread does them alone.

    Products of this size gain little from BLAS threads, and on a busy machine their meetings cost tenfold.
    """
    n_feature, k, n = right.shape
    found = np.empty((n_feature, left.shape[-2], n), dtype=right.dtype)
    step = max(1, MOST_SERIAL // max(1, k * n))
    for start in range(0, left.shape[-2], step):
        rows = slice(start, start + step)
        np.matmul(left[..., rows, :], right, out=found[:, rows])
    return found


def _cells(sides: Sequence[Values], mask: Mask) -> _Cells:
    n_feature, n_window, n_tok = mask.shape
    seen = mask.reshape(n_feature, -1)
    codes = [_codes(np.where(seen, values.reshape(n_feature, -1), 0)) for values in sides]
    if n_tok == 1:
        return _Cells(None, codes)
    joint = codes[0]
    for code in codes[1:]:
        joint = _codes(joint * (code.max() + 1) + code)
    n_cell = joint.max() + 1
    of_window = np.arange(n_feature * n_window).reshape(n_feature, n_window).repeat(n_tok, axis=1)
    count = np.bincount((of_window * n_cell + joint)[seen], minlength=n_feature * n_window * n_cell)
    of_cell = []
    for code in codes:
        cell_code = np.zeros((n_feature, n_cell), dtype=code.dtype)
        np.put_along_axis(cell_code, joint, code, axis=1)
        of_cell.append(cell_code)
    return _Cells(count.reshape(n_feature, n_window, n_cell), of_cell)


def _codes(values: np.ndarray) -> Int[np.ndarray, "row n"]:
    """Number of distinct smaller values in the row."""
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    new = np.zeros(values.shape, dtype=np.int64)
    new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    codes = np.empty_like(new)
    np.put_along_axis(codes, order, new.cumsum(axis=1), axis=1)
    return codes


def _correlations(cells: _Cells, draws: Multiplicity) -> Iterator[Float[np.ndarray, "feature draw"]]:
    """Of every side with the first."""
    counts = None if cells.counts is None else cells.counts.astype(draws.dtype)
    weight = draws if counts is None else serial_product(draws, counts)
    truth = _ranks(cells.codes[0], counts, draws)
    weighted = weight * truth
    truth_square = _dot(weighted, truth)
    for codes in cells.codes[1:]:
        side = _ranks(codes, counts, draws)
        square = truth_square * _dot(weight * side, side)
        with np.errstate(invalid="ignore", divide="ignore"):
            yield np.clip(np.where(square > 0, _dot(weighted, side) / np.sqrt(square), np.nan), -1, 1)


def _ranks(codes: np.ndarray, counts: np.ndarray | None, draws: np.ndarray) -> Float[np.ndarray, "feature draw cell"]:
    """Twice the centred mid-rank of each cell under each draw."""
    larger = codes[:, None, :] > codes[:, :, None]
    signs = larger.astype(draws.dtype) - larger.transpose(0, 2, 1)
    return serial_product(draws, signs if counts is None else serial_product(counts, signs))


def _dot(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "feature draw"]:
    return np.asarray(np.einsum("fdk,fdk->fd", x, y), dtype=float)
