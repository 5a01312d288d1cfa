"""How well a dictionary stands for a model's activations, from sums that every shard keeps.

Sums over tokens flow in, `DictionaryMetrics` flow out. Knows no model and no torch. Special tokens, padding and masked
tokens are in none of them.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from autointerp.metrics import DictionaryMetrics, LossMetrics, Reconstruction, share_of

SUMS = ("n_token", "in_square", "out_square", "error_square", "product", "cosine", "norm_ratio")
"""Per token: 1, |x|², |x̂|², |x - x̂|², x·x̂, their cosine, |x̂| / |x|."""


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
        explained_variance=share_of(in_square - n * float(mean @ mean) - error, in_square - n * float(mean @ mean)),
        mse=error / n / len(mean),
        cosine=cosine / n,
        l2_ratio=ratio / n,
        relative_bias=share_of(out_square, product),
    )
