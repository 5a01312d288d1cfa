"""What a comparison comes to: arms, contrasts with verdicts, cards, and everything to recompute them.

Frozen and validated; `Comparison.model_validate` accepts `compare.json`. Whoever has finished runs fills these in
(`compare.collect`); a page shows them. Knows no store, no file and no HTML.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from autointerp.compare.card import Card, Splitting
from autointerp.records import DictionarySpec, Record, Usage
from autointerp.report.data import CorpusFacts, ProtocolFacts, ReportWindow

FORMAT_VERSION = 1
By = Literal["dictionary", "explainer", "judge", "protocol"]
BYS: tuple[By, ...] = get_args(By)
Verdict = Literal["above", "below", "not_separable", "not_comparable"]
Kind = Literal["trained", "random", "control", "basis"]
"""What an arm is: `random` directions, a re-randomised or other `control`, a neuron `basis`."""
NoEstimate = Literal["no_overlap", "too_few_features", "too_few_pairs", "not_measured"]
"""Why there is no estimate: densities do not overlap, or fewer features, pairs or scores than it takes."""
Group = Literal["single token", "several tokens", "low entropy", "middle entropy", "high entropy"]
GROUPS: tuple[Group, ...] = get_args(Group)
PerFeature = tuple[float | None, ...]


class Estimate(Record):
    """A mean over features with its 95 % interval, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    """Features it is over."""
    undefined: NoEstimate | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.undefined is None):
            raise ValueError("an estimate has a value or a reason for lacking one, not both")
        return self


class Difference(Record):
    """A difference of means, a less b, with its 95 % interval, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, from the same bootstrap as the interval."""
    n_a: int
    n_b: int
    undefined: NoEstimate | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.undefined is None):
            raise ValueError("a difference has a value or a reason for lacking one, not both")
        return self


