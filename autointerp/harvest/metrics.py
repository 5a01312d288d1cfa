"""How well a dictionary stands for a model's activations, from sums that every shard keeps.

Sums over tokens flow in, `DictionaryMetrics` flow out. Knows no model and no torch. Special tokens, padding and masked
tokens are in none of them. Names follow SAEBench's core evaluation; formulas differ where noted.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from autointerp.records import Record

SUMS = ("n_token", "in_square", "out_square", "error_square", "product", "cosine", "norm_ratio")
"""Per token: 1, |x|², |x̂|², |x - x̂|², x·x̂, their cosine, |x̂| / |x|."""


class LossMetrics(Record):
    """Next-token loss with the dictionary spliced in, in nats, beside zero and mean ablation at the same tokens."""

    n_tokens: int
    """Tokens predicted."""
    ce: float
    """Of the model itself."""
    ce_dictionary: float
    ce_zero: float
    ce_mean: float
    kl_dictionary: float
    """Mean KL divergence from the model's own prediction."""
    kl_zero: float
    kl_mean: float

    @property
    def recovered_zero(self) -> float | None:
        """Loss recovered against zero ablation; None where zeroing costs nothing."""
        return _share(self.ce_zero - self.ce_dictionary, self.ce_zero - self.ce)

    @property
    def recovered_mean(self) -> float | None:
        """Loss recovered against mean ablation."""
        return _share(self.ce_mean - self.ce_dictionary, self.ce_mean - self.ce)

    @property
    def kl_recovered(self) -> float | None:
        """1 - KL with the dictionary over KL with zero."""
        return _share(self.kl_zero - self.kl_dictionary, self.kl_zero)


class Reconstruction(Record):
    """Outputs against the activations they stand for; x̂ is the output, x what it should be."""

    explained_variance: float | None
    """1 - sum |x - x̂|² / sum |x - mean x|² over all tokens; None where x is constant."""
    mse: float
    """Mean over tokens and dimensions of (x - x̂)²."""
    cosine: float
    l2_ratio: float
    """Mean |x̂| / |x|."""
    relative_bias: float | None
    """Mean |x̂|² / mean x·x̂: below 1 where outputs shrink."""


class DictionaryMetrics(Record):
    """What one dictionary does over a whole harvest."""

    n_tokens: int
    """Tokens looked at; every share here is of them."""
    l0: float
    l1: float
    """Mean sum of activations a token."""
    share_alive: float
    """Features active at least once in `n_tokens`."""
    share_over_1_percent: float
    """Features denser than that."""
    share_over_10_percent: float
    reconstruction: Reconstruction | None
    """None where the dictionary cannot decode."""
    loss: LossMetrics | None
    """None where it was not asked for or cannot be had."""


def dictionary_metrics(
    n_tokens: int,
    n_active: Int[np.ndarray, " d_sae"],
    total: Float[np.ndarray, " d_sae"],
    reconstruction: Reconstruction | None,
    loss: LossMetrics | None,
) -> DictionaryMetrics:
    """Metrics from each feature's count of active tokens and sum of activations."""
    n = max(n_tokens, 1)
    return DictionaryMetrics(
        n_tokens=n_tokens,
        l0=float(n_active.sum() / n),
        l1=float(np.abs(total).sum() / n),
        share_alive=float((n_active > 0).mean()),
        share_over_1_percent=float((n_active > 0.01 * n).mean()),
        share_over_10_percent=float((n_active > 0.1 * n).mean()),
        reconstruction=reconstruction,
        loss=loss,
    )


def reconstruction_metrics(
    sums: Sequence[Float[np.ndarray, " name"]], sums_in: Sequence[Float[np.ndarray, " d_out"]]
) -> Reconstruction | None:
    """Metrics from the shards' `SUMS` and sums of x; None without a token."""
    if not sums or not sum(float(s[0]) for s in sums):
        return None
    n, in_square, out_square, error, product, cosine, ratio = np.sum(sums, axis=0).tolist()
    mean = np.sum(sums_in, axis=0) / n
    return Reconstruction(
        explained_variance=_share(in_square - n * float(mean @ mean) - error, in_square - n * float(mean @ mean)),
        mse=error / n / len(mean),
        cosine=cosine / n,
        l2_ratio=ratio / n,
        relative_bias=_share(out_square, product),
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
