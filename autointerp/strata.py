"""Choosing one feature's windows, stratum by stratum: top, decile, uniform and hard ones.

A feature's events and the corpus index flow in; windows with their inclusion probabilities flow out. Negatives are
silent by the stored events: over their whole window, or on their target in a design of one target a window. Knows no
record, no text and no LLM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.records import Part, Stratum
from autointerp.splits import CorpusIndex, Windows

STRONG_LEVEL = 8
"""Events from this level on name the tokens of hard negatives."""
MOST_HARD_TOKENS = 12
MOST_DRAWN = 512
"""Places tried around a source of hard negatives."""
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


class Blocked(NamedTuple):
    """A choice, and which of the design's blocks each of its windows belongs to."""

    choice: Choice
    block: Int[np.ndarray, " n"]


@dataclass
class Picker:
    """The choices for one feature; windows chosen later never overlap earlier ones."""

    index: CorpusIndex
    design: Design
    events: Events
    levels: Int[np.ndarray, " n"]
    """Level of each event."""
    neighbours: Callable[[], Sequence[Events]]
    """Events of the features with the nearest decoder directions, nearest first."""
    rng: Callable[[str], np.random.Generator]
    """A generator for a named step."""
    _taken: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def explain_windows(self) -> list[Choice]:
        """The strongest windows, one a document, and windows spread over the deciles."""
        d, rng = self.design, self.rng("explain")
        mine = self._events_of("explain")
        strongest = mine[np.argsort(-self.events.value[mine], kind="stable")]
        documents = self.index.document_of(self.events.slot[strongest])
        one_each = strongest[np.sort(np.unique(documents, return_index=True)[1])]
        jitter = (d.explain_width // 2, d.explain_width)
        events, windows = self._fit(one_each, d.explain_width, d.n_top, rng, jitter, apart=False)
        top = Choice("top", windows, np.ones(len(events)), self.events.slot[events], self._decile_of(events, mine))
        return [top, self._by_decile(mine, d.explain_width, d.n_decile, rng, jitter, apart=False)]

    def scored_windows(self, part: Part, explain: Sequence[Choice]) -> list[Blocked]:
        """Windows of the select or score part; none where the part has no event."""
        d, rng = self.design, self.rng(part)
        blocks = d.blocks if part == "score" else (d.n_select,)
        mine = self._events_of(part)
        if not len(mine):
            return []
        active = self._by_decile(mine, d.width, sum(blocks), rng, self._jitter, apart=True)
        quiet = np.flatnonzero(self._quiet(self.index.candidates(part, d.width).windows))
        hard: list[Choice] = []
        left = sum(blocks)
        for sources_left, choose in ((3, self._hard_neighbour), (2, self._hard_text), (1, self._hard_token)):
            choice = choose(part, -(-left // sources_left), quiet, explain, rng)
            left -= len(choice.probability)
            hard.append(choice)
        uniform = (self._uniform_targets if d.targets else self._uniform_windows)(part, sum(blocks), quiet, rng)
        thirds: list[list[Choice]] = [[active], [uniform], hard[::-1]]
        return [blocked for third in thirds for blocked in _into_blocks(third, blocks, rng)]

    def guided_windows(self, query: Float[np.ndarray, " d_vocab"], n: int) -> Choice:
        """Silent windows of the score part whose words are most like a query's; they may overlap the scored ones."""
        quiet = np.flatnonzero(self._quiet(self.index.candidates("score", self.design.width).windows))
        return self._by_text("guided", "score", query, n, quiet, self.rng("guided"))

    @property
    def _jitter(self) -> tuple[int, int]:
        """Where in its window a chosen token may stand: a target is never without text before it."""
        return (self.design.width // 4 if self.design.targets else 0, self.design.width)

    def _uniform_windows(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Silent windows of the grid, each as likely as any other."""
        windows = self.index.candidates(part, self.design.width).windows.take(rng.permutation(quiet))
        return self._claim_first("uniform", windows, n, len(quiet))

    def _uniform_targets(self, part: Part, n: int, quiet: Int[np.ndarray, " n"], rng: np.random.Generator) -> Choice:
        """Silent tokens of the part, each as likely as any other."""
        text = self.index.part_text(part)
        drawn = text[rng.integers(0, len(text), MOST_DRAWN)]
        silent = np.unique(drawn)
        eligible = len(text) - len(self._events_of(part))
        return self._around("uniform", silent, n, rng, eligible)

    def _hard_token(
        self, part: Part, n: int, quiet: Int[np.ndarray, " n"], explain: Sequence[Choice], rng: np.random.Generator
    ) -> Choice:
        """The token of a strong activation where the feature is silent (Bricken et al. 2023)."""
        strong = self.levels >= min(STRONG_LEVEL, self.levels.max(initial=0))
        mass = np.bincount(self.index.tokens[self.events.slot[strong]], weights=self.levels[strong])
        tokens = np.argsort(-mass, kind="stable")[:MOST_HARD_TOKENS]
        slots = np.concatenate([_NONE, *(self.index.with_token(part, int(t)) for t in tokens if mass[t] > 0)])
        return self._around("hard-token", slots, n, rng)

    def _hard_text(
        self, part: Part, n: int, quiet: Int[np.ndarray, " n"], explain: Sequence[Choice], rng: np.random.Generator
    ) -> Choice:
        """Silent windows whose words are most like those of the explain part's active windows."""
        shown = [self.index.word_rows(choice.windows) for choice in explain if len(choice.probability)]
        query = sum((np.asarray(rows.sum(axis=0)).reshape(-1) for rows in shown), np.zeros(self.index.d_vocab))
        return self._by_text("hard-text", part, query, n, quiet, rng)

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
        near = np.argsort(-alike, kind="stable")[: TEXT_POOL * n]
        pool = candidates.windows.take(quiet[near[alike[near] > 0]])
        if not self.design.targets:
            return self._claim_first(stratum, pool.take(rng.permutation(len(pool.row))), n, len(pool.row))
        targets = [
            first + _draw(query[self.index.tokens[first : first + length]], rng)
            for first, length in zip(pool.slots(self.index.corpus.context), pool.length, strict=True)
        ]
        return self._around(stratum, np.array(targets, dtype=np.int64), n, rng, len(targets))

    def _hard_neighbour(
        self, part: Part, n: int, quiet: Int[np.ndarray, " n"], explain: Sequence[Choice], rng: np.random.Generator
    ) -> Choice:
        """Where a feature with a near decoder direction fires strongly and this one is silent."""
        found = [_NONE]
        for events in self.neighbours():
            here = self.index.in_part(events.slot, part)
            slot, value = events.slot[here], events.value[here]
            found.append(slot[np.argsort(-value, kind="stable")[: MOST_DRAWN // MOST_NEIGHBOURS]])
        return self._around("hard-neighbour", np.unique(np.concatenate(found)), n, rng)

    def _around(
        self,
        stratum: Stratum,
        slots: Int[np.ndarray, " n"],
        n: int,
        rng: np.random.Generator,
        eligible: int | None = None,
    ) -> Choice:
        """At most n unshared windows around drawn slots: silent ones, or ones around a silent target.

        `eligible` is how many there are to draw from; where it is None it is told from the drawn ones.
        """
        width, context = self.design.width, self.index.corpus.context
        drawn = rng.permutation(slots)[:MOST_DRAWN]
        windows = self.index.place(drawn, rng.integers(*self._jitter, len(drawn)), width)
        silent = ~self._active(drawn) if self.design.targets else self._quiet(windows)
        fine = np.flatnonzero(silent & ~self.index.shared(width)[windows.slots(context)])
        if eligible is None:
            eligible = round(len(slots) * len(fine) / max(len(drawn), 1))
        return self._claim_first(stratum, windows.take(fine), n, eligible, drawn[fine])

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
        decile_of_rank = -(-10 * np.arange(1, len(order) + 1) // max(len(order), 1))
        deciles = np.unique(decile_of_rank)
        quota = np.full(len(deciles), n // max(len(deciles), 1))
        quota[rng.permutation(len(deciles))[: n - quota.sum()]] += 1
        chosen, windows, probability = [_NONE], [Windows(_NONE, _NONE, _NONE)], [np.zeros(0)]
        slots = [_NONE]
        for decile, k in zip(deciles, quota, strict=True):
            piece = order[decile_of_rank == decile]
            fit, fit_windows = self._fit(rng.permutation(piece), width, int(k), rng, jitter, apart=apart)
            chosen.append(np.full(len(fit), decile))
            windows.append(fit_windows)
            probability.append(np.full(len(fit), len(fit) / len(piece)))
            slots.append(self.events.slot[fit])
        joined = Windows(*(np.concatenate(field) for field in zip(*windows, strict=True)))
        return Choice("decile", joined, np.concatenate(probability), np.concatenate(slots), np.concatenate(chosen))

    def _fit(
        self,
        events: Int[np.ndarray, " n"],
        width: int,
        n: int,
        rng: np.random.Generator,
        jitter: tuple[int, int],
        *,
        apart: bool,
    ) -> tuple[Int[np.ndarray, " k"], Windows]:
        """The first n events whose windows overlap none chosen before (`apart`: nor stand in another part)."""
        events = events[: max(8 * n, 64)]
        windows = self.index.place(self.events.slot[events], rng.integers(*jitter, len(events)), width)
        if apart:
            fine = np.flatnonzero(~self.index.shared(width)[windows.slots(self.index.corpus.context)])
            events, windows = events[fine], windows.take(fine)
        kept = self._claim(windows, n)
        return events[kept], windows.take(kept)

    def _claim_first(
        self, stratum: Stratum, windows: Windows, n: int, eligible: int, slots: Int[np.ndarray, " n"] | None = None
    ) -> Choice:
        """The first n windows that overlap none chosen before, out of `eligible` equally likely ones."""
        kept = self._claim(windows, n)
        probability = min(1.0, len(kept) / eligible) if len(kept) else 1.0
        slot = np.full(len(kept), -1) if slots is None else slots[kept]
        return Choice(stratum, windows.take(kept), np.full(len(kept), probability), slot)

    def _claim(self, windows: Windows, n: int) -> Int[np.ndarray, " k"]:
        kept: list[int] = []
        for i in range(len(windows.row)):
            if len(kept) == n:
                break
            row, start = int(windows.row[i]), int(windows.start[i])
            end = start + int(windows.length[i])
            others = self._taken.setdefault(row, [])
            if all(end <= low or high <= start for low, high in others):
                others.append((start, end))
                kept.append(i)
        return np.array(kept, dtype=np.int64)

    def _events_of(self, part: Part) -> Int[np.ndarray, " n"]:
        return np.flatnonzero(self.index.in_part(self.events.slot, part))

    def _active(self, slots: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """True for slots on which the feature is active."""
        places = np.searchsorted(self.events.slot, slots)
        return np.asarray(np.searchsorted(self.events.slot, slots, side="right") > places)

    def _quiet(self, windows: Windows) -> Bool[np.ndarray, " n"]:
        """True for windows in which the feature is active on no token."""
        starts = windows.slots(self.index.corpus.context)
        ends = starts + windows.length
        return np.asarray(np.searchsorted(self.events.slot, starts) == np.searchsorted(self.events.slot, ends))

    def _decile_of(self, events: Int[np.ndarray, " n"], among: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
        """Decile 1..10 of events by rank among their part's events."""
        ranks = np.searchsorted(np.sort(self.events.value[among]), self.events.value[events], side="right")
        return np.asarray(np.ceil(10 * ranks / max(len(among), 1)).astype(np.int64).clip(1, 10))


def _into_blocks(third: Sequence[Choice], blocks: Sequence[int], rng: np.random.Generator) -> list[Blocked]:
    """Deal the windows of a third to the blocks, so that every block has its share of each decile or source."""
    groups = [
        choice.decile if choice.decile is not None else np.full(len(choice.slot), -i) for i, choice in enumerate(third)
    ]
    group = np.concatenate(groups)
    number = np.zeros(len(group), dtype=np.int64)
    for value in np.unique(group):
        members = group == value
        number[members] = np.arange(members.sum())
    order = np.lexsort((rng.permutation(len(group)), number))
    block = np.zeros(len(group), dtype=np.int64)
    block[order] = np.searchsorted(np.cumsum(blocks), np.arange(len(group)), side="right").clip(0, len(blocks) - 1)
    ends = np.cumsum([len(choice.slot) for choice in third])
    return [Blocked(choice, block[end - len(choice.slot) : end]) for choice, end in zip(third, ends, strict=True)]


def _draw(weights: Float[np.ndarray, " n"], rng: np.random.Generator) -> int:
    """A place drawn by weight; any place where all weigh nothing."""
    total = weights.sum()
    return int(rng.choice(len(weights), p=weights / total if total > 0 else None))
