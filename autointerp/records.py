"""The nouns: frozen records that cross disk, HTTP and LLM borders, with their units and shapes.

Plain validated data, no I/O and no torch. Bulk activations are arrays in shards (`harvest.events`), never these.
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

DictionaryId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Role = Literal["trained", "control", "basis"]
Part = Literal["explain", "select", "calibrate", "score"]
Stratum = Literal["top", "decile", "uniform", "hard-token", "hard-text", "hard-neighbour", "guided", "record"]
FailedStage = Literal["harvest", "examples", "explain", "select", "simulate", "score", "refine", "shuffled"]
Level = Annotated[int, Field(ge=0, le=10)]

_set = object.__setattr__
HARD_STRATA: tuple[Stratum, ...] = ("hard-token", "hard-text", "hard-neighbour")


class Record(BaseModel):
    """Complete at birth, never changed, and without NaN or unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def trusted(cls, **values: object) -> Self:
        """A record of all its fields, in their order and types, as our own arithmetic made them: nothing is looked at.

        Several times faster than validation, and than `model_construct`, which looks up every field.
        """
        record = cls.__new__(cls)
        _set(record, "__dict__", values)
        _set(record, "__pydantic_fields_set__", set(values))
        _set(record, "__pydantic_extra__", None)
        _set(record, "__pydantic_private__", None)
        return record


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
    place: int | None = None
    """Position of the first token in its document, where a row holds several; else it is `start`."""
    row: int = 0
    """Row of the corpus the window was cut from (its number among bare records).

    Where a sample of the corpus is kept, its documents are the first rows, and the whole corpus's rows follow.
    """

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if not self.tokens or len(self.tokens) != len(self.activations):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.activations)} activations")
        return self


class Window(NamedTuple):
    """What a simulator sees of an example: bare tokens, and which of them is asked for."""

    tokens: tuple[str, ...]
    """Escaped token texts, in order."""
    target: int | None = None
    """Place of the one token whose level is asked for; None asks for every token's."""


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
    """True for a negative whose scored tokens were checked against the stored activations and hold none."""
    target: int | None = None
    """Place of the one token that is scored; None where all are."""
    block: Annotated[int, Field(ge=0)] = 0
    """Which of the design's nested blocks it belongs to; a score on fewer windows uses the first ones."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.levels) != len(self.record.tokens):
            raise ValueError(f"{len(self.levels)} levels for {len(self.record.tokens)} tokens")
        if self.target is not None and not 0 <= self.target < len(self.record.tokens):
            raise ValueError(f"target {self.target} of {len(self.record.tokens)} tokens")
        return self

    @property
    def window(self) -> Window:
        """What a simulator sees of it."""
        return Window(self.record.tokens, self.target)

    @property
    def scored_levels(self) -> tuple[Level, ...]:
        """True levels of the scored tokens: the target's alone, or all."""
        return self.levels if self.target is None else (self.levels[self.target],)

    @property
    def scored_activations(self) -> tuple[float, ...]:
        """Raw activations of the scored tokens."""
        return self.record.activations if self.target is None else (self.record.activations[self.target],)


class ExampleSplit(Record):
    """Examples by part; parts hold disjoint sources."""

    explain: tuple[Example, ...]
    select: tuple[Example, ...]
    calibrate: tuple[Example, ...]
    score: tuple[Example, ...]
    seed: int


class TokenTable(Record):
    """What all text of the explain part says of one feature, token by token: the look-up baseline's whole knowledge.

    Holds every token on which the feature is active there, every token of the later parts' windows, the heaviest pairs
    of neighbouring tokens, and every pair that ends in a scored token.
    """

    tokens: tuple[str, ...]
    counts: tuple[int, ...]
    """Occurrences of each token in the explain part (0: never seen there); one per token."""
    level_sums: tuple[int, ...]
    """Sum of levels over those occurrences; one per token."""
    pairs: tuple[tuple[str, str], ...]
    """(previous token, token), heaviest first; those of no weight are pairs of the scored windows."""
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


class PositionTable(Record):
    """What the place in the text alone says of one feature: the position-only control's whole knowledge."""

    starts: tuple[int, ...]
    """First place of each bin, ascending; places count from the start of the document, BOS included."""
    levels: tuple[Level, ...]
    """Mean level over the bin's places in the explain part, times a factor that makes the highest bin 10."""


class TokenProfile(Record):
    """How a feature's activation is spread over token ids, over the whole harvest."""

    entropy_bits: Annotated[float, Field(ge=0)]
    """H = -sum p log2 p, p a token id's share of the summed activation (Heap et al. 2025)."""
    single_token: bool
    """The strongest places of the 20 strongest documents all hold the same token (Bricken et al. 2023)."""
    n_distinct: int
    """Different token ids on which it is active."""


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
    position_table: PositionTable | None = None
    token_profile: TokenProfile | None = None
    """None for a dead feature."""


class Usage(Record):
    """What LLM calls cost."""

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return self._with(other, 1)

    def __sub__(self, other: "Usage") -> "Usage":
        return self._with(other, -1)

    def _with(self, other: "Usage", sign: int) -> "Usage":
        return Usage(
            calls=self.calls + sign * other.calls,
            input_tokens=self.input_tokens + sign * other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + sign * other.cached_input_tokens,
            output_tokens=self.output_tokens + sign * other.output_tokens,
        )


class Refinement(Record):
    """What one round of showing an explanation its errors on the select part came to."""

    before: str
    """The explanation as it was."""
    kept: bool
    """Whether the revision was better on the half of the select part whose errors it was not made from."""
    select_before: float | None
    """Spearman on that half; None where undefined."""
    select_after: float | None
    usage: Usage = Usage()
    """What asking for the revision and trying it on the select part cost."""


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
    refinement: Refinement | None = None
    """None where no revision was asked for, or none came."""
    usage: Usage = Usage()


class Simulation(Record):
    """Predicted levels for given examples, from an explanation alone; aligned with them by index."""

    levels: tuple[tuple[Level, ...] | None, ...]
    """Per window one level per token, or its target's alone; None where the answer failed."""
    expected: tuple[tuple[float, ...] | None, ...] | None = None
    """Expectations over the answer's distribution, 0..10, where the endpoint gives one."""
    failures: tuple[tuple[int, str], ...] = ()
    """(example, reason) for each failed example."""
    legal_mass: float | None = None
    """Mean probability that the endpoint put on legal answers, where known."""
    examples: tuple[Example, ...] = ()
    """The windows themselves, where the feature's record does not hold them."""
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
    usage: Usage = Usage()
    """What was paid all the same."""


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
