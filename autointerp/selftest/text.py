"""Text as rows of words and signs, and the questions that a rule may ask of it.

Sources flow in; a corpus that `splits.CorpusIndex` reads, and grids of tokens for rules, flow out. Tokens are split by
one regular expression, so no tokenizer is needed and any text gives the same tokens whole or in pieces.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Int

from autointerp.format import SpecialToken, escape_text, unescape
from autointerp.subject.corpus.sources import Source

ROW = 128
"""Tokens a row at most."""
NEWLINE = r"\\n"
"""Pattern of the token of a line break, which is escaped like any token."""
_TOKEN = re.compile(r" ?\w+|>>>|\n| +|.", re.DOTALL)


def split_tokens(text: str) -> list[str]:
    """Words with a space before them, prompts, line breaks, runs of spaces, single signs; escaped, nothing lost."""
    return [escape_text(token) for token in _TOKEN.findall(text)]


def split_again(tokens: Sequence[str]) -> list[str]:
    """Escaped pieces of text, however cut, as the tokens that `split_tokens` makes of the whole."""
    whole = unescape("".join(tokens))
    assert not isinstance(whole, SpecialToken)
    return split_tokens(whole.decode("utf-8", errors="replace"))


class TextRows:
    """Sources as rows of tokens; a `splits.TokenRows`."""

    def __init__(self, sources: Iterable[Source]) -> None:
        known: dict[str, int] = {}
        rows: list[list[int]] = []
        names: list[str] = []
        of_row: list[int] = []
        for source in sources:
            ids = [known.setdefault(token, len(known)) for token in split_tokens(source.text)]
            pieces = [ids[i : i + ROW] for i in range(0, len(ids), ROW)]
            rows += pieces
            of_row += [len(names)] * len(pieces)
            names.append(source.id)
        self.vocabulary: Sequence[str] = tuple(known)
        self.sources: Sequence[str] = tuple(names)
        self.source: Int[np.ndarray, " n_row"] = np.array(of_row, dtype=np.int64)
        self.first = 0
        self.context = ROW
        self.tokens, self.length = _padded(rows, ROW)
        self.start: Int[np.ndarray, " n_row"] = ROW * np.arange(len(rows))


class Grid:
    """Rows of tokens under a rule's questions; every answer is a mask [row, tok], and looks only to the left."""

    def __init__(
        self, vocabulary: Sequence[str], tokens: Int[np.ndarray, "row tok"], length: Int[np.ndarray, " row"]
    ) -> None:
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._text = np.arange(tokens.shape[1]) < length[:, None]
        self._known: dict[str, Bool[np.ndarray, "row tok"]] = {}

    @classmethod
    def of(cls, windows: Sequence[Sequence[str]]) -> "Grid":
        """A grid of single windows."""
        known: dict[str, int] = {}
        rows = [[known.setdefault(token, len(known)) for token in window] for window in windows]
        tokens, length = _padded(rows, max(map(len, rows), default=1))
        return cls(tuple(known), tokens, length)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and tokens."""
        return self._tokens.shape

    def like(self, pattern: str) -> Bool[np.ndarray, "row tok"]:
        """Tokens that match a pattern from end to end."""
        if pattern not in self._known:
            matches = re.compile(pattern).fullmatch
            fits = np.array([matches(token) is not None for token in self._vocabulary], dtype=bool)
            self._known[pattern] = fits[self._tokens] & self._text
        return self._known[pattern]

    def after(self, mask: Bool[np.ndarray, "row tok"]) -> Bool[np.ndarray, "row tok"]:
        """Tokens right after one of the mask."""
        return np.pad(mask, ((0, 0), (1, 0)))[:, :-1] & self._text

    def within(self, mask: Bool[np.ndarray, "row tok"], n: int) -> Bool[np.ndarray, "row tok"]:
        """Tokens with one of the mask among the n before them."""
        counts = np.pad(np.cumsum(mask, axis=1), ((0, 0), (n + 1, 0)))
        return (counts[:, n : n + mask.shape[1]] > counts[:, : mask.shape[1]]) & self._text

    def since(
        self, opened: Bool[np.ndarray, "row tok"], closed: Bool[np.ndarray, "row tok"]
    ) -> Bool[np.ndarray, "row tok"]:
        """Tokens after an opening one that no closing one has followed yet."""
        place = np.arange(opened.shape[1])
        last_opened = np.maximum.accumulate(np.where(opened, place, -1), axis=1)
        last_closed = np.maximum.accumulate(np.where(closed, place, -1), axis=1)
        return np.asarray((last_opened > last_closed) & ~opened & self._text)


def _padded(rows: Sequence[Sequence[int]], width: int) -> tuple[Int[np.ndarray, "row tok"], Int[np.ndarray, " row"]]:
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens, np.array([len(ids) for ids in rows], dtype=np.int64)
