"""Random directions as a control: what a dictionary's densities alone are worth.

A `Dictionary` and activations flow in; an `Sae` of unit random directions that are each active as often flows out.
Knows no corpus and no run.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autointerp.subject.activations import JumpRelu
from autointerp.subject.codes import rows_a_chunk
from autointerp.subject.dictionaries import Dictionary, Sae
from autointerp.subject.loaders.parts import SaeParts

SAME = 4e-6
"""Values of a row that differ by less, as a share of its largest, may change places with the batch they come in."""


@torch.no_grad()
def random_directions(like: Dictionary, activations: Float[Tensor, "n d_in"], seed: int) -> Sae:
    """Unit random directions, each active as often on `activations` as the same feature of `like`.

    A control that keeps densities and drops what was learned. A direction reads the centred input above a threshold of
    its own, halfway between the last row that is active and the first that is not. Rows that say the same to rounding
    are on one side of it, where they miss the count by least, but for a feature that is active: it stays so. Densities
    above about one half are out of its reach, since no activation is negative. It reads and writes where `like` reads.
    Features are taken by chunks, so memory holds the activations and at most 256 MB more.
    """
    x = activations.float()
    like = like.to(x.device)
    drawn = torch.randn(like.d_sae, like.d_in, generator=torch.Generator().manual_seed(seed))
    directions = drawn / drawn.norm(dim=1, keepdim=True)
    mean = x.mean(dim=0)
    centred = x - mean
    n_active = _count_active(like, x)
    thresholds = []
    size = rows_a_chunk(len(x), x.device)
    for low in range(0, like.d_sae, size):
        pre = directions[low : low + size].to(x.device) @ centred.T
        thresholds.append(_thresholds(pre.cpu().numpy(), n_active[low : low + size]))
    return SaeParts(
        W_enc=directions.T,
        b_enc=-(directions @ mean.cpu()),
        W_dec=directions,
        b_dec=mean.cpu(),
        activation=JumpRelu(torch.from_numpy(np.concatenate(thresholds)).clamp_min(0)),
        architecture="random directions",
        hook_point=like.hook_point,
        prepend_bos=like.prepend_bos,
    ).build(like.hook_point)


def _count_active(like: Dictionary, x: Float[Tensor, "n d_in"]) -> Int[np.ndarray, " d_sae"]:
    """Rows on which each feature is active."""
    size = rows_a_chunk(like.d_sae, x.device)
    counts = np.zeros(like.d_sae, np.int64)
    for first in range(0, len(x), size):
        counts += np.bincount(like.encode_sparse(x[first : first + size]).feature.cpu().numpy(), minlength=like.d_sae)
    return counts


def _thresholds(pre: Float[np.ndarray, "chunk n"], n_active: Int[np.ndarray, " chunk"]) -> Float[np.ndarray, " chunk"]:
    """Halfway between the `n_active`-th largest value of a row and the next, or the nearest that differ."""
    n = pre.shape[1]
    middles = np.zeros(len(pre), np.float32)
    for i, (row, k) in enumerate(zip(pre, n_active.tolist(), strict=True)):
        edges = np.partition(row, [max(n - k - 1, 0), min(n - k, n - 1)])
        above = edges[n - k] if k > 0 else edges[-1] + 1
        below = edges[n - k - 1] if k < n else edges[0] - 1
        if above - below <= SAME * np.abs(row).max():
            above, below = _nearest_gap(row, k)
        middles[i] = (above + below) / 2
    return middles


def _nearest_gap(row: Float[np.ndarray, " n"], k: int) -> tuple[float, float]:
    """The two neighbours among a row's values that differ, with a number of values from the first up that is nearest k.

    At least one value is above.
    """
    falling = np.sort(row)[::-1]
    gaps = np.flatnonzero(falling[:-1] - falling[1:] > SAME * np.abs(row).max())
    if not len(gaps):
        return float(falling[-1]), float(falling[-1]) - 1
    last = gaps[np.argmin(np.abs(gaps + 1 - k))]
    return float(falling[last]), float(falling[last + 1])
