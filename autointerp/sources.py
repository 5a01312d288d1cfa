"""Where a run's features come from: a finished harvest, or bare records. One face for both.

A run's folder and configuration flow in; for each dictionary a source of feature records and statistics flows out.
Knows no LLM and no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Int

from autointerp.bare import BareReader, BareRecord, BareRows, make_chooser
from autointerp.config import RunConfig
from autointerp.errors import UsageError
from autointerp.examples import Chooser
from autointerp.harvest.events import Harvest
from autointerp.interop.bare_records import parse_json_lines
from autointerp.matched import PREFIX, Side, draw_matched
from autointerp.metrics import DictionaryMetrics
from autointerp.outside import Outside
from autointerp.plans import RecordMaker
from autointerp.provenance import digest_bytes
from autointerp.records import DictionarySpec, Example, FeatureFacts, FeatureRecord, FeatureStats
from autointerp.selection import select_features
from autointerp.splits import CorpusIndex
from autointerp.store.folder import RunFolder
from autointerp.store.kept_records import read_records
from autointerp.strata import Design, Events


class FeatureSource(Protocol):
    """The features of one dictionary."""

    spec: DictionarySpec
    corpus_digest: str
    metrics: DictionaryMetrics | None
    """What the dictionary does over the whole harvest; None where only single features' text is known."""

    @property
    def n_active(self) -> Int[np.ndarray, " d_sae"]:
        """Tokens on which each feature is active."""
        ...

    @property
    def n_tokens(self) -> int: ...

    @property
    def l0(self) -> float | None:
        """Mean number of active features a token; None where only single features' text is known."""
        ...

    def select(self, spec: str, seed: int) -> list[int]:
        """The features that `all`, `0-999,7`, `@file` or `sample:N` name, ascending."""
        ...

    def maker(self, design: Design, seed: int) -> RecordMaker:
        """What chooses a feature's examples."""
        ...

    def feature_stats(self, index: int) -> FeatureStats: ...

    def feature_facts(self, index: int) -> FeatureFacts: ...


class HarvestSource:
    """Features of a harvested dictionary."""

    def __init__(
        self,
        harvest: Harvest,
        index: Callable[[Harvest], CorpusIndex],
        matched: Callable[[int, int], Mapping[str, list[int]]] | None = None,
    ) -> None:
        """`matched` draws the run's pairs of features: of a number and a seed, by dictionary."""
        self.spec = harvest.spec
        self._matched = matched
        self._harvest = harvest
        self._index = index
        self.feature_stats = harvest.feature_stats
        self.feature_facts = harvest.feature_facts
        self.n_tokens = harvest.n_tokens
        self.metrics: DictionaryMetrics | None = harvest.metrics
        self.corpus_digest = harvest.corpus.digest

    @property
    def n_active(self) -> Int[np.ndarray, " d_sae"]:
        """As harvested."""
        return np.asarray(self._harvest.stats.n_active)

    @property
    def l0(self) -> float | None:
        """Over the whole harvest."""
        return float(self.n_active.sum() / self.n_tokens)

    def select(self, spec: str, seed: int) -> list[int]:
        """As `selection.select_features`, or with `matched:N` as `matched.draw_matched`."""
        if spec.startswith(PREFIX):
            if self._matched is None:
                raise UsageError(f"{spec} draws pairs of several dictionaries of one run, and here is one alone")
            return self._matched(int(spec.removeprefix(PREFIX)), seed)[self.spec.id]
        return select_features(spec, self.n_active, self.spec.id, seed)

    def maker(self, design: Design, seed: int) -> RecordMaker:
        """Chooses windows of the corpus."""
        index, corpus = self._index(self._harvest), self._harvest.corpus
        outside = None
        if corpus.whole is not None and corpus.kept is not None:
            outside = Outside(index, corpus.whole, corpus.kept, lambda i: Events(*self._harvest.strongest(i)))
        return Chooser(self._harvest, index, self.spec.id, design, outside)


