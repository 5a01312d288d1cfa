"""From a feature's events to its `FeatureRecord`: examples of every part and the look-up baseline's token table.

A corpus index and a `FeatureReader` flow in; complete records flow out, fixed before any explanation exists. Every
draw is seeded by (run seed, dictionary, feature, step). Knows no LLM and no torch.
"""

from collections.abc import Sequence
from functools import lru_cache
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
    PositionTable,
    TokenProfile,
    TokenTable,
)
from autointerp.splits import CorpusIndex
from autointerp.strata import MOST_NEIGHBOURS, Blocked, Choice, Design, Events, Picker

MOST_PAIRS = 256
MOST_SOURCES = 2**16
"""Names of sources kept at hand."""
SINGLE_TOKEN_ROWS = 20
"""Documents whose strongest places decide on the single-token flag."""


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
        self._source = lru_cache(MOST_SOURCES)(index.corpus.sources.__getitem__)

    def feature_record(self, feature: int) -> FeatureRecord:
        """Everything that explaining and scoring one feature needs; a part without events stays empty."""
        events = Events(*self.reader.read(feature))
        edges, by_rank = self.reader.level_rule(feature)
        levels = to_levels(events.value, edges)
        picker = self._picker(feature, events, levels)
        explain = picker.explain_windows()
        select = picker.scored_windows("select", explain)
        score = picker.scored_windows("score", explain)
        shown = [Blocked(choice, np.zeros(len(choice.slot), dtype=np.int64)) for choice in explain]
        return FeatureRecord(
            feature=FeatureId(dictionary=self.dictionary, index=feature),
            design=self.design.name,
            level_rule="rank" if by_rank else "decile",
            level_edges=tuple(edges.tolist()),
            facts=self.reader.feature_facts(feature),
            stats=self.reader.feature_stats(feature),
            splits=ExampleSplit(
                explain=tuple(self._examples(shown, events, levels, targets=False)),
                select=self._asked(feature, "select", select, events, levels),
                calibrate=(),
                score=self._asked(feature, "score", score, events, levels),
                seed=self.index.seed,
            ),
            token_table=self._token_table(events, levels, [b.choice for b in (*select, *score)]),
            position_table=self._position_table(events, levels),
            token_profile=self._token_profile(events),
        )

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        """At most n silent windows of the score part that the words of an explanation point at."""
        events = Events(*self.reader.read(feature))
        levels = to_levels(events.value, self.reader.level_rule(feature)[0])
        chosen = self._picker(feature, events, levels).guided_windows(self.index.query(explanation), n)
        blocked = Blocked(chosen, np.zeros(len(chosen.slot), dtype=np.int64))
        return tuple(self._examples([blocked], events, levels, targets=self.design.targets))

    def _picker(self, feature: int, events: Events, levels: Int[np.ndarray, " n"]) -> Picker:
        return Picker(
            index=self.index,
            design=self.design,
            events=events,
            levels=levels,
            neighbours=lambda: self._neighbour_events(feature),
            rng=lambda step: generator(self.index.seed, self.dictionary, feature, self.design.name, step),
        )

    def _neighbour_events(self, feature: int) -> list[Events]:
        near = self.reader.neighbours(feature)[:MOST_NEIGHBOURS]
        return [Events(*self.reader.read(other)) for other, cosine in near if cosine > 0]

    def _asked(
        self, feature: int, part: str, chosen: Sequence[Blocked], events: Events, levels: Int[np.ndarray, " n"]
    ) -> tuple[Example, ...]:
        """The examples of a scored part; targets, which share requests, in an order that gives no stratum away."""
        examples = self._examples(chosen, events, levels, targets=self.design.targets)
        if not self.design.targets:
            return tuple(examples)
        rng = generator(self.index.seed, self.dictionary, feature, self.design.name, part, "order")
        order = np.lexsort(
            (rng.permutation(len(examples)), np.array([example.block for example in examples], dtype=np.int64))
        )
        return tuple(examples[i] for i in order)

    def _examples(
        self, chosen: Sequence[Blocked], events: Events, levels: Int[np.ndarray, " n"], *, targets: bool
    ) -> list[Example]:
        """Choices as examples with complete activations."""
        corpus, words = self.index.corpus, self.index.corpus.vocabulary
        examples: list[Example] = []
        for choice, block in chosen:
            slots = choice.windows.slots(corpus.context)
            documents, places = self.index.document_of(slots), self.index.place_of(slots)
            for i in range(len(block)):
                row, start, length = (int(field[i]) for field in choice.windows)
                first = row * corpus.context + start
                low, high = np.searchsorted(events.slot, (first, first + length))
                values, window_levels = np.zeros(length), np.zeros(length, dtype=np.int64)
                here = events.slot[low:high] - first
                values[here], window_levels[here] = events.value[low:high], levels[low:high]
                target = int(choice.slot[i]) - first if targets else None
                silent = low == high if target is None else not values[target]
                examples.append(
                    Example(
                        record=ActivationRecord(
                            tokens=tuple(words[t] for t in self.index.tokens[first : first + length].tolist()),
                            activations=tuple(values.tolist()),
                            document=self._source(int(corpus.source[documents[i]])),
                            start=start,
                            place=None if places[i] == start else int(places[i]),
                            row=row,
                        ),
                        levels=tuple(window_levels.tolist()),
                        stratum=choice.stratum,
                        decile=int(choice.decile[i]) if choice.decile is not None else None,
                        probability=float(choice.probability[i]),
                        verified=choice.decile is None and bool(silent),
                        target=target,
                        block=int(block[i]),
                    )
                )
        return examples

    def _token_table(self, events: Events, levels: Int[np.ndarray, " n"], scored: Sequence[Choice]) -> TokenTable:
        """What all text of the explain part says of the feature, for its active tokens and the scored windows' ones."""
        index, words, size = self.index, self.index.corpus.vocabulary, self.index.d_vocab
        slot, level = self._in_explain(events, levels)
        sums = np.bincount(index.tokens[slot], weights=level, minlength=size).astype(np.int64)
        asked = self._scored_slots(scored)
        wanted = np.union1d(np.flatnonzero(sums), np.unique(index.tokens[asked]))
        follows = index.place_of(slot) > index.corpus.first
        keys, inverse = np.unique(index.pair_keys(slot[follows]), return_inverse=True)
        pair_sums = np.bincount(inverse, weights=level[follows], minlength=len(keys)).astype(np.int64)
        pair_sum = dict(zip(keys.tolist(), pair_sums.tolist(), strict=True))
        asked = asked[index.place_of(asked) > index.corpus.first]
        heaviest = keys[np.argsort(-pair_sums, kind="stable")[:MOST_PAIRS]]
        pairs = [*heaviest.tolist(), *np.setdiff1d(index.pair_keys(asked), heaviest).tolist()]
        return TokenTable(
            tokens=tuple(words[t] for t in wanted.tolist()),
            counts=tuple(index.explain_counts[wanted].tolist()),
            level_sums=tuple(sums[wanted].tolist()),
            pairs=tuple((words[k // size], words[k % size]) for k in pairs),
            pair_counts=tuple(index.explain_pairs.times_of(np.array(pairs, dtype=np.int64)).tolist()),
            pair_level_sums=tuple(pair_sum.get(k, 0) for k in pairs),
            mean_level=float(level.sum() / max(index.explain_counts.sum(), 1)),
        )

    def _position_table(self, events: Events, levels: Int[np.ndarray, " n"]) -> PositionTable:
        """Mean level by the place in the document, in bins that double in width."""
        corpus = self.index.corpus
        slot, level = self._in_explain(events, levels)
        doubling = 2 ** np.arange(max(1, int(np.ceil(np.log2(max(corpus.context - corpus.first, 2))))))
        starts = corpus.first + np.r_[0, doubling]
        n_tokens = np.add.reduceat(self.index.explain_places, np.minimum(starts, corpus.context - 1))
        bins = np.searchsorted(starts, self.index.place_of(slot), side="right") - 1
        mean = np.bincount(bins, weights=level, minlength=len(starts)) / np.maximum(n_tokens, 1)
        highest = mean.max(initial=0.0)
        return PositionTable(
            starts=tuple(starts.tolist()),
            levels=tuple(np.floor(10 * mean / highest + 0.5).astype(int).tolist()) if highest else (0,) * len(starts),
        )

    def _token_profile(self, events: Events) -> TokenProfile | None:
        """How the activation is spread over token ids; None for a dead feature."""
        if not len(events.slot):
            return None
        tokens = self.index.tokens[events.slot]
        mass = np.bincount(tokens, weights=np.abs(events.value))
        share = mass[mass > 0] / mass.sum()
        strongest = np.argsort(-np.abs(events.value), kind="stable")
        documents = self.index.document_of(events.slot[strongest])
        one_each = np.sort(np.unique(documents, return_index=True)[1])[:SINGLE_TOKEN_ROWS]
        return TokenProfile(
            entropy_bits=max(0.0, float(-(share * np.log2(share)).sum())),
            single_token=len(np.unique(tokens[strongest[one_each]])) == 1,
            n_distinct=len(share),
        )

    def _in_explain(
        self, events: Events, levels: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Slots and levels of the events in the explain part."""
        here = self.index.in_part(events.slot, "explain")
        return events.slot[here], levels[here]

    def _scored_slots(self, scored: Sequence[Choice]) -> Int[np.ndarray, " n"]:
        """Slots whose levels are asked for: the targets, or every token of the windows."""
        if self.design.targets:
            pieces = [choice.slot for choice in scored]
        else:
            pieces = [
                np.arange(first, first + length)
                for choice in scored
                for first, length in zip(
                    choice.windows.slots(self.index.corpus.context), choice.windows.length, strict=True
                )
            ]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
