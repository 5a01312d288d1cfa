"""From a feature's events to its `FeatureRecord`: examples of every part and the look-up baseline's token table.

A corpus index and a `FeatureReader` flow in; complete records flow out, fixed before any explanation exists. Every
draw is seeded by (run seed, dictionary, feature, step). Knows no LLM and no torch.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from autointerp.format import to_levels
from autointerp.provenance import generator
from autointerp.records import (
    ActivationRecord,
    Example,
    ExampleSplit,
    FeatureFacts,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    TokenTable,
)
from autointerp.splits import PARTS, CorpusIndex, Windows
from autointerp.strata import MOST_NEIGHBOURS, Choice, Design, Events, Picker

MOST_PAIRS = 256


class FeatureReader(Protocol):
    """Where a dictionary's events, statistics and facts are read; `harvest.events.Harvest` is one."""

    def read(self, feature: int) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Slots, ascending, and values."""
        ...

    def level_rule(self, feature: int) -> tuple[Float[np.ndarray, "9"], bool]:
        """The nine level edges, and whether they go by rank."""
        ...

    def neighbours(self, feature: int) -> Sequence[tuple[int, float]]:
        """Features with near decoder directions and their cosines, nearest first."""
        ...

    def feature_stats(self, feature: int) -> FeatureStats: ...

    def feature_facts(self, feature: int) -> FeatureFacts: ...


class Chooser:
    """Makes the records of one dictionary's features under one design."""

    def __init__(self, reader: FeatureReader, index: CorpusIndex, dictionary: str, design: Design) -> None:
        self.reader = reader
        self.index = index
        self.dictionary = dictionary
        self.design = design

    def feature_record(self, feature: int) -> FeatureRecord:
        """Everything that explaining and scoring one feature needs; a part without events stays empty."""
        events = Events(*self.reader.read(feature))
        edges, by_rank = self.reader.level_rule(feature)
        levels = to_levels(events.value, edges)
        picker = Picker(
            index=self.index,
            design=self.design,
            events=events,
            levels=levels,
            neighbours=lambda: self._neighbour_events(feature),
            rng=lambda step: generator(self.index.seed, self.dictionary, feature, self.design.name, step),
        )
        explain = picker.explain_windows()
        select = picker.scored_windows("select", explain, 2)
        score = picker.scored_windows("score", explain, 1)
        return FeatureRecord(
            feature=FeatureId(dictionary=self.dictionary, index=feature),
            design=self.design.name,
            level_rule="rank" if by_rank else "decile",
            level_edges=tuple(edges.tolist()),
            facts=self.reader.feature_facts(feature),
            stats=self.reader.feature_stats(feature),
            splits=ExampleSplit(
                explain=self._examples(explain, events, levels),
                select=self._examples(select, events, levels),
                calibrate=(),
                score=self._examples(score, events, levels),
                seed=self.index.seed,
            ),
            token_table=self._token_table(events, levels, [*select, *score]),
        )

    def _neighbour_events(self, feature: int) -> list[Events]:
        near = self.reader.neighbours(feature)[:MOST_NEIGHBOURS]
        return [Events(*self.reader.read(other)) for other, cosine in near if cosine > 0]

    def _examples(
        self, choices: Sequence[Choice], events: Events, levels: Int[np.ndarray, " n"]
    ) -> tuple[Example, ...]:
        """Choices as examples with complete activations."""
        corpus, words = self.index.corpus, self.index.corpus.vocabulary
        examples: list[Example] = []
        for choice in choices:
            for i in range(len(choice.probability)):
                row, start, length = (int(field[i]) for field in choice.windows)
                first = row * corpus.context + start
                low, high = np.searchsorted(events.slot, (first, first + length))
                values, window_levels = np.zeros(length), np.zeros(length, dtype=np.int64)
                places = events.slot[low:high] - first
                values[places], window_levels[places] = events.value[low:high], levels[low:high]
                examples.append(
                    Example(
                        record=ActivationRecord(
                            tokens=tuple(words[t] for t in self.index.tokens[first : first + length].tolist()),
                            activations=tuple(values.tolist()),
                            document=corpus.sources[int(corpus.source[row])],
                            start=start,
                            row=row,
                        ),
                        levels=tuple(window_levels.tolist()),
                        stratum=choice.stratum,
                        decile=int(choice.decile[i]) if choice.decile is not None else None,
                        probability=float(choice.probability[i]),
                        verified=choice.decile is None and low == high,
                    )
                )
        return tuple(examples)

    def _token_table(self, events: Events, levels: Int[np.ndarray, " n"], scored: Sequence[Choice]) -> TokenTable:
        """What all text of the explain part says of the feature, for its active tokens and the scored windows' ones."""
        index, words, size = self.index, self.index.corpus.vocabulary, self.index.d_vocab
        explain = index.row_part[events.slot // index.corpus.context] == PARTS.index("explain")
        slot, level = events.slot[explain], levels[explain]
        sums = np.bincount(index.tokens[slot], weights=level, minlength=size).astype(np.int64)
        wanted = np.union1d(np.flatnonzero(sums), self._window_tokens([choice.windows for choice in scored]))
        with_previous = slot % index.corpus.context > index.corpus.first
        keys, inverse = np.unique(index.pair_keys(slot[with_previous]), return_inverse=True)
        pair_sums = np.bincount(inverse, weights=level[with_previous], minlength=len(keys)).astype(np.int64)
        heaviest = np.argsort(-pair_sums, kind="stable")[:MOST_PAIRS]
        counts = index.explain_pairs
        return TokenTable(
            tokens=tuple(words[t] for t in wanted.tolist()),
            counts=tuple(index.explain_counts[wanted].tolist()),
            level_sums=tuple(sums[wanted].tolist()),
            pairs=tuple((words[k // size], words[k % size]) for k in keys[heaviest].tolist()),
            pair_counts=tuple(counts.times[np.searchsorted(counts.key, keys[heaviest])].tolist()),
            pair_level_sums=tuple(pair_sums[heaviest].tolist()),
            mean_level=float(level.sum() / max(index.explain_counts.sum(), 1)),
        )

    def _window_tokens(self, windows: Sequence[Windows]) -> Int[np.ndarray, " n"]:
        """The different tokens of windows."""
        pieces = [
            self.index.tokens[first : first + length]
            for chosen in windows
            for first, length in zip(chosen.slots(self.index.corpus.context), chosen.length, strict=True)
        ]
        return np.unique(np.concatenate(pieces)) if pieces else np.zeros(0, dtype=np.int64)
