"""Records without a model: tokens with activations that someone measured elsewhere, made to look like a harvest.

Bare records of one feature flow in; the token rows and the `FeatureReader` that examples are chosen through flow out.
Knows no file format, no model and no dictionary.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from autointerp.examples import Chooser
from autointerp.format import MIN_DISTINCT_FOR_DECILES, level_edges, to_levels, weighted_quantiles
from autointerp.records import (
    ActivationRecord,
    Example,
    ExampleSplit,
    FeatureFacts,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    Record,
)
from autointerp.splits import CorpusIndex
from autointerp.strata import Design

N_BINS = 24
MOST_WIDTH = 64


class BareRecord(Record):
    """One record as it was given."""

    feature: Annotated[int, Field(ge=0)]
    tokens: tuple[str, ...]
    """Escaped token texts; length n_tok, at least one."""
    activations: tuple[float, ...]
    """Raw units, length n_tok; zero and below count as silent."""
    document: str | None = None
    """The split key; a record without one is a document of its own."""


class BareRows:
    """The records of one feature as token rows."""

    def __init__(self, records: Sequence[BareRecord]) -> None:
        known: dict[str, int] = {}
        ids = [[known.setdefault(token, len(known)) for token in record.tokens] for record in records]
        self.vocabulary: Sequence[str] = tuple(known)
        self.context = max(map(len, ids))
        self.length: Int[np.ndarray, " n_row"] = np.array([len(row) for row in ids])
        self.tokens: Int[np.ndarray, "n_row context"] = np.zeros((len(ids), self.context), dtype=np.int64)
        for row, values in zip(self.tokens, ids, strict=True):
            row[: len(values)] = values
        names = [r.document if r.document is not None else f"record {i}" for i, r in enumerate(records)]
        self.sources: Sequence[str] = tuple(dict.fromkeys(names))
        number = {name: i for i, name in enumerate(self.sources)}
        self.source: Int[np.ndarray, " n_row"] = np.array([number[name] for name in names])
        self.first = 0
        self.start: Int[np.ndarray, " n_row"] = np.arange(len(ids)) * self.context


class BareReader:
    """One feature's events in its own records; a `FeatureReader`."""

    def __init__(self, rows: BareRows, records: Sequence[BareRecord]) -> None:
        dense = np.zeros(rows.tokens.shape)
        for row, record in zip(dense, records, strict=True):
            row[: len(record.activations)] = record.activations
        flat = np.maximum(dense.reshape(-1), 0.0)
        self._slot = np.flatnonzero(flat)
        self._value = flat[self._slot]
        self._n_tokens = int(rows.length.sum())

    def read(self, feature: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Slots and values of the activations above zero."""
        return self._slot, self._value

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """Level edges over all of the feature's records."""
        distinct, counts = np.unique(self._value, return_counts=True)
        return level_edges(distinct, counts), len(distinct) < MIN_DISTINCT_FOR_DECILES

    def neighbours(self, feature: int) -> Sequence[tuple[int, float]]:
        """None: records know no other feature."""
        return ()

    def feature_stats(self, feature: int) -> FeatureStats:
        """Statistics over the records alone."""
        if not len(self._value):
            return FeatureStats(
                n_tokens=self._n_tokens, n_active=0, max=0.0, mean_active=0.0, deciles=(), histogram=(0,) * N_BINS
            )
        distinct, counts = np.unique(self._value, return_counts=True)
        return FeatureStats(
            n_tokens=self._n_tokens,
            n_active=len(self._value),
            max=float(distinct[-1]),
            mean_active=float(self._value.mean()),
            deciles=tuple(weighted_quantiles(distinct, counts, np.arange(1, 10) / 10).tolist()),
            histogram=tuple(np.histogram(self._value, bins=N_BINS, range=(0.0, distinct[-1]))[0].tolist()),
        )

    def feature_facts(self, feature: int) -> FeatureFacts:
        """Nothing: there are no weights."""
        return FeatureFacts()


def make_scored_record(records: Sequence[BareRecord]) -> FeatureRecord:
    """Bare records of one feature as nothing but score windows, for an explanation that was not made from them.

    A record longer than 64 tokens is cut into windows of that width.
    """
    rows = BareRows(records)
    reader = BareReader(rows, records)
    edges, by_rank = reader.level_rule(0)
    examples = []
    for row, record in enumerate(records):
        for start in range(0, len(record.tokens), MOST_WIDTH):
            values = tuple(max(value, 0.0) for value in record.activations[start : start + MOST_WIDTH])
            window = ActivationRecord(
                tokens=record.tokens[start : start + MOST_WIDTH],
                activations=values,
                document=rows.sources[int(rows.source[row])],
                start=start,
                row=row,
            )
            levels = tuple(to_levels(np.array(values), edges).tolist())
            examples.append(Example(record=window, levels=levels, stratum="record", probability=1.0, verified=False))
    return FeatureRecord(
        feature=FeatureId(dictionary="records", index=records[0].feature),
        design="records",
        level_rule="rank" if by_rank else "decile",
        level_edges=tuple(edges.tolist()),
        stats=reader.feature_stats(0),
        splits=ExampleSplit(explain=(), select=(), calibrate=(), score=tuple(examples), seed=0),
    )


def make_chooser(records: Sequence[BareRecord], dictionary: str, design: Design, seed: int) -> Chooser:
    """Chooses windows of bare records, all of one feature: parts by document, every stratum that they can fill."""
    rows = BareRows(records)
    return Chooser(BareReader(rows, records), CorpusIndex(rows, seed), dictionary, design)
