"""The tokens of a harvest, read without torch and by memory map: `harvest.tokenise` writes them.

    _corpus/tokens.bin           token ids, right-padded rows; uint16 or uint32 [n_row, context]
    _corpus/rows.safetensors     length and source number of each document; where rows are packed, also its first slot
    _corpus/sources.jsonl        the sources' ids, a JSON text a line
    _corpus/corpus.json          what the tokens are: vocabulary, counts, digests; written last
    _corpus/kept.safetensors     the documents whose events are all kept, where that is a sample

A harvest's folder flows in, arrays flow out. Where a sample is kept, readers see a corpus of the kept documents alone,
each in a row of its own, numbered from 0. Knows no feature and no model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Int

from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import REPAIR, map_arrays
from autointerp.provenance import digest_bytes, digest_file, unseal

FORMAT_VERSION = 3
"""Of all files of a harvest."""
CORPUS_FOLDER = "_corpus"
KEPT = "kept.safetensors"


class Places(NamedTuple):
    """What stands at each place of some rows."""

    document: Int[np.ndarray, "row place"]
    """Number of the document; -1 in padding."""
    inside: Int[np.ndarray, "row place"]
    """Place in the document, BOS included; of no meaning in padding."""
    text: Bool[np.ndarray, "row place"]
    """Neither BOS nor padding."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """The tokens of a harvest: one document a row, or several one after the other where rows are packed.

    Of all documents, or of the kept ones alone.
    """

    folder: Path
    name: str
    digest: str
    n_row: int
    context: int
    first: int
    """Places at the start of a document that hold no text: 1 with BOS, else 0."""
    n_tokens: int
    """Tokens of all documents, kept or not, that are neither BOS nor padding."""
    file_digests: Mapping[str, str]
    """Of the files without checksums of their own."""
    sources: Sequence[str]
    vocabulary: tuple[str, ...]
    """Escaped text of each token id."""
    packed: bool = False
    """Whether a row may hold several documents; each begins with BOS where one does."""
    kept: Int[np.ndarray, " n_kept"] | None = None
    """Numbers of the documents whose events are kept, ascending; None where all are."""
    whole: "Corpus | None" = None
    """The corpus of all documents, where only the kept ones are seen here."""

    @classmethod
    def open(cls, harvest: Path) -> "Corpus":
        """The finished corpus of a harvest folder; of a kept sample only the documents that are in it.

        Raises:
            UsageError: there is none, or another version of autointerp made it.
            RunError: it is damaged.
        """
        return cls.open_whole(harvest).seen

    @classmethod
    def open_whole(cls, harvest: Path) -> "Corpus":
        """As `open`, with all documents."""
        path = harvest / CORPUS_FOLDER / "corpus.json"
        try:
            values = read_sealed(path)
            names = ("name", "digest", "file_digests", "n_row", "context", "first", "n_tokens", "packed")
            kept = path.parent / KEPT
            return cls(
                folder=path.parent,
                kept=np.asarray(map_arrays(kept)[0]["document"], dtype=np.int64) if kept.is_file() else None,
                sources=Names(path.with_name("sources.jsonl"), values["file_digests"]["sources.jsonl"]),
                vocabulary=tuple(values["vocabulary"]),
                **{name: values[name] for name in names},
            )
        except FileNotFoundError:
            raise UsageError(f"{harvest} holds no finished corpus; run `autointerp harvest` first") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RunError(f"{path} is damaged; {REPAIR}") from None

    @property
    def seen(self) -> "Corpus":
        """The kept documents alone, each in a row of its own."""
        return self if self.kept is None else replace(self, whole=self, n_row=len(self.kept), packed=False)

    @cached_property
    def tokens(self) -> Int[np.ndarray, "n_row context"]:
        """Token ids; memory-mapped where all documents are here, and read once to see that nothing changed.

        Raises:
            RunError: something did.
        """
        if self.whole is not None:
            return self._own_rows(self.whole)
        path = self.folder / "tokens.bin"
        kind = token_type(len(self.vocabulary))
        if not path.is_file() or path.stat().st_size != self.n_row * self.context * np.dtype(kind).itemsize:
            raise RunError(f"{path} is missing or cut short; {REPAIR}")
        if digest_file(path) != self.file_digests[path.name]:
            raise RunError(f"{path} is damaged; {REPAIR}")
        return np.memmap(path, dtype=kind, mode="r", shape=(self.n_row, self.context))

    def _own_rows(self, whole: "Corpus") -> Int[np.ndarray, "n_kept context"]:
        slots = whole.tokens.reshape(-1)
        rows = np.zeros((self.n_row, self.context), slots.dtype)
        for row, start, length in zip(rows, whole.start[self.kept].tolist(), self.length.tolist(), strict=True):
            row[:length] = slots[start : start + length]
        return rows

    def _of_seen(self, name: str) -> Int[np.ndarray, " n_document"]:
        values = self._rows[name]
        return np.asarray(values if self.whole is None else values[self.kept], dtype=np.int64)

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
        return self._of_seen("length")

    @cached_property
    def source(self) -> Int[np.ndarray, " n_document"]:
        """Number of each document's source in `sources`."""
        return self._of_seen("source")

    def document_of(self, slots: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Number of the document at each slot; of padding, that of the document before it."""
        if not self.packed:
            return np.asarray(slots // self.context)
        return np.asarray(np.searchsorted(self.start, slots, side="right") - 1)

    def places(self, rows: Int[np.ndarray, " row"]) -> Places:
        """What stands in some rows, cut behind the last token of the fullest."""
        slot = rows[:, None] * self.context + np.arange(self.context)
        document = self.document_of(slot)
        inside = slot - self.start[document]
        filled = inside < self.length[document]
        width = int(np.flatnonzero(filled.any(axis=0))[-1]) + 1
        arrays = np.where(filled, document, -1), inside, filled & (inside >= self.first)
        return Places(*(array[:, :width] for array in arrays))

    def count_tokens(self, rows: slice) -> int:
        """Unmasked tokens of some rows."""
        low, high = np.searchsorted(self.start, (rows.start * self.context, rows.stop * self.context))
        return int((self.length[low:high] - self.first).sum())


def has_tokens(harvest: Path, *, sampled: bool) -> bool:
    """Whether a harvest's folder holds finished tokens, and where a sample of them is kept, which."""
    folder = harvest / CORPUS_FOLDER
    return (folder / "corpus.json").is_file() and (not sampled or (folder / KEPT).is_file())


def read_sealed(path: Path) -> dict[str, Any]:
    """The values of a sealed file of a harvest.

    Raises:
        UsageError: they are of another format.
        ValueError, KeyError, TypeError, AttributeError: they changed, or are none.
    """
    text = path.read_text(encoding="utf-8")
    try:
        values = unseal(text)
    except ValueError as error:
        try:
            unsealed = json.loads(text)  # formats before this one had no seal
        except RecursionError:
            raise error from None
        _check_version(unsealed, path.parent)
        raise
    _check_version(values, path.parent)
    return values


def _check_version(values: dict[str, Any], folder: Path) -> None:
    """Refuse what another version wrote; `values` are a file's in `folder`.

    Raises:
        UsageError: they are of another format.
        KeyError: they name none.
    """
    if values["format_version"] != FORMAT_VERSION:
        raise UsageError(
            f"{folder} was harvested by another version of autointerp (format {values['format_version']}, this one "
            f"reads {FORMAT_VERSION}); move {folder.parent} away and run the harvest again, or choose another --out"
        )


def token_type(d_vocab: int) -> type[np.uint16] | type[np.uint32]:
    """The type that token ids are stored in."""
    return np.uint16 if d_vocab <= 2**16 else np.uint32


class Names(Sequence[str]):
    """The texts of a file with one JSON text a line, decoded as they are asked for: a corpus may have millions."""

    def __init__(self, path: Path, digest: str) -> None:
        """Raises RunError where the file's digest is another, or it is not there."""
        self._lines = path.read_bytes() if path.is_file() else b""
        if digest_bytes([self._lines]) != digest:
            raise RunError(f"{path} is damaged; {REPAIR}")
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
