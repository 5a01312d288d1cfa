"""From a feature's events to its `FeatureRecord`: examples of every part and the look-up baseline's token table.

A corpus index and a `FeatureReader` flow in; complete records flow out, fixed before any explanation exists. Every
draw is seeded by (run seed, dictionary, feature, step). Knows no LLM and no torch.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from autointerp.format import to_levels
from autointerp.outside import Outside
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
from autointerp.splits import CorpusIndex, PairCounts, Windows
from autointerp.strata import (
    MOST_NEIGHBOURS,
    NO_PEAKS,
    Blocked,
    Choice,
    Design,
    Events,
    Picker,
)
from autointerp.vectors import events_inside, first_of_descending, strongest_of_each

MOST_PAIRS = 256
MOST_SOURCES = 2**16
"""Names of sources kept at hand."""
SINGLE_TOKEN_ROWS = 20
"""Documents whose strongest places decide on the single-token flag."""


_SlotsAndLevels = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]
"""Of a feature's events."""


class _Spans(NamedTuple):
    """What stands in windows, token after token."""

    tokens: list[str]
    activations: list[float]
    levels: list[int]


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

    def __init__(
        self,
        reader: FeatureReader,
        index: CorpusIndex,
        dictionary: str,
        design: Design,
        outside: Outside | None = None,
    ) -> None:
        """`outside` knows the rest of a corpus of which the index knows a kept sample."""
        self.reader = reader
        self.index = index
        self.dictionary = dictionary
        self.design = design
        self.outside = outside
        self._source = lru_cache(MOST_SOURCES)(index.corpus.sources.__getitem__)

    def feature_record(self, feature: int) -> FeatureRecord:
        """Everything that explaining and scoring one feature needs; a part without events stays empty."""
        events = Events(*self.reader.read(feature))
        edges, by_rank = self.reader.level_rule(feature)
        levels = to_levels(events.value, edges)
        picker = self._picker(feature, events, levels)
        select = picker.scored_windows("select")
        score = picker.scored_windows("score")
        here = picker.events_of("explain")
        in_explain = events.slot[here], levels[here]
        return FeatureRecord.trusted(
            feature=FeatureId(dictionary=self.dictionary, index=feature),
            design=self.design.name,
            level_rule="rank" if by_rank else "decile",
            level_edges=tuple(edges.tolist()),
            facts=self.reader.feature_facts(feature),
            stats=self.reader.feature_stats(feature),
            splits=ExampleSplit.trusted(
                explain=self._shown(feature, picker.explain, events, levels, edges),
                select=self._asked(feature, "select", select, events, levels),
                calibrate=(),
                score=self._asked(feature, "score", score, events, levels),
                seed=self.index.seed,
            ),
            token_table=self._token_table(in_explain, [b.choice for b in (*select, *score)]),
            position_table=self._position_table(in_explain),
            token_profile=self._token_profile(events),
        )

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        """At most n silent windows of the score part that the words of an explanation point at."""
        events = Events(*self.reader.read(feature))
        levels = to_levels(events.value, self.reader.level_rule(feature)[0])
        chosen = self._picker(feature, events, levels).guided_windows(self.index.query(explanation), n)
        blocked = Blocked(chosen, np.zeros(len(chosen.slot), dtype=np.int64))
        return tuple(self._examples([blocked], events, levels, self.index, targets=self.design.targets))

    def _picker(self, feature: int, events: Events, levels: Int[np.ndarray, " n"]) -> Picker:
        return Picker(
            index=self.index,
            design=self.design,
            events=events,
            levels=levels,
            read_neighbours=lambda: self._neighbour_events(feature),
            rng=lambda step: generator(self.index.seed, self.dictionary, feature, self.design.name, step),
            outside=self.outside.peaks(feature, self.design) if self.outside is not None else NO_PEAKS,
        )

    def _neighbour_events(self, feature: int) -> list[Events]:
        near = self.reader.neighbours(feature)[:MOST_NEIGHBOURS]
        return [Events(*self.reader.read(other)) for other, cosine in near if cosine > 0]

    def _shown(
        self,
        feature: int,
        chosen: Sequence[Choice],
        events: Events,
        levels: Int[np.ndarray, " n"],
        edges: Float[np.ndarray, "9"],
    ) -> tuple[Example, ...]:
        """The examples of the explain part, the strongest first."""
        shown = [Blocked(choice, np.zeros(len(choice.slot), dtype=np.int64)) for choice in chosen]
        examples = self._examples([b for b in shown if not b.choice.outside], events, levels, self.index, targets=False)
        beyond = [b for b in shown if b.choice.outside]
        if self.outside is None or not beyond:
            return tuple(examples)
        strongest = Events(*self.outside.read(feature))
        its_levels = to_levels(strongest.value, edges)
        examples += self._examples(beyond, strongest, its_levels, self.outside.whole, targets=False)
        return tuple(sorted(examples, key=lambda e: -max(e.record.activations) if e.stratum == "top" else 0.0))

    def _asked(
        self, feature: int, part: str, chosen: Sequence[Blocked], events: Events, levels: Int[np.ndarray, " n"]
    ) -> tuple[Example, ...]:
        """The examples of a scored part; targets, which share requests, in an order that gives no stratum away."""
        examples = self._examples(chosen, events, levels, self.index, targets=self.design.targets)
        if not self.design.targets:
            return tuple(examples)
        rng = generator(self.index.seed, self.dictionary, feature, self.design.name, part, "order")
        order = np.lexsort(
            (rng.permutation(len(examples)), np.array([example.block for example in examples], dtype=np.int64))
        )
        return tuple(examples[i] for i in order)

    def _examples(
        self,
        chosen: Sequence[Blocked],
        events: Events,
        levels: Int[np.ndarray, " n"],
        index: CorpusIndex,
        *,
        targets: bool,
    ) -> list[Example]:
        """Choices as examples with complete activations, which `events` are on the rows of `index`."""
        if not chosen:
            return []
        windows = Windows.joined([choice.windows for choice, _ in chosen])
        spans = self._spans(windows, events, levels, index)
        edges = pairwise([0, *np.cumsum(windows.length).tolist()])
        columns = self._columns(chosen, windows, index, targets=targets)
        examples = []
        for (low, high), row, start, place, source, stratum, decile, probability, target, block in zip(
            edges, *columns, strict=True
        ):
            activations = spans.activations[low:high]
            scored = activations if target is None else activations[target : target + 1]
            record = ActivationRecord.trusted(
                tokens=tuple(spans.tokens[low:high]),
                activations=tuple(activations),
                document=self._source(source),
                start=start,
                place=None if place == start else place,
                row=row,
            )
            example = Example.trusted(
                record=record,
                levels=tuple(spans.levels[low:high]),
                stratum=stratum,
                decile=decile,
                probability=probability,
                verified=decile is None and not any(scored),
                target=target,
                block=block,
            )
            examples.append(example)
        return examples

    def _columns(
        self, chosen: Sequence[Blocked], windows: Windows, index: CorpusIndex, *, targets: bool
    ) -> tuple[list[Any], ...]:
        """Row, start, place, source, stratum, decile, probability, target and block of each window."""
        choices = [choice for choice, _ in chosen]
        first = windows.slots(index.corpus.context)
        rows_before = 0 if index is self.index else len(self.index.corpus.tokens)
        return (
            (windows.row + rows_before).tolist(),
            windows.start.tolist(),
            index.place_of(first).tolist(),
            index.corpus.source[index.document_of(first)].tolist(),
            [choice.stratum for choice in choices for _ in choice.slot],
            [d for c in choices for d in (len(c.slot) * [None] if c.decile is None else c.decile.tolist())],
            np.concatenate([choice.probability for choice in choices]).tolist(),
            (np.concatenate([c.slot for c in choices]) - first).tolist() if targets else len(first) * [None],
            np.concatenate([block for _, block in chosen]).tolist(),
        )

    def _spans(self, windows: Windows, events: Events, levels: Int[np.ndarray, " n"], index: CorpusIndex) -> _Spans:
        """What stands in windows, one after the other."""
        event, place = events_inside(windows.slots(index.corpus.context), windows.length, events.slot)
        slots = windows.all_slots(index.corpus.context)
        values, window_levels = np.zeros(len(slots)), np.zeros(len(slots), dtype=np.int64)
        values[place], window_levels[place] = events.value[event], levels[event]
        return _Spans(index.words[index.tokens[slots]].tolist(), values.tolist(), window_levels.tolist())

    def _token_table(self, in_explain: _SlotsAndLevels, scored: Sequence[Choice]) -> TokenTable:
        """What all text of the explain part says of the feature, for its active tokens and the scored windows' ones."""
        index, words, size = self.index, self.index.words, self.index.d_vocab
        slot, level = in_explain
        sums = np.bincount(index.tokens[slot], weights=level, minlength=size).astype(np.int64)
        asked = self._scored_slots(scored)
        is_wanted = sums > 0
        is_wanted[index.tokens[asked]] = True
        wanted = np.flatnonzero(is_wanted)
        follows = index.place_of(slot) > index.corpus.first
        keys, inverse = np.unique(index.pair_keys(slot[follows]), return_inverse=True)
        pair_sums = np.bincount(inverse, weights=level[follows], minlength=len(keys)).astype(np.int64)
        asked = asked[index.place_of(asked) > index.corpus.first]
        heaviest = keys[first_of_descending(pair_sums, MOST_PAIRS)]
        pairs = np.concatenate([heaviest, np.setdiff1d(index.pair_keys(asked), heaviest)])
        previous, token = (words[ids].tolist() for ids in np.divmod(pairs, size))
        return TokenTable.trusted(
            tokens=tuple(words[wanted].tolist()),
            counts=tuple(index.explain_counts[wanted].tolist()),
            level_sums=tuple(sums[wanted].tolist()),
            pairs=tuple(zip(previous, token, strict=True)),
            pair_counts=tuple(index.explain_pairs.times_of(pairs).tolist()),
            pair_level_sums=tuple(PairCounts(keys, pair_sums).times_of(pairs).tolist()),
            mean_level=float(level.sum() / max(index.explain_counts.sum(), 1)),
        )

    def _position_table(self, in_explain: _SlotsAndLevels) -> PositionTable:
        """Mean level by the place in the document, in bins that double in width."""
        starts, n_tokens = self._place_bins
        slot, level = in_explain
        bins = np.searchsorted(starts, self.index.place_of(slot), side="right") - 1
        mean = np.bincount(bins, weights=level, minlength=len(starts)) / np.maximum(n_tokens, 1)
        highest = mean.max(initial=0.0)
        return PositionTable(
            starts=tuple(starts.tolist()),
            levels=tuple(np.floor(10 * mean / highest + 0.5).astype(int).tolist()) if highest else (0,) * len(starts),
        )

    @cached_property
    def _place_bins(self) -> tuple[Int[np.ndarray, " bin"], Int[np.ndarray, " bin"]]:
        """First place of each bin, and tokens of the explain part in it."""
        context, first = self.index.corpus.context, self.index.corpus.first
        doubling = 2 ** np.arange(max(1, int(np.ceil(np.log2(max(context - first, 2))))))
        starts = first + np.r_[0, doubling]
        return starts, np.add.reduceat(self.index.explain_places, np.minimum(starts, context - 1))

    def _token_profile(self, events: Events) -> TokenProfile | None:
        """How the activation is spread over token ids; None for a dead feature."""
        if not len(events.slot):
            return None
        tokens = self.index.tokens[events.slot]
        mass = np.bincount(tokens, weights=np.abs(events.value))
        share = mass[mass > 0] / mass.sum()
        documents = self.index.document_of(events.slot)
        strongest = strongest_of_each(np.abs(events.value), documents)[:SINGLE_TOKEN_ROWS]
        return TokenProfile(
            entropy_bits=max(0.0, float(-(share * np.log2(share)).sum())),
            single_token=len(set(tokens[strongest].tolist())) == 1,
            n_distinct=len(share),
        )

    def _scored_slots(self, scored: Sequence[Choice]) -> Int[np.ndarray, " n"]:
        """Slots whose levels are asked for: the targets, or every token of the windows."""
        if self.design.targets:
            return np.concatenate([choice.slot for choice in scored]) if scored else np.zeros(0, dtype=np.int64)
        return Windows.joined([choice.windows for choice in scored]).all_slots(self.index.corpus.context)