class Denominators(Record):
    """Every asked feature accounted for."""

    asked: int
    scored: int
    counted: int
    """Features in the means: those scored, and those whose explanation failed, as 0."""
    undefined: dict[str, int]
    failed: dict[str, int]
    skipped: dict[str, int]
    """By reason; `dead` is one."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        parts = (self.undefined, self.failed, self.skipped)
        if self.asked != self.scored + sum(sum(part.values()) for part in parts):
            raise ValueError(f"{self.asked} features asked, but the parts do not add up to it")
        return self


class FeaturePoints(Record):
    """The features in an arm's means, column by column, all of one length; enough to recompute every table."""

    index: tuple[int, ...]
    density: tuple[float, ...]
    value: tuple[float, ...]
    """The `counted` score."""
    lookup: PerFeature
    """The controls' counted scores on the same windows; None where there is none."""
    shuffled: PerFeature
    entropy_bits: PerFeature
    single_token: tuple[bool | None, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        lengths = {len(getattr(self, name)) for name in type(self).model_fields}
        if len(lengths) != 1:
            raise ValueError(f"columns of lengths {sorted(lengths)}")
        return self


class Arm(Record):
    """One side of contrasts: a dictionary of a run, under one protocol, explainer and judge."""

    key: str
    """Its name here, unique: the dictionary's id, and the run's or what it is compared by where that is not enough."""
    run: str
    """The run's folder, as named."""
    spec: DictionarySpec
    kind: Kind
    asked: bool
    """Named by the user; else a control that the same run holds, beside them."""
    protocol: str
    n_windows: int
    explainer: str
    judge: str
    denominators: Denominators
    standardised: Estimate
    """Over the densities that all asked arms share, strata weighted alike; `no_overlap` where they share none."""
    uniform: Estimate
    """Every feature counts the same."""
    firing_weighted: Estimate
    """Every feature counts by its density."""
    outside: int
    """Counted features outside the strata that `standardised` is over."""
    controls: dict[str, Estimate]
    """Uniform counted means of `lookup`, `bigram`, `position`, `constant` and `shuffled` on the same windows."""
    lift: Estimate
    """Mean over features of the score less look-up."""
    groups: dict[Group, Estimate]
    """Uniform means by the single-token flag and by tertile of token entropy."""
    beside_groups: dict[Group, dict[Literal["lookup", "shuffled", "lift"], Estimate]] = Field(default_factory=dict)
    """In the same groups: the two controls, and the score less look-up."""
    points: FeaturePoints
    usage: Usage
    """What explaining and scoring it cost."""


class StratumRow(Record):
    """Half a decade of density, clipped to the range that both arms have."""

    low: float
    high: float
    """Densities; the last stratum holds its upper end."""
    n_a: int
    n_b: int
    weight: float
    """Share of both arms' features inside the common support; 0 where either has too few."""
    mean_a: float | None
    mean_b: float | None


class Pairing(Record):
    """The paired difference, over features that both arms have, and what is left without a partner."""

    kind: Literal["matched", "same_feature"]
    """Mutual nearest neighbours by decoder cosine, or one dictionary's features scored two ways."""
    same_windows: bool
    """Whether both scores of a pair are on the same windows."""
    floor: float | None
    """Least decoder cosine of a matched pair."""
    n_matched_a: int
    """Features of a's dictionary with a partner in b's, scored or not; of one dictionary, those scored both ways."""
    n_matched_b: int
    median_cosine: float | None
    density_ratio: float | None
    """Geometric mean over those pairs of a's density over b's; the paired difference is not standardised."""
    difference: Difference
    """Mean of a less b over pairs with a score on both sides."""
    alike: Difference | None = None
    """The same over pairs whose densities are within half a decade; None for one dictionary's features."""
    p_permutation: float | None
    """Two-sided, signs of the pairs' differences flipped."""
    unmatched_a: Estimate | None = None
    """Uniform counted mean of the features without a partner; None for one dictionary's features."""
    unmatched_b: Estimate | None = None
    unmatched: Difference | None = None
    """Density-standardised, between the features without a partner."""


class FeatureSide(Record):
    """One feature of a pair."""

    index: Annotated[int, Field(ge=0)]
    score: float
    """Counted."""
    density: float
    explanation: str | None
    no_pattern: bool = False
    windows: tuple[ReportWindow, ...]
    """Strongest of those explained from, then some of those scored on."""


class FeaturePair(Record):
    """Two features that are one and the same, or nearest to each other, and how differently they scored."""

    a: FeatureSide
    b: FeatureSide
    cosine: float | None
    """Between decoder directions; None for one dictionary's feature scored two ways."""


class Contrast(Record):
    """Two arms: which is above, or why that cannot be said."""

    a: str
    b: str
    """Keys of the arms."""
    by: By
    planned: bool
    """Between asked arms, in the family that Holm's correction is over; else an asked arm beside a control."""
    verdict: Verdict
    sentence: str
    reason: NoEstimate | None = None
    """Why they are not comparable."""
    difference: float | None
    """a less b, density-standardised, of `counted`; the paired mean where both score the same features."""
    low: float | None
    high: float | None
    error: float | None
    """Standard error of the difference."""
    p: float | None
    """Two-sided, from the same bootstrap as the interval."""
    p_permutation: float | None
    """The second route: labels permuted within strata, or signs of paired differences flipped."""
    p_holm: float | None
    """`p` corrected over the contrasts of its family."""
    family: int
    """How many contrasts that are."""
    n_a: int
    n_b: int
    """Counted features."""
    n_inside_a: int
    n_inside_b: int
    """Of them, those inside the common support."""
    n_needed: int | None
    """Counted features of each arm to see a gap of the size found in four runs of five; None where it is 0."""
    mean_a: Estimate
    mean_b: Estimate
    """Standardised over the strata of this contrast."""
    strata: tuple[StratumRow, ...]
    adjusted: Difference
    """Standardised likewise, and inside the strata by the common slope of scores on log density."""
    uniform: Difference
    firing_weighted: Difference
    lift: Difference
    """Density-standardised difference of the scores less look-up."""
    groups: dict[Group, Difference]
    """Density-standardised difference within the single-token flag and tertiles of token entropy."""
    pairing: Pairing | None
    no_pairing: str | None = None
    """Why features could not be paired."""
    notes: tuple[str, ...] = ()
    """What a careful reader has to know of it, in sentences."""
    differing: tuple[FeaturePair, ...] = ()
    """The pairs whose scores differ most, largest first."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.verdict == "not_comparable") != (self.reason is not None):
            raise ValueError("what is not comparable has a reason, and nothing else has")
        if (self.difference is None) != (self.reason is not None):
            raise ValueError("a difference is missing exactly where arms are not comparable")
        if (self.pairing is None) != (self.no_pairing is not None):
            raise ValueError("a contrast has a pairing or a reason for lacking one, not both")
        return self


class Method(Record):
    """The constants behind the figures."""

    n_bootstrap: int
    """Resamples of features behind a contrast's headline."""
    n_beside: int
    """And behind every other figure."""
    n_permutation: int
    alpha: float
    least_in_stratum: int
    least_features: int
    strata_per_decade: int
    cosine_floor: float


class Comparison(Record):
    """Everything `compare.json` holds."""

    format_version: Literal[1] = 1
    created: str
    """Date as text."""
    by: By
    verdict: Verdict
    """Of the first contrast."""
    mismatches: tuple[str, ...] = ()
    """How the runs differ in what should be alike, where that was allowed; then every table is marked."""
    arms: tuple[Arm, ...]
    """Asked arms first, in the order given."""
    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1)]
    """Planned ones first."""
    cards: tuple[Card, ...]
    """One a dictionary, in the order of the arms."""
    splittings: tuple[Splitting, ...] = ()
    entropy_edges: tuple[float, float] | None
    """Bits between the tertiles, over the features of all asked arms."""
    corpus: CorpusFacts
    protocol: ProtocolFacts
    """Of the first arm."""
    model: str
    seed: int
    method: Method
    versions: dict[str, str]
    commands: tuple[str, ...]
    """What to type to make this again from the runs' folders, offline."""
    usage: Usage
    """Of all arms together."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = {arm.key for arm in self.arms}
        if len(known) != len(self.arms):
            raise ValueError("two arms have one key")
        named = {k for c in self.contrasts for k in (c.a, c.b)} | {card.arm for card in self.cards}
        if not named <= known:
            raise ValueError(f"no arm is called {', '.join(sorted(named - known))}")
        if self.verdict != self.contrasts[0].verdict:
            raise ValueError("the verdict is that of the first contrast")
        return self


class PlannedContrast(Record):
    """What one contrast needs, from a pilot's variance."""

    a: str
    b: str
    sd_a: float
    """Standard deviation between counted scores."""
    sd_b: float
    n_pilot_a: int
    n_pilot_b: int
    n_needed: int | None
    """Counted features of each arm; None where densities do not overlap."""
    separable_now: float | None
    """The gap that the pilot's own features would show with that power."""
    sentence: str


class Plan(Record):
    """How many features a comparison needs, what they cost, and which contrasts are planned."""

    gap: float
    power: float
    alpha: float
    """Of one contrast, corrected for the number of them."""
    contrasts: tuple[PlannedContrast, ...]
    n_features: int | None
    """Features to ask for in each dictionary: the most any contrast needs, over the share of features that counted."""
    features_alive: dict[str, int]
    """What each arm's dictionary has."""
    cost: Usage
    """Of all planned arms, scaled from the pilot."""
    dollars: float | None
    """Its price in US dollars; None where that is not known."""
    seconds: float | None
    """Of all planned arms, scaled from the pilot's run; None where it does not say."""
