"""The nouns: frozen records that cross disk, HTTP and LLM borders, with their units and shapes.

Plain validated data, no I/O and no torch. Bulk activations are arrays in shards (`harvest.events`), never these.
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

DictionaryId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Role = Literal["trained", "control", "basis"]
Part = Literal["explain", "select", "calibrate", "score"]
Stratum = Literal["top", "decile", "uniform", "hard-token", "hard-text", "hard-neighbour", "record"]
UndefinedReason = Literal[
    "no_pattern",
    "constant_truth",
    "constant_prediction",
    "too_few_windows",
    "too_many_failures",
    "no_table",
    "no_other_explanation",
]
FailedStage = Literal["harvest", "examples", "explain", "select", "simulate", "score", "refine", "shuffled"]
Level = Annotated[int, Field(ge=0, le=10)]

HARD_STRATA: tuple[Stratum, ...] = ("hard-token", "hard-text", "hard-neighbour")


class Record(BaseModel):
    """Complete at birth, never changed, and without NaN or unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DictionarySpec(Record):
    """One dictionary of a run: identifies weights, not a path."""

    id: DictionaryId
    role: Role
    model: str
    hook_point: str
    d_in: int
    d_sae: int
    """Number of features."""
    kind: str
    """Architecture and encoding in words, such as `topk k=16`."""
    source: str
    """What the user named: a path or `neurons@HOOK`."""
    weights_digest: str
    rerandomise_seed: int | None = None
    """Seed from which the model under this control was redrawn."""


class FeatureId(Record):
    """The key everywhere; prints as `id/index`."""

    dictionary: DictionaryId
    index: Annotated[int, Field(ge=0)]

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"


class ActivationRecord(Record):
    """A window of one document with one feature's activation on each token."""

    tokens: tuple[str, ...]
    """Token texts, escaped by `format.escape_bytes`; length n_tok, at least one."""
    activations: tuple[float, ...]
    """Raw activation per token, in the dictionary's own units; length n_tok."""
    document: str
    """Source id of the text: file, page or row; the split key."""
    start: int
    """Position of the first token in its row of the corpus (0 for a bare record)."""
    row: int = 0
    """Row of the corpus the window was cut from (its number among bare records)."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if not self.tokens or len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.activations)} activations")
        return self


class Example(Record):
    """An activation record and why it was kept."""

    record: ActivationRecord
    levels: tuple[Level, ...]
    """Activation levels 0..10 under the feature's level rule; length n_tok."""
    stratum: Stratum
    decile: Annotated[int, Field(ge=1, le=10)] | None = None
    """Decile of the chosen activation among the feature's activations in its part, 10 the strongest."""
    probability: Annotated[float, Field(gt=0, le=1)]
    """Inclusion probability: chosen windows over eligible ones of its stratum."""
    verified: bool
    """True where a negative window was checked against the stored activations and holds none."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.levels) != len(self.record.tokens):
            raise ValueError(f"{len(self.levels)} levels for {len(self.record.tokens)} tokens")
        return self


class ExampleSplit(Record):
    """Examples by part; parts hold disjoint sources."""

    explain: tuple[Example, ...]
    select: tuple[Example, ...]
    calibrate: tuple[Example, ...]
    score: tuple[Example, ...]
    seed: int


class TokenTable(Record):
    """What all text of the explain part says of one feature, token by token: the look-up baseline's whole knowledge.

    Holds every token on which the feature is active there and every token of the later parts' windows.
    """

    tokens: tuple[str, ...]
    counts: tuple[int, ...]
    """Occurrences of each token in the explain part (0: never seen there); one per token."""
    level_sums: tuple[int, ...]
    """Sum of levels over those occurrences; one per token."""
    pairs: tuple[tuple[str, str], ...]
    """(previous token, token) where the feature is active on the token, heaviest first."""
    pair_counts: tuple[int, ...]
    pair_level_sums: tuple[int, ...]
    mean_level: Annotated[float, Field(ge=0, le=10)]
    """Mean level over all tokens of the explain part."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if not len(self.tokens) == len(self.counts) == len(self.level_sums):
            raise ValueError("a token table has one count and one sum per token")
        if not len(self.pairs) == len(self.pair_counts) == len(self.pair_level_sums):
            raise ValueError("a token table has one count and one sum per pair")
        return self


class FeatureStats(Record):
    """Over the whole harvest: every unmasked token of the corpus."""

    n_tokens: int
    n_active: int
    max: float
    """Raw units; 0 for a dead feature."""
    mean_active: float
    """Mean over active tokens, raw units; 0 for a dead feature."""
    deciles: tuple[float, ...]
    """The nine inner decile edges of the non-zero activations; empty for a dead feature."""
    histogram: tuple[int, ...]
    """Counts of the non-zero activations in equal bins from 0 to max."""

    @property
    def density(self) -> float:
        """Share of tokens on which the feature is active."""
        return self.n_active / self.n_tokens if self.n_tokens else 0.0


