"""What choosing examples needs to know of a corpus, computed once for all features: parts, shared text, candidates.

Token rows flow in; arrays over rows, slots and candidate windows flow out. Knows no feature. A slot is
row * context + place in the row.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol, get_args

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from autointerp.provenance import generator, seed_of
from autointerp.records import Part
from autointerp.vectors import ranges

PARTS: tuple[Part, ...] = get_args(Part)
_LAST_OF_20 = (7, 10, 11, 19)
LEAST_BEGINNING = 4
_WORD = re.compile(r"\w+|[^\w\s]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class TokenRows(Protocol):
    """A tokenised corpus: rows of documents, mostly one a row."""

    @property
    def tokens(self) -> Int[np.ndarray, "n_row context"]: ...
    @property
    def start(self) -> Int[np.ndarray, " n_document"]:
        """Slot of each document's first place, ascending."""
        ...

    @property
    def length(self) -> Int[np.ndarray, " n_document"]: ...
    @property
    def source(self) -> Int[np.ndarray, " n_document"]: ...
    @property
    def sources(self) -> Sequence[str]: ...
    @property
    def vocabulary(self) -> Sequence[str]: ...
    @property
    def first(self) -> int: ...
    @property
    def context(self) -> int: ...


class Windows(NamedTuple):
    """Windows of the corpus as parallel arrays."""

    row: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " n"]
    """Place of the first token in its row."""
    length: Int[np.ndarray, " n"]

    @classmethod
    def joined(cls, pieces: "Sequence[Windows]") -> "Windows":
        """Windows one after the other; no windows of no pieces."""
        if not pieces:
            return cls(*np.zeros((3, 0), dtype=np.int64))
        return cls(*(np.concatenate(field) for field in zip(*pieces, strict=True)))

    def slots(self, context: int) -> Int[np.ndarray, " n"]:
        """Slot of each window's first token."""
        return np.asarray(self.row * context + self.start)

    def all_slots(self, context: int) -> Int[np.ndarray, " n_token"]:
        """Slots of all tokens, window by window."""
        return ranges(self.slots(context), self.length)

    def take(self, index: Int[np.ndarray, " m"]) -> "Windows":
        """The windows at these places."""
        return Windows(self.row[index], self.start[index], self.length[index])


class Candidates(NamedTuple):
    """Windows of one part that do not overlap, stand in no other part, and differ from each other."""

    windows: Windows
    """By slot."""
    first: Int[np.ndarray, " n"]
    """Slot of each window's first token, ascending."""
    words: scipy.sparse.csr_matrix
    """Unit TF-IDF rows [n, d_vocab] of the windows' tokens, in float64."""


