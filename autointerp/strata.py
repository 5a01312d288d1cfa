"""Choosing one feature's windows, stratum by stratum: top, decile, uniform and hard ones.

A feature's events and the corpus index flow in; windows with their inclusion probabilities flow out. Negatives are
silent over their whole window, by the stored events. Knows no record, no text and no LLM.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from autointerp.records import Part, Stratum
from autointerp.splits import PARTS, CorpusIndex, Windows

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
    n_active: int
    n_uniform: int
    n_hard: int
    """Windows of the score part; the select part has half of each."""
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
    decile: Int[np.ndarray, " n"] | None = None
    """Of the event each window was chosen for, 10 the strongest."""


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
        rows = self.events.slot[strongest] // self.index.corpus.context
        one_a_row = strongest[np.sort(np.unique(rows, return_index=True)[1])]
        jitter = (d.explain_width // 2, d.explain_width)
        events, windows = self._fit(one_a_row, d.explain_width, d.n_top, rng, jitter, apart=False)
        top = Choice("top", windows, np.ones(len(events)), self._decile_of(events, mine))
        return [top, self._by_decile(mine, d.explain_width, d.n_decile, rng, jitter, apart=False)]

    def scored_windows(self, part: Part, explain: Sequence[Choice], share: int) -> list[Choice]:
        """Windows of the select or score part, 1/`share` of the design's numbers; none where the part has no event."""
        d, rng = self.design, self.rng(part)
        mine = self._events_of(part)
        if not len(mine):
            return []
        active = self._by_decile(mine, d.width, d.n_active // share, rng, (0, d.width), apart=True)
        windows = self.index.candidates(part, d.width).windows
        quiet = np.flatnonzero(self._quiet(windows))
        hard: list[Choice] = []
        left = d.n_hard // share
        for sources_left, choose in ((3, self._hard_neighbour), (2, self._hard_text), (1, self._hard_token)):
            choice = choose(part, -(-left // sources_left), quiet, explain, rng)
            left -= len(choice.probability)
            hard.append(choice)
        uniform = self._claim_first("uniform", windows.take(rng.permutation(quiet)), d.n_uniform // share, len(quiet))
        return [active, uniform, *reversed(hard)]

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
        candidates = self.index.candidates(part, self.design.width)
        shown = [self.index.word_rows(choice.windows) for choice in explain if len(choice.probability)]
        query = sum((np.asarray(rows.sum(axis=0)).reshape(-1) for rows in shown), np.zeros(self.index.d_vocab))
        alike = (candidates.words @ query)[quiet]
        near = np.argsort(-alike, kind="stable")[: TEXT_POOL * n]
        pool = quiet[near[alike[near] > 0]]
        return self._claim_first("hard-text", candidates.windows.take(rng.permutation(pool)), n, len(pool))

    def _hard_neighbour(
        self, part: Part, n: int, quiet: Int[np.ndarray, " n"], explain: Sequence[Choice], rng: np.random.Generator
    ) -> Choice:
        """Where a feature with a near decoder direction fires strongly and this one is silent."""
        found = [_NONE]
        for events in self.neighbours():
            here = self.index.row_part[events.slot // self.index.corpus.context] == PARTS.index(part)
            slot, value = events.slot[here], events.value[here]
            found.append(slot[np.argsort(-value, kind="stable")[: MOST_DRAWN // MOST_NEIGHBOURS]])
        return self._around("hard-neighbour", np.unique(np.concatenate(found)), n, rng)

    def _around(self, stratum: Stratum, slots: Int[np.ndarray, " n"], n: int, rng: np.random.Generator) -> Choice:
        """At most n silent, unshared windows around drawn slots."""
        width = self.design.width
        drawn = rng.permutation(slots)[:MOST_DRAWN]
        windows = self.index.place(drawn, rng.integers(0, width, len(drawn)), width)
        fine = self._quiet(windows) & ~self.index.shared(width)[windows.slots(self.index.corpus.context)]
        eligible = round(len(slots) * float(fine.mean())) if len(drawn) else 0
        return self._claim_first(stratum, windows.take(np.flatnonzero(fine)), n, eligible)

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
        for decile, k in zip(deciles, quota, strict=True):
            piece = order[decile_of_rank == decile]
            fit, fit_windows = self._fit(rng.permutation(piece), width, int(k), rng, jitter, apart=apart)
            chosen.append(np.full(len(fit), decile))
            windows.append(fit_windows)
            probability.append(np.full(len(fit), len(fit) / len(piece)))
        joined = Windows(*(np.concatenate(field) for field in zip(*windows, strict=True)))
        return Choice("decile", joined, np.concatenate(probability), np.concatenate(chosen))

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

    def _claim_first(self, stratum: Stratum, windows: Windows, n: int, eligible: int) -> Choice:
        """The first n windows that overlap none chosen before, out of `eligible` equally likely ones."""
        kept = self._claim(windows, n)
        probability = min(1.0, len(kept) / eligible) if len(kept) else 1.0
        return Choice(stratum, windows.take(kept), np.full(len(kept), probability))

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
        rows = self.events.slot // self.index.corpus.context
        return np.flatnonzero(self.index.row_part[rows] == PARTS.index(part))

    def _quiet(self, windows: Windows) -> Bool[np.ndarray, " n"]:
        """True for windows in which the feature is active on no token."""
        starts = windows.slots(self.index.corpus.context)
        ends = starts + windows.length
        return np.asarray(np.searchsorted(self.events.slot, starts) == np.searchsorted(self.events.slot, ends))

    def _decile_of(self, events: Int[np.ndarray, " n"], among: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
        """Decile 1..10 of events by rank among their part's events."""
        ranks = np.searchsorted(np.sort(self.events.value[among]), self.events.value[events], side="right")
        return np.asarray(np.ceil(10 * ranks / max(len(among), 1)).astype(np.int64).clip(1, 10))
