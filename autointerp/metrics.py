"""What a dictionary does over a whole harvest, beside the scores of its features: records.

Plain validated data, no I/O and no torch. Names follow SAEBench's core evaluation; formulas differ where noted.
"""

from autointerp.records import Record

MASSIVE = 10.0
"""Times the median norm, from which on a token's activations are called massive (after Sun et al. 2024)."""
OUTSIZED = 20.0
"""Times a feature's 9th decile, from which on a maximum on such a token is marked."""


def share_of(part: float, whole: float) -> float | None:
    """part / whole; None where there is no whole."""
    return part / whole if whole > 0 else None


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
        return share_of(self.ce_zero - self.ce_dictionary, self.ce_zero - self.ce)

    @property
    def recovered_mean(self) -> float | None:
        """Loss recovered against mean ablation."""
        return share_of(self.ce_mean - self.ce_dictionary, self.ce_mean - self.ce)

    @property
    def kl_recovered(self) -> float | None:
        """1 - KL with the dictionary over KL with zero."""
        return share_of(self.kl_zero - self.kl_dictionary, self.kl_zero)


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
    """Mean |x̂|² / mean x·x̂: below 1 where outputs shrink; None where x̂ points away from x in the mean."""


class MassiveTokens(Record):
    """The few tokens with massive activations: they can hold most of the variance, and features' maxima."""

    n_tokens: int
    """Tokens looked at whose norm, where the dictionary reads or writes, is over `MASSIVE` times the median there."""
    n_first: int
    """Of them, those at the first place that is looked at in their document."""
    skip_tokens: int
    """Places before it, after BOS, that were left out."""
    median_norm: float
    """Where the dictionary reads; of a sample of rows spread over the corpus, kept in the plan."""
    share_of_variance: float | None
    """Their share of the sum of squared distances from the mean; None where the dictionary cannot decode."""
    reconstruction: Reconstruction | None
    """Of all other tokens."""
    n_maxima: int
    """Features with their maximum on one, where that is over `OUTSIZED` times their 9th decile."""


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
    """None where it was not asked for, the dictionary cannot decode, or no token that is looked at follows another."""
    massive: MassiveTokens | None = None
    """None in harvests that did not count them."""