class BareSource:
    """Features of bare records."""

    l0: float | None = None
    metrics: DictionaryMetrics | None = None

    def __init__(self, spec: DictionarySpec, records: Sequence[BareRecord]) -> None:
        self.spec = spec
        self._records: dict[int, list[BareRecord]] = {}
        for record in records:
            self._records.setdefault(record.feature, []).append(record)
        self.n_tokens = sum(len(record.tokens) for record in records)
        self.corpus_digest = spec.weights_digest

    @cached_property
    def n_active(self) -> Int[np.ndarray, " d_sae"]:
        """Tokens above zero in each feature's own records; 0 for numbers that no record names."""
        counts = np.zeros(max(self._records) + 1, dtype=np.int64)
        for index, records in self._records.items():
            counts[index] = sum(activation > 0 for record in records for activation in record.activations)
        return counts

    def select(self, spec: str, seed: int) -> list[int]:
        """As `selection.select_features`, of the features that records name."""
        if spec == "all":
            return sorted(self._records)
        if spec.startswith(PREFIX):
            raise UsageError(f"bare records hold no decoder directions, so {spec} cannot be drawn; use sample:N or all")
        return [i for i in select_features(spec, self.n_active, self.spec.id, seed) if i in self._records]

    def maker(self, design: Design, seed: int) -> RecordMaker:
        """Chooses windows of the feature's own records."""
        return _OwnRecords(self._records, self.spec.id, design, seed)

    def feature_stats(self, index: int) -> FeatureStats:
        """Over the feature's own records."""
        return BareReader(BareRows(self._records[index]), self._records[index]).feature_stats(index)

    def feature_facts(self, index: int) -> FeatureFacts:
        """Nothing: there are no weights."""
        return FeatureFacts()


class _OwnRecords:
    """A chooser per feature, over that feature's own records."""

    def __init__(self, records: Mapping[int, Sequence[BareRecord]], dictionary: str, design: Design, seed: int) -> None:
        self._chooser: Callable[[int], Chooser] = lambda i: make_chooser(records[i], dictionary, design, seed)

    def feature_record(self, feature: int) -> FeatureRecord:
        return self._chooser(feature).feature_record(feature)

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        return self._chooser(feature).guided_examples(feature, explanation, n)


def bare_records_of(records: Sequence[FeatureRecord]) -> list[BareRecord]:
    """The windows of feature records as bare records, in corpus order."""
    bare = []
    for record in records:
        s = record.splits
        examples = {(e.record.row, e.record.start): e.record for e in (*s.explain, *s.select, *s.calibrate, *s.score)}
        for _, window in sorted(examples.items()):
            bare.append(
                BareRecord(
                    feature=record.feature.index,
                    tokens=window.tokens,
                    activations=window.activations,
                    document=window.document,
                )
            )
    return bare


def open_sources(folder: RunFolder, config: RunConfig) -> list[FeatureSource]:
    """The run's dictionaries in their order."""
    if config.records is not None:
        text = read_records(folder)
        spec = DictionarySpec(
            id=config.dictionary[0].id,
            role="trained",
            model="",
            hook_point="",
            d_in=0,
            d_sae=0,
            kind="bare records",
            source=config.records.name,
            weights_digest=digest_bytes([text.encode()]),
        )
        return [BareSource(spec, parse_json_lines(text, str(folder.records)))]
    opened: dict[bytes, CorpusIndex] = {}

    def index(harvest: Harvest) -> CorpusIndex:
        masked = harvest.masked_slots
        key = masked.tobytes()
        if key not in opened:
            opened[key] = CorpusIndex(harvest.corpus, config.seed, masked)
        return opened[key]

    harvests = [Harvest(folder.harvest, d.id) for d in config.dictionary]
    matched = cache(lambda n, seed: draw_matched([_side(harvest) for harvest in harvests], n, seed))
    return [HarvestSource(harvest, index, matched) for harvest in harvests]


def _side(harvest: Harvest) -> Side:
    spec = harvest.spec
    trained, directions = spec.role == "trained", harvest.facts.direction
    return Side(spec.id, trained, spec.model, spec.hook_point, directions, np.asarray(harvest.stats.n_active))
