"""Windows of a harvest's text with every activation of one feature on them: around its strongest ones, or silent.

A corpus index and a feature's events flow in; windows and plain records flow out. What explaining and scoring rests on
is chosen by `examples`, under a design and apart by part; this is for looking. Knows no torch.
"""

from bisect import bisect_left
from itertools import pairwise

import numpy as np

from autointerp.errors import UsageError
from autointerp.harvest.shards import FeatureEvents
from autointerp.records import ActivationRecord
from autointerp.splits import CorpusIndex, Windows
from autointerp.vectors import events_inside, strongest_of_each

ROUNDS, DRAWN_A_ROUND = 64, 512
"""Places tried for silent windows: a feature that is silent on a thousandth of the text still gives some."""


def strongest_windows(index: CorpusIndex, events: FeatureEvents, n: int, width: int) -> Windows:
    """At most n windows around the strongest activations, one a document, the strongest first.

    Raises:
        UsageError: no windows can be of that number or width.
    """
    _check(n, width)
    best = strongest_of_each(events.value, index.document_of(events.slot))[:n]
    return index.place(events.slot[best], np.full(len(best), width // 2), width)


def silent_windows(index: CorpusIndex, events: FeatureEvents, n: int, width: int, rng: np.random.Generator) -> Windows:
    """At most n windows at random, none with an activation or a masked token in it, none over another.

    Raises:
        UsageError: no windows can be of that number or width.
    """
    _check(n, width)
    taken: list[tuple[int, int]] = []
    pieces: list[Windows] = []
    for _ in range(ROUNDS):
        drawn = rng.integers(0, len(index.tokens), DRAWN_A_ROUND)
        drawn = drawn[index.text[drawn]]
        windows = index.place(drawn, rng.integers(0, width, len(drawn)), width)
        first = windows.slots(index.corpus.context)
        ends = first + windows.length
        low, high = np.searchsorted(events.slot, (first, ends))
        fine = np.flatnonzero((low == high) & ~index.hold_masked(windows))
        kept = []
        for i, span in zip(fine.tolist(), zip(first[fine].tolist(), ends[fine].tolist(), strict=True), strict=True):
            place = bisect_left(taken, span)
            over = (place > 0 and taken[place - 1][1] > span[0]) or (place < len(taken) and taken[place][0] < span[1])
            if not over and len(taken) < n:
                taken.insert(place, span)
                kept.append(i)
        pieces.append(windows.take(np.array(kept, dtype=np.int64)))
        if len(taken) == n:
            break
    return Windows.joined(pieces)


def _check(n: int, width: int) -> None:
    if n < 0 or width < 1:
        raise UsageError(f"windows are asked for with n at least 0 and width at least 1, not n={n} and width={width}")


def read_windows(index: CorpusIndex, windows: Windows, events: FeatureEvents) -> list[ActivationRecord]:
    """What stands in windows, with the feature's activation on every token."""
    first = windows.slots(index.corpus.context)
    event, place = events_inside(first, windows.length, events.slot)
    slots = windows.all_slots(index.corpus.context)
    values = np.zeros(len(slots))
    values[place] = events.value[event]
    tokens, activations = index.words[index.tokens[slots]].tolist(), values.tolist()
    columns = zip(
        pairwise([0, *np.cumsum(windows.length).tolist()]),
        windows.row.tolist(),
        windows.start.tolist(),
        index.place_of(first).tolist(),
        index.corpus.source[index.document_of(first)].tolist(),
        strict=True,
    )
    return [
        ActivationRecord(
            tokens=tokens[low:high],
            activations=activations[low:high],
            document=index.corpus.sources[source],
            start=start,
            place=None if place == start else place,
            row=row,
        )
        for (low, high), row, start, place, source in columns
    ]
