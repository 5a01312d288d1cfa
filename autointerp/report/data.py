"""What a report shows: the run, its dictionaries, and one entry per feature with its windows.

Frozen and validated; `ReportData.model_validate` accepts the same thing as plain JSON. Knows no store, no harvest and
no HTML. Whoever has a run fills these in; `html.render_report` turns them into one file.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autointerp.interpret.summary import DictionarySummary
from autointerp.records import (
    DictionaryId,
    FeatureFacts,
    Level,
    Record,
    Refinement,
    Role,
    Stratum,
    TokenProfile,
    Usage,
)
from autointerp.scores import FeatureScore
from autointerp.spending import StageSpending

State = Literal["scored", "undefined", "failed", "skipped"]


class CorpusFacts(Record):
    """The text under the harvest."""

    name: str
    digest: str | None = None
    n_tokens: int


class ProtocolFacts(Record):
    """How examples were chosen, shown, asked and scored."""

    name: str
    n_windows: int
    """Windows a feature."""
    most_windows: int | None = None
    """Where features with an open score get more; None where all get the same."""
    description: str = ""


class Control(Record):
    """A control the reader should look for, and whether this run has it."""

    name: str
    present: bool
    note: str = ""


class RunFacts(Record):
    """What a run was made of, in words fit to print."""

    title: str
    created: str
    """Date as text."""
    model: str
    corpus: CorpusFacts
    protocol: ProtocolFacts
    explainer: str
    simulator: str
    seed: int
    versions: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    controls: tuple[Control, ...] = ()
    findings: tuple[str, ...] = ()
    """Sentences, most important first."""
    usage: Usage | None = None
    spending: tuple[StageSpending, ...] = ()


class DictionaryEntry(Record):
    """One dictionary of the run."""

    id: DictionaryId
    role: Role
    kind: str
    hook_point: str
    d_sae: int
    n_alive: int | None = None
    n_tokens: int
    summary: DictionarySummary


class ReportWindow(Record):
    """One window of text with what the feature did and what the explanation predicted."""

    part: Literal["explain", "score", "guided"]
    stratum: Stratum
    decile: Annotated[int, Field(ge=1, le=10)] | None = None
    document: str
    row: int = 0
    """Row of the corpus the window was cut from, and the place of its first token there."""
    start: int = 0
    tokens: tuple[str, ...]
    """Texts escaped by `format`; length n_tok, at least one. Windows of a row hold the same text where they overlap."""
    levels: tuple[Level, ...]
    activations: tuple[float, ...]
    """Raw units."""
    target: int | None = None
    """Place of the one token that was asked for; None where all were."""
    simulated: tuple[Level, ...] | None = None
    """Predicted levels, the target's alone where there is one; None where not simulated or the answer failed."""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        lengths = {len(self.tokens), len(self.levels), len(self.activations)}
        if self.simulated is not None and self.target is None:
            lengths.add(len(self.simulated))
        if self.simulated is not None and self.target is not None and len(self.simulated) != 1:
            raise ValueError(f"{len(self.simulated)} levels for one target")
        if not self.tokens or len(lengths) != 1:
            raise ValueError(f"{len(self.tokens)} tokens in a window whose tracks have other lengths")
        return self


class FeatureEntry(Record):
    """One feature: what was said of it, how well that did, and the evidence."""

    dictionary: DictionaryId
    index: Annotated[int, Field(ge=0)]
    state: State
    reason: str | None = None
    """Why the state is not `scored`: the typed reason."""
    why: str | None = None
    """A short sentence on why the score is low or absent."""
    density: float
    n_active: int
    max: float
    explanation: str | None = None
    author: str | None = None
    no_pattern: bool = False
    refinement: Refinement | None = None
    score: FeatureScore | None = None
    """With its controls; None where scoring was not reached."""
    profile: TokenProfile | None = None
    histogram: tuple[int, ...] = ()
    """Counts of the non-zero activations in equal bins from 0 to `max`."""
    deciles: tuple[float, ...] = ()
    """Nine inner decile edges of the non-zero activations, or none."""
    facts: FeatureFacts = FeatureFacts()
    windows: tuple[ReportWindow, ...] = ()

    @property
    def value(self) -> float | None:
        """The headline."""
        return self.score.spearman.value if self.score else None

    @property
    def compared(self) -> FeatureScore | None:
        """The score that distributions and means are over: on the windows that every feature has."""
        return self.score and (self.score.first or self.score)

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.state == "scored") != (self.value is not None):
            raise ValueError(f"{self.dictionary}/{self.index} is {self.state} and its score {self.value}")
        if self.state != "scored" and not self.reason:
            raise ValueError(f"{self.dictionary}/{self.index} is {self.state} without a reason")
        return self


class ReportData(Record):
    """Everything one report shows."""

    run: RunFacts
    dictionaries: tuple[DictionaryEntry, ...]
    features: tuple[FeatureEntry, ...]

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = {dictionary.id for dictionary in self.dictionaries}
        for feature in self.features:
            if feature.dictionary not in known:
                raise ValueError(f"feature {feature.dictionary}/{feature.index} belongs to no dictionary of the report")
        return self