class PairCounts(NamedTuple):
    """How often each (previous token, token) stands in the explain part."""

    key: Int[np.ndarray, " n"]
    """previous * d_vocab + token, ascending."""
    times: Int[np.ndarray, " n"]

    def times_of(self, keys: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        """How often each of some pairs stands there."""
        if not len(self.key):
            return np.zeros(len(keys), dtype=np.int64)
        places = np.searchsorted(self.key, keys).clip(0, len(self.key) - 1)
        return np.where(self.key[places] == keys, self.times[places], 0)


def part_of(source: str, seed: int) -> Part:
    """The part of a source, by hash: 8 of 20 explain, 3 select, 1 calibrate, 8 score."""
    return PARTS[int(np.searchsorted(_LAST_OF_20, seed_of(seed, source) % 20))]


class CorpusIndex:
    """Parts and candidate windows of one corpus under one seed."""

    def __init__(self, corpus: TokenRows, seed: int, masked: Int[np.ndarray, " n"] | None = None) -> None:
        """`masked` are slots of text of which nothing is known, ascending: they are never scored nor called silent."""
        self.corpus = corpus
        self.seed = seed
        self.masked = np.zeros(0, dtype=np.int64) if masked is None else masked
        self.d_vocab = len(corpus.vocabulary)
        self.tokens = np.asarray(corpus.tokens).reshape(-1)
        self._one_a_row = len(corpus.start) == len(corpus.tokens)
        self._candidates: dict[tuple[Part, int], Candidates] = {}
        self._shared: dict[int, Bool[np.ndarray, " n_slot"]] = {}
        self._part_text: dict[Part, Int[np.ndarray, " n"]] = {}
        self._by_token: dict[Part, tuple[np.ndarray, np.ndarray]] = {}
        self._elsewhere: dict[tuple[int, Part], Int[np.ndarray, " n"]] = {}

    @cached_property
    def text(self) -> Bool[np.ndarray, " n_slot"]:
        """True where a slot holds a token of text: neither BOS nor padding."""
        change = np.zeros(len(self.tokens) + 1, dtype=np.int8)
        change[self.corpus.start + self.corpus.first] += 1
        change[self.corpus.start + self.corpus.length] -= 1
        return np.cumsum(change[:-1], dtype=np.int8).astype(bool)

    @cached_property
    def source_part(self) -> Int[np.ndarray, " n_source"]:
        """Part of each source, as its number in `PARTS`."""
        return np.array([PARTS.index(part_of(source, self.seed)) for source in self.corpus.sources], dtype=np.int8)

    @cached_property
    def document_part(self) -> Int[np.ndarray, " n_document"]:
        """Part of each document."""
        return np.asarray(self.source_part[self.corpus.source])

    def document_of(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Number of the document at each slot."""
        if self._one_a_row:
            return np.asarray(slots // self.corpus.context)
        return np.asarray(np.searchsorted(self.corpus.start, slots, side="right") - 1)

    def place_of(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Place of each slot in its document."""
        return np.asarray(slots - self.corpus.start[self.document_of(slots)])

    @cached_property
    def _slot_part(self) -> Int[np.ndarray, " n_slot"]:
        """Part of the document at each slot."""
        return np.asarray(self.document_part[self.document_of(np.arange(len(self.tokens)))])

    def part_at(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Part of the document at each slot, as its number in `PARTS`."""
        return np.asarray(self._slot_part[slots])

    def part_text(self, part: Part) -> Int[np.ndarray, " n"]:
        """Slots of a part's text, but for masked ones."""
        if part not in self._part_text:
            known = self.text.copy()
            known[self.masked] = False
            slots = np.flatnonzero(known)
            self._part_text[part] = slots[self.part_at(slots) == PARTS.index(part)]
        return self._part_text[part]

    @cached_property
    def explain_counts(self) -> Int[np.ndarray, " d_vocab"]:
        """Occurrences of each token in the explain part."""
        return np.bincount(self.tokens[self.part_text("explain")], minlength=self.d_vocab)

    @cached_property
    def explain_places(self) -> Int[np.ndarray, " place"]:
        """Tokens of the explain part at each place of a document."""
        return np.bincount(self.place_of(self.part_text("explain")), minlength=self.corpus.context)

    @cached_property
    def words(self) -> np.ndarray:
        """Escaped text of each token id, as an array of objects."""
        return np.array(self.corpus.vocabulary, dtype=object)

    @cached_property
    def _tokens_of(self) -> dict[str, list[int]]:
        """Token ids by their text, spaces and case apart."""
        ids: dict[str, list[int]] = {}
        for token, text in enumerate(self.corpus.vocabulary):
            ids.setdefault(text.strip().casefold(), []).append(token)
        return ids

    def query(self, text: str) -> Float[np.ndarray, " d_vocab"]:
        """Weights of the tokens that a text's words and signs name, rarer ones heavier.

        A word that is no token counts as its longest beginning, of at least four letters, that is one.
        """
        weights = np.zeros(self.d_vocab)
        for word in _WORD.findall(text.casefold()):
            lengths = range(len(word), min(len(word), LEAST_BEGINNING) - 1, -1)
            ids = next((self._tokens_of[word[:n]] for n in lengths if word[:n] in self._tokens_of), [])
            weights[ids] = self.rarity[ids]
        return weights

    @cached_property
    def explain_pairs(self) -> PairCounts:
        """Occurrences of each pair of neighbouring tokens of text in the explain part."""
        slots = self.part_text("explain")
        slots = slots[self.place_of(slots) > self.corpus.first]
        return PairCounts(*np.unique(self.pair_keys(slots), return_counts=True))

    def pair_keys(self, slots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """previous * d_vocab + token at slots that are not the first of their document."""
        return np.asarray(self.tokens[slots - 1].astype(np.int64) * self.d_vocab + self.tokens[slots])

    def with_tokens(
        self, part: Part, tokens: Int[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " n_slot"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Where a part's text holds some tokens: its slots by token, and each token's first place there and number."""
        if part not in self._by_token:
            slots = self.part_text(part)
            order = np.argsort(self.tokens[slots], kind="stable")
            starts = np.searchsorted(self.tokens[slots][order], np.arange(self.d_vocab + 1))
            self._by_token[part] = (slots[order], starts)
        by_token, starts = self._by_token[part]
        return by_token, starts[tokens], starts[tokens + 1] - starts[tokens]

    def shared(self, width: int) -> Bool[np.ndarray, " n_slot"]:
        """True where the window of `width` tokens that starts at a slot stands in more than one part.

        Windows that run past their document count the missing tokens as equal.
        """
        if width not in self._shared:
            valid = np.flatnonzero(self.text)
            hashes = self._window_hashes(width)[valid]
            part = self.document_part[self.document_of(valid)]
            order = np.argsort(hashes, kind="stable")
            starts = np.flatnonzero(np.r_[True, np.diff(hashes[order]) != 0]) if len(order) else order
            several = np.zeros(0, bool)
            if len(order):
                low = np.minimum.reduceat(part[order], starts)
                high = np.maximum.reduceat(part[order], starts)
                several = np.repeat(low != high, np.diff(np.r_[starts, len(order)]))
            shared = np.zeros(len(self.tokens), bool)
            shared[valid[order]] = several
            self._shared[width] = shared
        return self._shared[width]

    def _window_hashes(self, width: int) -> Int[np.ndarray, " n_slot"]:
        """A polynomial hash of the `width` tokens from each slot on, zero behind its document."""
        grid = np.where(self.text, self.tokens.astype(np.uint64) + np.uint64(1), np.uint64(0))
        grid = grid.reshape(-1, self.corpus.context)
        hashes = np.zeros_like(grid)
        left = None if self._one_a_row else self._left.reshape(grid.shape)
        for offset in reversed(range(width)):
            hashes *= _MULTIPLIER
            if offset < self.corpus.context:
                ahead = grid[:, offset:]
                if left is not None:
                    ahead = np.where(left[:, : ahead.shape[1]] > offset, ahead, np.uint64(0))
                hashes[:, : ahead.shape[1]] += ahead
        return hashes.reshape(-1)

    @property
    def _left(self) -> Int[np.ndarray, " n_slot"]:
        """Places from each slot to the end of its document; none in padding."""
        slots = np.arange(len(self.tokens))
        ends = self.corpus.start + self.corpus.length
        return np.asarray(np.maximum(ends[self.document_of(slots)] - slots, 0))

    def hold_masked(self, windows: Windows) -> Bool[np.ndarray, " n"]:
        """True for windows with a token of which nothing is known."""
        if not len(self.masked):
            return np.zeros(len(windows.row), dtype=np.bool_)
        first = windows.slots(self.corpus.context)
        low, high = np.searchsorted(self.masked, (first, first + windows.length))
        return np.asarray(low < high)

    def stand_elsewhere(self, tokens: Int[np.ndarray, "n length"], width: int, part: Part) -> Bool[np.ndarray, " n"]:
        """True for rows of tokens of which some `width` neighbours stand in the text of another part.

        A row that is shorter is held against documents that end with it.
        """
        if (width, part) not in self._elsewhere:
            other = self.text & (self._slot_part != PARTS.index(part))
            self._elsewhere[width, part] = np.unique(self._window_hashes(width)[other])
        known = self._elsewhere[width, part]
        grid = tokens.astype(np.uint64) + np.uint64(1)
        hashes = np.zeros((len(grid), max(grid.shape[1] - width, 0) + 1), dtype=np.uint64)
        for offset in reversed(range(min(width, grid.shape[1]))):
            hashes = hashes * _MULTIPLIER + grid[:, offset : offset + hashes.shape[1]]
        return np.asarray(np.isin(hashes, known).any(axis=1))

    def place(self, slots: Int[np.ndarray, " n"], jitter: Int[np.ndarray, " n"], width: int) -> Windows:
        """Windows of `width` tokens, fewer in shorter documents, that hold the slots `jitter` places from the start."""
        document = self.document_of(slots)
        whole = self.corpus.length[document]
        length = np.minimum(width, whole - self.corpus.first)
        place = slots - self.corpus.start[document] - jitter
        start = np.minimum(np.maximum(place, self.corpus.first), whole - length)  # `clip` costs twice as much
        return self._windows(document, start, length)

    def _windows(
        self, document: Int[np.ndarray, " n"], place: Int[np.ndarray, " n"], length: Int[np.ndarray, " n"]
    ) -> Windows:
        """Windows that begin at places of documents."""
        row, start = np.divmod(self.corpus.start[document] + place, self.corpus.context)
        return Windows(row, start, length)

    def candidates(self, part: Part, width: int) -> Candidates:
        """The part's candidate windows: a grid with a random offset in each document.

        Repeated text is left out, and windows with a masked token.
        """
        key = (part, width)
        if key not in self._candidates:
            windows = self._grid(part, width)
            slots = windows.slots(self.corpus.context)
            hashes = self._window_hashes(width)[slots]
            _, first_of = np.unique(hashes, return_index=True)
            keep = np.sort(first_of)
            keep = keep[~self.shared(width)[slots[keep]]]
            keep = keep[~self.hold_masked(windows.take(keep))]
            windows = windows.take(keep)
            self._candidates[key] = Candidates(windows, slots[keep], self._word_rows(windows))
        return self._candidates[key]

    def _grid(self, part: Part, width: int) -> Windows:
        rng = generator(self.seed, "grid", part, width)
        documents = np.flatnonzero(self.document_part == PARTS.index(part))
        room = self.corpus.length[documents] - self.corpus.first
        documents, room = documents[room > 0], room[room > 0]
        offset = (rng.random(len(documents)) * (np.clip(room - width, 0, width - 1) + 1)).astype(np.int64)
        number = np.maximum((room - offset) // width, 1)
        document = np.repeat(documents, number)
        index = ranges(np.zeros(len(number), dtype=np.int64), number)
        start = self.corpus.first + np.repeat(offset, number) + index * width
        return self._windows(document, start, np.minimum(width, np.repeat(room, number)))

    @cached_property
    def rarity(self) -> Float[np.ndarray, " d_vocab"]:
        """Inverse document frequency of each token."""
        documents = self.document_of(np.flatnonzero(self.text))
        pairs = np.unique(documents * self.d_vocab + self.tokens[self.text])
        frequency = np.bincount(pairs % self.d_vocab, minlength=self.d_vocab)
        return np.log((1 + len(self.document_part)) / (1 + frequency)).astype(np.float32)

    def word_sum(self, windows: Windows) -> Float[np.ndarray, " d_vocab"]:
        """The sum of the windows' unit TF-IDF rows."""
        token = self.tokens[windows.all_slots(self.corpus.context)].astype(np.int64)
        window = np.repeat(np.arange(len(windows.row)), windows.length)
        key, times = np.unique(window * self.d_vocab + token, return_counts=True)
        window, token = np.divmod(key, self.d_vocab)
        weight = self.rarity[token].astype(np.float64) * times
        norm = np.sqrt(np.bincount(window, weights=weight**2, minlength=len(windows.row)))
        unit = weight / np.maximum(norm, 1e-9)[window]
        return np.bincount(token, weights=unit, minlength=self.d_vocab)

    def _word_rows(self, windows: Windows) -> scipy.sparse.csr_matrix:
        ends = np.cumsum(windows.length)
        token = self.tokens[windows.all_slots(self.corpus.context)]
        rows = scipy.sparse.csr_matrix(
            (self.rarity[token], token.astype(np.int32), np.r_[0, ends]), shape=(len(windows.row), self.d_vocab)
        )
        rows.sum_duplicates()
        norm = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1))).reshape(-1)
        return scipy.sparse.csr_matrix(scipy.sparse.diags(1 / np.maximum(norm, 1e-9)) @ rows).astype(np.float64)
