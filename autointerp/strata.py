"""Choosing one feature's windows, stratum by stratum: top, decile, uniform and hard ones.

A feature's events and the corpus index flow in; windows with their inclusion probabilities flow out. Negatives are
silent by the stored events: over their whole window, or on their target in a design of one target a window. Knows no
record, no text and no LLM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.records import Part, Stratum
from autointerp.splits import PARTS, CorpusIndex, Windows
from autointerp.vectors import deal, draw_each, first_of_descending, strongest_of_each

STRONG_LEVEL = 8
"""Events from this level on name the tokens of hard negatives."""
MOST_HARD_TOKENS = 12
MOST_DRAWN = 512
"""Places tried of a stratum whose windows are around drawn tokens."""
TEXT_POOL = 4
"""Hard windows by text are drawn from this many times as many nearest ones."""
MOST_NEIGHBOURS = 8
_NONE = np.zeros(0, dtype=np.int64)


class Events(NamedTuple):
    """One feature's activations."""

    slot: Int[np.ndarray, " n"]
    """row * context + place, ascending."""
    value: Float[np.ndarray, " n"]
    """Raw units, never zero."""


@dataclass(frozen=True)
class Design:
    """How many windows of which kind a protocol chooses; part of what identifies a record."""

    name: str
    width: int
    """Tokens a window of the select and score parts."""
    blocks: tuple[int, ...]
    """Windows of the score part of each third (active, uniform, hard), block by block; earlier blocks are balanced
    samples of the whole, so that fewer windows are the first blocks."""
    n_select: int
    """Windows of the select part of each third."""
    targets: bool = False
    """One token of a window is scored, in its last three quarters; else all are."""
    explain_width: int = 32
    n_top: int = 10
    n_decile: int = 10
    """Windows of the explain part."""


class Choice(NamedTuple):
    """Chosen windows of one stratum."""

    stratum: Stratum
    windows: Windows
    probability: Float[np.ndarray, " n"]
    """Inclusion probability of each."""
    slot: Int[np.ndarray, " n"]
    """Of the token each window was chosen for; -1 where it was chosen as a whole."""
    decile: Int[np.ndarray, " n"] | None = None
    """Of the event each window was chosen for, 10 the strongest."""
    outside: bool = False
    """Whether they are windows of a whole corpus of which the index knows a sample."""


class Peaks(NamedTuple):
    """Strongest events of documents outside the corpus that the index knows, strongest first, each with its window."""

    slot: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    windows: Windows


NO_PEAKS = Peaks(_NONE, np.zeros(0), Windows(_NONE, _NONE, _NONE))


class Blocked(NamedTuple):
    """A choice, and which of the design's blocks each of its windows belongs to."""

    choice: Choice
    block: Int[np.ndarray, " n"]


class _Fit(NamedTuple):
    """Events that found a window, group by group."""

    event: Int[np.ndarray, " n"]
    windows: Windows
    n_found: Int[np.ndarray, " group"]


