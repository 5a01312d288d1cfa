"""The strongest windows in documents that a kept sample leaves out, so that top examples are those of all text.

A corpus of which a sample is kept and a feature's strongest windows flow in, peaks with windows to show flow out, in
slots of the whole corpus. Only documents of the explain part, and only text of which nothing stands in another part of
the sample. Knows no record and no LLM.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from autointerp.provenance import generator
from autointerp.splits import PARTS, CorpusIndex, TokenRows, Windows
from autointerp.strata import Design, Events, Peaks
from autointerp.vectors import strongest_of_each

MOST_TRIED = 64
"""Documents whose text is held against the other parts."""


class Outside:
    """One dictionary's strongest windows beyond the kept documents."""

    def __init__(
        self, index: CorpusIndex, whole: TokenRows, kept: Int[np.ndarray, " n"], read: Callable[[int], Events]
    ) -> None:
        """`index` knows the documents `kept` of `whole`.

        `read` gives a feature's events around its strongest places: all within half a window of a peak, where a window
        is at least twice as wide as those shown.
        """
        self.read = read
        self.whole = CorpusIndex(whole, index.seed)
        """Of all documents."""
        self._kept, self._index = kept, index

    def peaks(self, feature: int, design: Design) -> Peaks:
        """The strongest place of each document that is not kept, strongest first, with its window for explaining."""
        slot, value = self.read(feature)
        document = self.whole.document_of(slot)
        in_explain = self._index.source_part[self.whole.corpus.source[document]] == PARTS.index("explain")
        mine = np.flatnonzero(in_explain & ~np.isin(document, self._kept))
        mine = mine[strongest_of_each(value[mine], document[mine])][:MOST_TRIED]
        width = design.explain_width
        jitter = generator(self._index.seed, "outside", feature).integers(width // 2, width, len(mine))
        windows = self.whole.place(slot[mine], jitter, width)
        fresh = np.flatnonzero(~self._stand_elsewhere(windows, design.width))
        return Peaks(slot[mine[fresh]], value[mine[fresh]], windows.take(fresh))

    def _stand_elsewhere(self, windows: Windows, width: int) -> np.ndarray:
        """True for windows of which some `width` tokens stand in another part of the sample."""
        found = np.zeros(len(windows.row), dtype=np.bool_)
        for length in np.unique(windows.length).tolist():
            alike = np.flatnonzero(windows.length == length)
            slots = windows.take(alike).all_slots(self.whole.corpus.context).reshape(len(alike), length)
            found[alike] = self._index.stand_elsewhere(self.whole.tokens[slots], width, "explain")
        return found
