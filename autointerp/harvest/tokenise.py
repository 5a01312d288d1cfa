"""Text to the tokens of a harvest: one document a row, right-padded, committed as a whole.

Sources and an encoder flow in, the `_corpus` folder of `harvest.events` comes out. Knows no model and no torch.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from autointerp.errors import UsageError
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.events import CORPUS_FOLDER, FORMAT_VERSION, Corpus
from autointerp.provenance import canonical_json, commit_file, write_atomically
from autointerp.subject.corpus.documents import cut_into_documents

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is (0 where unknown)."""


class TextSource(Protocol):
    """A text and its id, the split key."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...


class Encoding(NamedTuple):
    """How text becomes rows."""

    encode: Callable[[str], Sequence[int]]
    """Text to token ids, with no special tokens added."""
    vocabulary: tuple[str, ...]
    """Escaped text of each token id."""
    bos: int | None
    """Written at the start of every row, where not None."""
    pad: int
    context: int
    """Places a row, BOS included."""


def write_corpus(
    harvest: Path, name: str, sources: Iterable[TextSource], encoding: Encoding, progress: Progress
) -> Corpus:
    """Tokenise a corpus into `harvest/_corpus`; a finished one is opened as it is.

    Raises:
        UsageError: the corpus holds no text.
    """
    folder = harvest / CORPUS_FOLDER
    if (folder / "corpus.json").is_file():
        return Corpus.open_whole(harvest)
    folder.mkdir(parents=True, exist_ok=True)
    lengths, numbers = array("I"), array("I")
    ids: list[str] = []
    text_hash = hashlib.blake2b(digest_size=20)
    with (folder / "tokens.bin.tmp").open("wb") as file:
        for source in sources:
            if not source.text.strip():
                continue
            content = f"{len(source.id)} {len(source.text)} {source.id}{source.text}"
            text_hash.update(content.encode(errors="surrogatepass"))
            rows, row_lengths = _rows(source.text, encoding)
            file.write(rows.tobytes())
            lengths.extend(row_lengths)
            numbers.extend([len(ids)] * len(row_lengths))
            ids.append(source.id)
            progress("tokenise", len(ids), 0)
        file.flush()
        os.fsync(file.fileno())
    if not lengths:
        raise UsageError(f"the corpus {name} holds no text; point --corpus at files with some")
    commit_file(folder / "tokens.bin.tmp", folder / "tokens.bin")
    save_arrays(
        folder / "rows.safetensors",
        {"length": np.frombuffer(lengths, np.uint32), "source": np.frombuffer(numbers, np.uint32)},
    )
    values = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "digest": "blake2b:" + text_hash.hexdigest(),
        "n_row": len(lengths),
        "context": encoding.context,
        "first": int(encoding.bos is not None),
        "n_tokens": sum(lengths) - len(lengths) * (encoding.bos is not None),
        "sources": ids,
        "vocabulary": list(encoding.vocabulary),
    }
    write_atomically(folder / "corpus.json", canonical_json(values))
    return Corpus.open_whole(harvest)


def _rows(text: str, encoding: Encoding) -> tuple[np.ndarray, list[int]]:
    """The documents of one source as right-padded rows [n, context], and their lengths with BOS."""
    start = [] if encoding.bos is None else [encoding.bos]
    documents = cut_into_documents(text, encoding.encode, encoding.context - len(start))
    kind = np.uint16 if len(encoding.vocabulary) <= 2**16 else np.uint32
    rows = np.full((len(documents), encoding.context), encoding.pad, dtype=kind)
    for row, ids in zip(rows, documents, strict=True):
        row[: len(start) + len(ids)] = [*start, *ids]
    return rows, [len(start) + len(ids) for ids in documents]
