"""The tokens of a harvest, read without torch and by memory map: `harvest.tokenise` writes them.

    _corpus/tokens.bin           token ids, right-padded rows; uint16 or uint32 [n_row, context]
    _corpus/rows.safetensors     length and source number of each document; where rows are packed, also its first slot
    _corpus/sources.jsonl        the sources' ids, a JSON text a line
    _corpus/corpus.json          what the tokens are: vocabulary, counts, digest; written last

A harvest's folder flows in, arrays flow out. Knows no feature and no model.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Int

from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import map_arrays

CORPUS_FOLDER = "_corpus"


class Places(NamedTuple):
    """What stands at each place of some rows."""

    document: Int[np.ndarray, "row place"]
    """Number of the document; -1 in padding."""
    text: Bool[np.ndarray, "row place"]
    """Neither BOS nor padding."""


@dataclass(frozen=True)
class Corpus:
    """The tokens of a harvest: one document a row, or several one after the other where rows are packed."""

    folder: Path
    name: str
    digest: str
    n_row: int
    context: int
    first: int
    """Places at the start of a document that hold no text: 1 with BOS, else 0."""
    n_tokens: int
    """Unmasked tokens: neither BOS nor padding."""
    sources: Sequence[str]
    vocabulary: tuple[str, ...]
    """Escaped text of each token id."""
    packed: bool = False
    """Whether a row may hold several documents; each begins with BOS where one does."""

    @classmethod
    def open(cls, harvest: Path) -> "Corpus":
        """The finished corpus of a harvest folder."""
        path = harvest / CORPUS_FOLDER / "corpus.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names = ("name", "digest", "n_row", "context", "first", "n_tokens")
            listed = values.get("sources")
            return cls(
                folder=harvest / CORPUS_FOLDER,
                sources=tuple(listed) if listed is not None else Names(path.with_name("sources.jsonl")),
                vocabulary=tuple(values["vocabulary"]),
                packed=bool(values.get("packed", False)),
                **{name: values[name] for name in names},
            )
        except FileNotFoundError:
            raise UsageError(f"{harvest} holds no finished corpus; run `autointerp harvest` first") from None
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{path} is damaged; run the harvest again in a new folder") from None

    @cached_property
    def tokens(self) -> Int[np.ndarray, "n_row context"]:
        """Token ids, memory-mapped."""
        path = self.folder / "tokens.bin"
        kind = token_type(len(self.vocabulary))
        if not path.is_file() or path.stat().st_size != self.n_row * self.context * np.dtype(kind).itemsize:
            raise RunError(f"{path} is missing or cut short; run the harvest again in a new folder")
        return np.memmap(path, dtype=kind, mode="r", shape=(self.n_row, self.context))

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        return map_arrays(self.folder / "rows.safetensors")[0]

    @cached_property
    def start(self) -> Int[np.ndarray, " n_document"]:
        """Slot of each document's first place, ascending; a slot is row * context + place in the row."""
        if self.packed:
            return np.asarray(self._rows["start"], dtype=np.int64)
        return np.arange(self.n_row, dtype=np.int64) * self.context

    @cached_property
    def length(self) -> Int[np.ndarray, " n_document"]:
        """Tokens in each document, BOS included."""
        return np.asarray(self._rows["length"], dtype=np.int64)

    @cached_property
    def source(self) -> Int[np.ndarray, " n_document"]:
        """Number of each document's source in `sources`."""
        return np.asarray(self._rows["source"], dtype=np.int64)

    def places(self, rows: Int[np.ndarray, " row"]) -> Places:
        """What stands in some rows, cut behind the last token of the fullest."""
        slot = rows[:, None] * self.context + np.arange(self.context)
        document = np.searchsorted(self.start, slot, side="right") - 1
        inside = slot - self.start[document]
        filled = inside < self.length[document]
        width = int(np.flatnonzero(filled.any(axis=0))[-1]) + 1
        return Places(np.where(filled, document, -1)[:, :width], (filled & (inside >= self.first))[:, :width])

    def count_tokens(self, rows: slice) -> int:
        """Unmasked tokens of some rows."""
        low, high = np.searchsorted(self.start, (rows.start * self.context, rows.stop * self.context))
        return int((self.length[low:high] - self.first).sum())


def token_type(d_vocab: int) -> type[np.uint16] | type[np.uint32]:
    """The type that token ids are stored in."""
    return np.uint16 if d_vocab <= 2**16 else np.uint32


class Names(Sequence[str]):
    """The texts of a file with one JSON text a line, decoded as they are asked for: a corpus may have millions."""

    def __init__(self, path: Path) -> None:
        self._lines = path.read_bytes()
        self._ends = np.flatnonzero(np.frombuffer(self._lines, np.uint8) == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        start = int(self._ends[number - 1]) + 1 if number else 0
        return str(json.loads(self._lines[start : int(self._ends[number])]))
