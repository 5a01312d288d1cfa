"""What a dictionary is by itself, beside its scores: activity, fidelity, and the geometry of its weights.

Frozen records only. A group of figures that cannot be had is None, and `missing` says why; a figure is never made up.
Names follow SAEBench's core evaluation. Filled in by `compare.facts` and `compare.geometry`; knows no file.
"""

from typing import Literal, Self, get_args

from pydantic import model_validator

from autointerp.metrics import LossMetrics, MassiveTokens, Reconstruction
from autointerp.records import Record

CardGroup = Literal["activity", "reconstruction", "loss", "rare", "encoder", "concentration", "redundancy", "recovery"]
CARD_GROUPS: tuple[CardGroup, ...] = get_args(CardGroup)


class Spread(Record):
    """How a figure is spread over features."""

    mean: float
    low: float
    """10th percentile."""
    median: float
    high: float
    """90th percentile."""


class Activity(Record):
    """How often features are active."""

    n_tokens: int
    """Tokens looked at; alive means active at least once in them."""
    l0: float
    """Mean number of active features a token."""
    l1: float | None
    """Mean sum of activations a token."""
    n_features: int
    n_alive: int
    n_over_1_percent: int
    n_over_10_percent: int
    log_density_edges: tuple[float, ...]
    """Edges of the histogram, log10 of the density, ascending; one more than counts."""
    log_density_counts: tuple[int, ...]
    """Live features in each bin."""


class RareCluster(Record):
    """The ultra-low-density cluster: live features below a density of 1e-5 (Bricken et al. 2023)."""

    below: float
    n: int
    share: float
    """Of the live features."""
    encoder_cosine: float | None
    """Mean cosine between the encoder directions of two of them; None below two, or where there are none."""
    others_cosine: float | None
    """The same among the other live features."""
    note: str | None = None
    """Why the encoder directions are not known, or that the corpus is too short to tell rare from dead."""


class Concentration(Record):
    """How far decoder vectors lie along single coordinates of where they write."""

    hook_point: str
    """Whose coordinates they are: neurons only at a hook point inside an MLP."""
    top_1: float
    """Mean over features of the largest coordinate's share of the squared norm."""
    top_10: float
    kurtosis: float
    """Mean over features of the kurtosis over coordinates; 3 for a Gaussian."""
    gaussian_top_1: float
    """The same of directions drawn from a Gaussian, as many dimensions."""
    gaussian_top_10: float
    gaussian_kurtosis: float


class Redundancy(Record):
    """How near each feature's decoder direction is to its nearest other one."""

    max_cosine: Spread
    share_over_07: float
    share_over_09: float


class Recovery(Record):
    """How much of a known dictionary is found again: each known feature's largest decoder cosine."""

    known: str
    """Name of the known dictionary."""
    n_known: int
    mean_max_cosine: float
    """MMCS (Sharkey et al. 2022)."""
    share_over_09: float


class Card(Record):
    """One dictionary's facts from its harvest and its weights."""

    arm: str
    """Key of the arm it belongs to."""
    d_in: int
    d_sae: int
    architecture: str
    activity: Activity | None = None
    reconstruction: Reconstruction | None = None
    massive: MassiveTokens | None = None
    """The few tokens far out in norm, and the reconstruction without them; None where its harvest did not count."""
    loss: LossMetrics | None = None
    loss_recovered: float | None = None
    """(CE of zero ablation - CE with the dictionary) / (CE of zero ablation - CE of the model)."""
    rare: RareCluster | None = None
    encoder: Spread | None = None
    """Cosine between each feature's encoder and decoder direction."""
    concentration: Concentration | None = None
    redundancy: Redundancy | None = None
    recovery: Recovery | None = None
    missing: dict[CardGroup, str]
    """Why each group that is None cannot be had; a known dictionary that was not given included."""

    @model_validator(mode="after")
    def _present_or_reason(self) -> Self:
        absent = {group for group in CARD_GROUPS if getattr(self, group) is None}
        if absent != set(self.missing):
            raise ValueError(f"groups without figures {sorted(absent)}, reasons for {sorted(self.missing)}")
        return self


class Splitting(Record):
    """What becomes of the features of a narrower dictionary in a wider one at the same hook point.

    A feature of the wider one belongs to its nearest feature of the narrower one where their decoder cosine is at
    least `floor`.
    """

    small: str
    large: str
    """Keys of the arms."""
    floor: float
    n_small: int
    n_large: int
    absent: int
    """Features of the narrower one to which none belongs."""
    one: int
    several: int
    """Split: two or more belong to it."""
    novel: int
    """Features of the wider one that belong to none."""
