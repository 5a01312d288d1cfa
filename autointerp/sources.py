"""Where a run's features come from: a finished harvest, or bare records. One face for both.

A run's folder and configuration flow in; for each dictionary a source of feature records and statistics flows out.
Knows no LLM and no torch.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Int

from autointerp.bare import BareReader, BareRecord, BareRows, make_feature_record
from autointerp.config import RunConfig
from autointerp.errors import UsageError
from autointerp.examples import Chooser
from autointerp.harvest.events import Corpus, Harvest
from autointerp.provenance import digest_file, generator
from autointerp.records import DictionarySpec, FeatureFacts, FeatureRecord, FeatureStats
from autointerp.splits import CorpusIndex
from autointerp.store.folder import RunFolder
from autointerp.strata import Design

MakeRecord = Callable[[int], FeatureRecord]


class FeatureSource(Protocol):
    """The features of one dictionary."""

    spec: DictionarySpec

    @property
    def features(self) -> Int[np.ndarray, " n"]:
        """Indices of all features, ascending."""
        ...

    @property
    def n_active(self) -> Int[np.ndarray, " n"]:
        """Tokens on which each of `features` is active."""
        ...

    @property
    def n_tokens(self) -> int: ...

    @property
    def l0(self) -> float | None:
        """Mean number of active features a token; None where only single features' text is known."""
        ...

    def maker(self, design: Design, seed: int) -> MakeRecord:
        """What chooses a feature's examples."""
        ...

    def feature_stats(self, index: int) -> FeatureStats: ...

    def feature_facts(self, index: int) -> FeatureFacts: ...


class HarvestSource:
    """Features of a harvested dictionary."""

    def __init__(self, harvest: Harvest, index: Callable[[], CorpusIndex]) -> None:
        self.spec = harvest.spec
        self._harvest = harvest
        self._index = index
        self.feature_stats = harvest.feature_stats
        self.feature_facts = harvest.feature_facts
        self.n_tokens = harvest.corpus.n_tokens

    @property
    def features(self) -> Int[np.ndarray, " n"]:
        """Every index of the dictionary."""
        return np.arange(self.spec.d_sae)

    @property
    def n_active(self) -> Int[np.ndarray, " n"]:
        """As harvested."""
        return np.asarray(self._harvest.stats.n_active)

    @property
    def l0(self) -> float | None:
        """Over the whole harvest."""
        return float(self.n_active.sum() / self.n_tokens)

    def maker(self, design: Design, seed: int) -> MakeRecord:
        """Chooses windows of the corpus."""
        return Chooser(self._harvest, self._index(), self.spec.id, design).feature_record


class BareSource:
    """Features of bare records."""

    l0: float | None = None

    def __init__(self, spec: DictionarySpec, records: Sequence[BareRecord]) -> None:
        self.spec = spec
        self._records: dict[int, list[BareRecord]] = {}
        for record in records:
            self._records.setdefault(record.feature, []).append(record)
        self.n_tokens = sum(len(record.tokens) for record in records)

    @cached_property
    def features(self) -> Int[np.ndarray, " n"]:
        """The features that records name."""
        return np.array(sorted(self._records))

    @cached_property
    def n_active(self) -> Int[np.ndarray, " n"]:
        """Tokens above zero in each feature's own records."""
        return np.array([sum(a > 0 for r in self._records[i] for a in r.activations) for i in self.features.tolist()])

    def maker(self, design: Design, seed: int) -> MakeRecord:
        """Chooses windows of the feature's own records."""
        return lambda index: make_feature_record(self._records[index], self.spec.id, index, design, seed)

    def feature_stats(self, index: int) -> FeatureStats:
        """Over the feature's own records."""
        return BareReader(BareRows(self._records[index]), self._records[index]).feature_stats(index)

    def feature_facts(self, index: int) -> FeatureFacts:
        """Nothing: there are no weights."""
        return FeatureFacts()


def open_sources(folder: RunFolder, config: RunConfig) -> list[FeatureSource]:
    """The run's dictionaries in their order."""
    if config.records is not None:
        spec = DictionarySpec(
            id=config.dictionary[0].id,
            role="trained",
            model="",
            hook_point="",
            d_in=0,
            d_sae=0,
            kind="bare records",
            source=config.records.name,
            weights_digest=digest_file(folder.records),
        )
        return [BareSource(spec, folder.read_records())]
    opened: list[CorpusIndex] = []

    def index() -> CorpusIndex:
        if not opened:
            opened.append(CorpusIndex(Corpus.open(folder.harvest), config.seed))
        return opened[0]

    return [HarvestSource(Harvest(folder.harvest, d.id), index) for d in config.dictionary]


def select_features(spec: str, source: FeatureSource, seed: int) -> list[int]:
    """The features that `all`, `0-999,7`, `@file` or `sample:N` name, ascending.

    A sample is systematic over live features in order of density, from a seeded start, so every density has its share.
    """
    if spec == "all":
        return [int(i) for i in source.features]
    if spec.startswith("sample:"):
        size = int(spec.removeprefix("sample:"))
        alive = np.flatnonzero(source.n_active)
        rng = generator(seed, source.spec.id, "sample")
        order = source.features[alive[np.lexsort((rng.permutation(len(alive)), source.n_active[alive]))]]
        if size >= len(order):
            return sorted(order.tolist())
        places = (np.arange(size) + rng.random()) * (len(order) / size)
        return sorted(order[places.astype(np.int64)].tolist())
    text = _read_feature_file(Path(spec[1:])) if spec.startswith("@") else spec
    known = set(source.features.tolist())
    chosen: set[int] = set()
    for item in re.split(r"[\s,]+", text.strip()):
        bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if not bounds:
            raise UsageError(f"features: {item!r} is neither a number nor a range such as 0-999")
        low, high = int(bounds[1]), int(bounds[2] or bounds[1])
        if low > high or low not in known or high not in known:
            raise UsageError(
                f"features: {item} does not fit {source.spec.id}, which has {min(known)} to {max(known)}"
            )
        chosen.update(known.intersection(range(low, high + 1)))
    return sorted(chosen)


def _read_feature_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the feature list {path}: {error}") from None
