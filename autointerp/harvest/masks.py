"""Which tokens of a corpus a harvest looks at, before any activation is known.

Rows of tokens and the settings flow in, masks and counts flow out. Knows no model and no torch.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from autointerp.harvest.tokens import Corpus, Places

ROWS_AT_ONCE = 1024
SPECIAL = "\\s{"
"""How the escaped text of a special token begins."""


class TextMask:
    """Which places of a corpus hold text to be looked at: neither BOS, padding, special tokens nor skipped places."""

    def __init__(self, corpus: Corpus, skip: int, *, special: bool) -> None:
        """`skip` places after BOS of each document are left out, and special tokens in the text unless `special`."""
        self.corpus = corpus
        self.skip = skip
        names = [special or not text.startswith(SPECIAL) for text in corpus.vocabulary]
        self._is_text: Bool[np.ndarray, " d_vocab"] = np.array(names)

    def of_rows(self, rows: Int[np.ndarray, " n"], places: Places) -> Bool[np.ndarray, "n width"]:
        """Of some rows, whose places are given."""
        tokens = self.corpus.tokens[rows, : places.text.shape[1]]
        return np.asarray(places.text & (places.inside >= self.corpus.first + self.skip) & self._is_text[tokens])

    def of_document(self, tokens: Int[np.ndarray, " place"]) -> Bool[np.ndarray, " place"]:
        """Of all places of one document."""
        return np.asarray((np.arange(len(tokens)) >= self.corpus.first + self.skip) & self._is_text[tokens])

    def count(self) -> dict[str, int]:
        """How many places of the whole corpus are left out, by the first reason that applies."""
        corpus = self.corpus
        left = corpus.length - corpus.first
        counts = {
            "bos": len(corpus.length) * corpus.first,
            "padding": corpus.n_row * corpus.context - int(corpus.length.sum()),
            "position": int(np.minimum(left, self.skip).sum()),
        }
        n_text = sum(int(self.of_rows(rows, corpus.places(rows)).sum()) for rows in self._stretches())
        return {**counts, "special": int(left.sum()) - counts["position"] - n_text}

    def left_out(self) -> Int[np.ndarray, " n"]:
        """Slots of text that is not looked at, ascending."""
        slots = []
        for rows in self._stretches():
            places = self.corpus.places(rows)
            row, place = np.nonzero(places.text & ~self.of_rows(rows, places))
            slots.append(rows[row] * self.corpus.context + place)
        return np.concatenate(slots)

    def _stretches(self) -> Iterator[Int[np.ndarray, " n"]]:
        for low in range(0, self.corpus.n_row, ROWS_AT_ONCE):
            yield np.arange(low, min(low + ROWS_AT_ONCE, self.corpus.n_row))