class FeatureFacts(Record):
    """What the weights alone say of a feature."""

    decoder_norm: float | None = None
    encoder_decoder_cosine: float | None = None
    neighbours: tuple[tuple[int, float], ...] = ()
    """Features with the nearest decoder directions and their cosines, nearest first."""
    top_outputs: tuple[tuple[str, float], ...] = ()
    """Output tokens that the decoder direction raises most through the final norm, with their logit weights."""
    bottom_outputs: tuple[tuple[str, float], ...] = ()


class FeatureRecord(Record):
    """Everything that explaining and scoring one feature needs; fixed before any explanation exists."""

    feature: FeatureId
    design: str
    """Name of the sampling design that chose the windows."""
    level_rule: Literal["decile", "rank"]
    """`rank` where the feature has fewer than ten distinct non-zero activations (`format.level_edges`)."""
    level_edges: tuple[float, ...]
    """Nine edges; a level is 1 + the number of edges strictly below the activation."""
    facts: FeatureFacts = FeatureFacts()
    stats: FeatureStats
    splits: ExampleSplit
    token_table: TokenTable | None = None


class Usage(Record):
    """What LLM calls cost."""

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class Explanation(Record):
    """One text that claims to say what a feature responds to, or that it has no clear pattern."""

    feature: FeatureId
    text: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
    no_pattern: bool = False
    """The explainer found no clear pattern; a legal answer, recorded as such."""
    author: str
    """`provider:name` of the model, `lookup`, or `human`."""
    method: str
    """Name of the explainer."""
    prompt_digest: str | None = None
    examples_digest: str
    usage: Usage = Usage()


class Simulation(Record):
    """Predicted levels for given examples, from an explanation alone; aligned with them by index."""

    levels: tuple[tuple[Level, ...] | None, ...]
    """Per example one level per token; None where the answer failed."""
    expected: tuple[tuple[float, ...] | None, ...] | None = None
    """Expectations over the answer's distribution, 0..10, where the endpoint gives one."""
    failures: tuple[tuple[int, str], ...] = ()
    """(example, reason) for each failed example."""
    legal_mass: float | None = None
    """Mean probability that the endpoint put on legal answers, where known."""
    usage: Usage = Usage()


class Score(Record):
    """A statistic with its interval, or the reason why there is none."""

    metric: str
    value: float | None
    undefined: UndefinedReason | None = None
    low: float | None = None
    high: float | None = None
    """95 % interval over windows; None below 20 windows."""
    interval: Literal["jackknife", "bca"] | None = None
    n_windows: int
    null_threshold: float | None = None
    """95th percentile of the statistic with the predictions permuted over the windows."""
    ceiling: float | None = None
    """The statistic of the true levels themselves against the raw activations."""

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.undefined is None):
            raise ValueError("a score has a value or a reason for lacking one, not both")
        return self


class FeatureScore(Record):
    """An explanation's score on one feature with its controls beside it."""

    feature: FeatureId
    protocol: str
    simulator: str
    n_windows: int
    spearman: Score
    more: tuple[Score, ...]
    """Further statistics: Pearson, mean Spearman per window."""
    lookup: Score
    """The look-up baseline's Spearman on the same windows."""
    lift: Score
    """spearman - lookup with a paired interval."""
    shuffled: Score
    """Spearman of another feature's explanation through the same simulator."""
    shuffled_from: FeatureId | None = None
    per_stratum: dict[str, float | None]
    """Mean absolute level error by stratum, for `why`; None where the stratum is empty."""
    usage: Usage = Usage()


class Done(Record):
    """A step that ended with its result in the store."""

    kind: Literal["done"] = "done"


class Skipped(Record):
    """A step that had nothing to do, and why."""

    kind: Literal["skipped"] = "skipped"
    reason: str


class Failed(Record):
    """A step that failed: a row, not a hole."""

    kind: Literal["failed"] = "failed"
    stage: FailedStage
    reason: str
    message: str
    attempts: int = 1


Outcome = Done | Skipped | Failed


class RunManifest(Record):
    """What a run was made of: written at its start, closed at its end."""

    format_version: int
    config: dict[str, object]
    packages: dict[str, str]
    commit: str | None
    dictionaries: tuple[DictionarySpec, ...]
    corpus: str
    corpus_digest: str | None
    prompts: dict[str, str]
    """Digest of each prompt file by name."""
    seed: int
    n_tokens: int
    usage: Usage = Usage()
    started: str
    closed: str | None = None
    host: str = ""
    seconds: float | None = None


class Finding(NamedTuple):
    """One thing a checkup looked at."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""