@dataclass
class Picker:
    """The choices for one feature; windows chosen later never overlap earlier ones."""

    index: CorpusIndex
    design: Design
    events: Events
    levels: Int[np.ndarray, " n"]
    """Level of each event."""
    read_neighbours: Callable[[], Sequence[Events]]
    """Gives the events of the features with the nearest decoder directions, nearest first."""
    rng: Callable[[str], np.random.Generator]
    """A generator for a named step."""
    outside: Peaks = NO_PEAKS
    """Those of documents of the explain part that a kept sample leaves out."""
    _taken: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @cached_property
    def explain(self) -> list[Choice]:
        """Of the explain part the strongest windows, one a document, and windows spread over the deciles."""
        d, rng = self.design, self.rng("explain")
        mine = self.events_of("explain")
        one_each = mine[strongest_of_each(self.events.value[mine], self.index.document_of(self.events.slot[mine]))]
        of_all = np.concatenate([self.events.value[one_each], self.outside.value])
        inside = first_of_descending(of_all, d.n_top) < len(one_each)
        jitter = (d.explain_width // 2, d.explain_width)
        strongest = self._fit(
            [one_each[: _worth_trying(d.n_top)]], [int(inside.sum())], d.explain_width, rng, jitter, apart=False
        )
        n, event = len(strongest.event), strongest.event
        decile = self._decile_of(self.events.value[event], mine)
        top = Choice("top", strongest.windows, np.ones(n), self.events.slot[event], decile)
        chosen = [top, self._by_decile(mine, d.explain_width, d.n_decile, rng, jitter, apart=False)]
        if not inside.all():
            peaks = self.outside
            slot, value = peaks.slot[: (~inside).sum()], peaks.value[: (~inside).sum()]
            windows = peaks.windows.take(np.arange(len(slot)))
            chosen.append(Choice("top", windows, np.ones(len(slot)), slot, self._decile_of(value, mine), outside=True))
        return chosen

    def scored_windows(self, part: Part) -> list[Blocked]:
        """Windows of the select or score part; none where the part has no event. The explain part is chosen before."""
        assert self.explain
        d, rng = self.design, self.rng(part)
        blocks = d.blocks if part == "score" else (d.n_select,)
        mine = self.events_of(part)
        if not len(mine):
            return []
        active = self._by_decile(mine, d.width, sum(blocks), rng, self._jitter, apart=True)
        quiet = self._quiet_candidates(part)
        hard: list[Choice] = []
        left = sum(blocks)
        for sources_left, choose in ((3, self._hard_neighbour), (2, self._hard_text), (1, self._hard_token)):
            choice = choose(part, -(-left // sources_left), quiet, rng)
            left -= len(choice.probability)
            hard.append(choice)
        uniform = (self._uniform_targets if d.targets else self._uniform_windows)(part, sum(blocks), quiet, rng)
        thirds: list[list[Choice]] = [[active], [uniform], hard[::-1]]
        return [blocked for third in thirds for blocked in _into_blocks(third, blocks, rng)]

    def guided_windows(self, query: Float[np.ndarray, " d_vocab"], n: int) -> Choice:
        """Silent windows of the score part whose words are most like a query's; they may overlap the scored ones."""
        return self._by_text("guided", "score", query, n, self._quiet_candidates("score"), self.rng("guided"))

    @property
    def _jitter(self) -> tuple[int, int]:
        """Where in its window a chosen token may stand: a target is never without text before it."""
        return (self.design.width // 4 if self.design.targets else 0, self.design.width)

    def _uniform_windows(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Silent windows of the grid, each as likely as any other."""
        windows = self.index.candidates(part, self.design.width).windows
        return self._claim_first("uniform", windows, rng.permutation(quiet), n, len(quiet))

    def _uniform_targets(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Silent tokens of the part, each as likely as any other."""
        text = self.index.part_text(part)
        eligible = len(text) - len(self.events_of(part))
        return self._around("uniform", text[_draw(len(text), rng)], n, rng, eligible)

    def _hard_token(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """The token of a strong activation where the feature is silent (Bricken et al. 2023)."""
        by_token, first, number = self.index.with_tokens(part, self._strong_tokens)
        ends, n_all = np.cumsum(number), int(number.sum())
        drawn = _draw(n_all, rng)
        of = np.searchsorted(ends, drawn, side="right")
        slots = by_token[first[of] + drawn - (ends - number)[of]]
        return self._around("hard-token", slots, n, rng, n_source=n_all)

    @cached_property
    def _strong_tokens(self) -> Int[np.ndarray, " n"]:
        """The tokens of strong activations, heaviest first."""
        strong = self.levels >= min(STRONG_LEVEL, self.levels.max(initial=0))
        tokens, place = np.unique(self.index.tokens[self.events.slot[strong]], return_inverse=True)
        mass = np.bincount(place, weights=self.levels[strong])
        heaviest = first_of_descending(mass, MOST_HARD_TOKENS)
        return np.asarray(tokens[heaviest[mass[heaviest] > 0]])

    def _hard_text(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Silent windows whose words are most like those of the explain part's active windows."""
        return self._by_text("hard-text", part, self._shown_words, n, quiet, rng)

    @cached_property
    def _shown_words(self) -> Float[np.ndarray, " d_vocab"]:
        """The words of the explain part's windows."""
        return self.index.word_sum(Windows.joined([choice.windows for choice in self.explain if not choice.outside]))

    def _by_text(
        self,
        stratum: Stratum,
        part: Part,
        query: Float[np.ndarray, " d_vocab"],
        n: int,
        quiet: Int[np.ndarray, " n"],
        rng: np.random.Generator,
    ) -> Choice:
        """Silent windows most like the query; a target is drawn in each by the query's weight on its tokens."""
        candidates = self.index.candidates(part, self.design.width)
        alike = (candidates.words @ query)[quiet]
        near = first_of_descending(alike, TEXT_POOL * n)
        pool = candidates.windows.take(quiet[near[alike[near] > 0]])
        if not self.design.targets:
            return self._claim_first(stratum, pool, rng.permutation(len(pool.row)), n, len(pool.row))
        first = pool.slots(self.index.corpus.context)
        inside = np.arange(self.design.width) < pool.length[:, None]
        slots = np.where(inside, first[:, None] + np.arange(self.design.width), 0)
        targets = first + draw_each(np.where(inside, query[self.index.tokens[slots]], 0.0), rng)
        return self._around(stratum, rng.permutation(targets), n, rng, len(targets))

    def _hard_neighbour(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Where a feature with a near decoder direction fires strongly and this one is silent."""
        found = [_NONE]
        for events, parts in self._neighbours:
            here = np.flatnonzero(parts == PARTS.index(part))
            found.append(events.slot[here[first_of_descending(events.value[here], MOST_DRAWN // MOST_NEIGHBOURS)]])
        slots = rng.permutation(np.unique(np.concatenate(found)))
        return self._around("hard-neighbour", slots, n, rng, n_source=len(slots))

    @cached_property
    def _neighbours(self) -> list[tuple[Events, Int[np.ndarray, " n"]]]:
        """The neighbours' events, and the part of each."""
        return [(events, self.index.part_at(events.slot)) for events in self.read_neighbours()]

    def _around(
        self,
        stratum: Stratum,
        drawn: Int[np.ndarray, " n"],
        n: int,
        rng: np.random.Generator,
        eligible: int | None = None,
        n_source: int = 0,
    ) -> Choice:
        """At most n unshared windows around slots in random order: silent ones, or ones around a silent target.

        `eligible` is how many there are to draw from; where it is None it is told from the drawn share of `n_source`.
        """
        windows = self.index.place(drawn, rng.integers(*self._jitter, len(drawn)), self.design.width)
        silent = ~self._active(drawn) if self.design.targets else self._quiet(windows)
        fine = np.flatnonzero(silent & self._may_be_scored(windows))
        if eligible is None:
            eligible = round(n_source * len(fine) / max(len(drawn), 1))
        return self._claim_first(stratum, windows, fine, n, eligible, drawn)

    def _by_decile(
        self,
        mine: Int[np.ndarray, " n"],
        width: int,
        n: int,
        rng: np.random.Generator,
        jitter: tuple[int, int],
        *,
        apart: bool,
    ) -> Choice:
        """At most n windows around events, spread evenly over the deciles of the part's events."""
        order = mine[np.argsort(self.events.value[mine], kind="stable")]
        ends = (len(order) * np.arange(11)) // 10
        deciles = np.flatnonzero(np.diff(ends)) + 1
        quota = np.full(len(deciles), n // max(len(deciles), 1))
        quota[rng.permutation(len(deciles))[: n - quota.sum()]] += 1
        pieces = [order[ends[decile - 1] : ends[decile]] for decile in deciles]
        most = quota.tolist()
        tried = [rng.permutation(piece)[: _worth_trying(k)] for piece, k in zip(pieces, most, strict=True)]
        fit = self._fit(tried, most, width, rng, jitter, apart=apart)
        share = fit.n_found / np.maximum([len(piece) for piece in pieces], 1)
        probability, decile = np.repeat(share, fit.n_found), np.repeat(deciles, fit.n_found)
        return Choice("decile", fit.windows, probability, self.events.slot[fit.event], decile)

    def _fit(
        self,
        tried: Sequence[Int[np.ndarray, " m"]],
        most: Sequence[int],
        width: int,
        rng: np.random.Generator,
        jitter: tuple[int, int],
        *,
        apart: bool,
    ) -> _Fit:
        """Of each group the first events, at most so many, whose windows overlap none chosen before.

        `apart`: nor stand in another part.
        """
        event = np.concatenate([_NONE, *tried])
        windows = self.index.place(self.events.slot[event], rng.integers(*jitter, len(event)), width)
        fine = np.flatnonzero(self._may_be_scored(windows)) if apart else np.arange(len(event))
        edges = np.searchsorted(fine, np.cumsum([0, *map(len, tried)])).tolist()
        kept = [self._claim(windows, n, fine[low:high]) for n, (low, high) in zip(most, pairwise(edges), strict=True)]
        index = np.concatenate([_NONE, *kept])
        return _Fit(event[index], windows.take(index), np.array([len(k) for k in kept], dtype=np.int64))

    def _may_be_scored(self, windows: Windows) -> Bool[np.ndarray, " n"]:
        """True for windows of text that stands in no other part and, where every token is scored, is known."""
        fine = ~self.index.shared(self.design.width)[windows.slots(self.index.corpus.context)]
        return np.asarray(fine if self.design.targets else fine & ~self.index.hold_masked(windows))

    def _claim_first(
        self,
        stratum: Stratum,
        windows: Windows,
        order: Int[np.ndarray, " m"],
        n: int,
        eligible: int,
        slots: Int[np.ndarray, " n"] | None = None,
    ) -> Choice:
        """The first n windows in an order that overlap none chosen before, out of `eligible` equally likely ones.

        `slots` are those of the tokens that the windows are for.
        """
        kept = self._claim(windows, n, order)
        probability = min(1.0, len(kept) / eligible) if len(kept) else 1.0
        slot = np.full(len(kept), -1) if slots is None else slots[kept]
        return Choice(stratum, windows.take(kept), np.full(len(kept), probability), slot)

    def _claim(self, windows: Windows, n: int, among: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
        """The first n of some windows that overlap none chosen before; they are chosen now."""
        kept: list[int] = []
        row, start, length = (field.data for field in windows)  # items are plain integers, made as they are looked at
        for i in among.data:
            if len(kept) == n:
                break
            low, end = start[i], start[i] + length[i]
            others = self._taken.setdefault(row[i], [])
            if all(end <= a or b <= low for a, b in others):
                others.append((low, end))
                kept.append(i)
        return np.array(kept, dtype=np.int64)

    def events_of(self, part: Part) -> Int[np.ndarray, " n"]:
        """Numbers of the feature's events in a part."""
        return np.flatnonzero(self._part_of_event == PARTS.index(part))

    @cached_property
    def _part_of_event(self) -> Int[np.ndarray, " n"]:
        return self.index.part_at(self.events.slot)

    def _active(self, slots: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """True for slots on which the feature is active."""
        if not len(self.events.slot):
            return np.zeros(len(slots), dtype=np.bool_)
        places = np.searchsorted(self.events.slot, slots)
        return np.asarray(self.events.slot.take(places, mode="clip") == slots)

    def _quiet(self, windows: Windows) -> Bool[np.ndarray, " n"]:
        """True for windows in which the feature is active on no token."""
        starts = windows.slots(self.index.corpus.context)
        ends = starts + windows.length
        return np.asarray(np.searchsorted(self.events.slot, starts) == np.searchsorted(self.events.slot, ends))

    def _quiet_candidates(self, part: Part) -> Int[np.ndarray, " n"]:
        """Candidate windows of a part in which the feature is active on no token."""
        windows, first, _ = self.index.candidates(part, self.design.width)
        quiet = np.ones(len(first), dtype=np.bool_)
        if len(first):
            holder = np.searchsorted(first, self.events.slot, side="right") - 1
            inside = self.events.slot - first[holder]  # negative before the first window
            quiet[holder[(inside >= 0) & (inside < windows.length[holder])]] = False
        return np.flatnonzero(quiet)

    def _decile_of(self, values: Float[np.ndarray, " n"], among: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
        """Decile 1..10 of activations by rank among their part's events."""
        ranks = np.searchsorted(np.sort(self.events.value[among]), values, side="right")
        return np.asarray(np.ceil(10 * ranks / max(len(among), 1)).astype(np.int64).clip(1, 10))


def _worth_trying(most: int) -> int:
    """How many events are worth trying for `most` windows."""
    return max(8 * most, 64)


def _draw(n: int, rng: np.random.Generator) -> Int[np.ndarray, " m"]:
    """At most `MOST_DRAWN` different numbers below n, in random order."""
    return rng.choice(n, min(n, MOST_DRAWN), replace=False)


def _into_blocks(third: Sequence[Choice], blocks: Sequence[int], rng: np.random.Generator) -> list[Blocked]:
    """Deal the windows of a third to the blocks, so that every block has its share of each decile or source."""
    groups = [np.full(len(c.slot), -i) if c.decile is None else c.decile for i, c in enumerate(third)]
    block = deal(np.concatenate(groups), blocks, rng)
    ends = np.cumsum([len(choice.slot) for choice in third])
    return [Blocked(choice, block[end - len(choice.slot) : end]) for choice, end in zip(third, ends, strict=True)]
