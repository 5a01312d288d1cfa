"""Text to the tokens of a harvest: right-padded rows of documents, appended and committed as they come.

A stream of sources and an encoder flow in, the `_corpus` folder of `harvest.tokens` comes out. Whatever kills it, the
next start goes on behind the last commit and ends with the same bytes. Knows no model and no torch.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autointerp.errors import UsageError
from autointerp.harvest.appended import AppendedFiles
from autointerp.harvest.arrays import save_arrays
from autointerp.harvest.tokens import CORPUS_FOLDER, FORMAT_VERSION, Corpus, token_type
from autointerp.provenance import canonical_json, digest, digest_file, seal, write_atomically
from autointerp.subject.corpus.documents import Encode, cut_into_documents
from autointerp.subject.corpus.sources import Position, Source, SourceStream

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done and what there is (0 where unknown)."""

SECONDS_BETWEEN_COMMITS = 5.0
SOURCES_A_BATCH = 1024
CHARACTERS_A_BATCH = 1_000_000
MUCH_PADDING, MANY_ROWS = 0.1, 100
"""Share of all places, and number of rows, from which padding is told."""
PARTIAL = "partial"
"""Folder of what is needed only until the corpus is finished."""


class Encoding(NamedTuple):
    """How text becomes rows."""

    encode: Encode
    """Texts to token ids, with no special tokens added."""
    vocabulary: tuple[str, ...]
    """Escaped text of each token id."""
    bos: int | None
    """Written at the start of every document, where not None."""
    pad: int
    context: int
    """Places a row, BOS included."""
    pack: bool = False
    """Whether a row takes documents as long as they fit; else it holds one."""


@dataclass
class Counts:
    """What was read so far."""

    sources: int = 0
    """Sources with text."""
    empty: int = 0
    """Sources without, which are left out."""
    mended: int = 0
    """Sources with characters that no text can hold, written as question marks."""
    documents: int = 0
    rows: int = 0
    """Rows written, the open one not counted."""
    n_tokens: int = 0
    """BOS not counted."""


def write_corpus(
    harvest: Path,
    name: str,
    open_stream: Callable[[], SourceStream],
    encoding: Encoding,
    progress: Progress,
    note: Callable[[str], None],
    n_tokens: int | None = None,
) -> Corpus:
    """Tokenise a corpus into `harvest/_corpus`, going on where a killed start committed; a finished one is opened.

    Sources are read until they have `n_tokens` tokens, where given; the last one is whole. The stream is opened only
    where something is left to read.

    Raises:
        UsageError: the corpus holds no text, or a source cannot be read.
    """
    folder = harvest / CORPUS_FOLDER
    if not (folder / "corpus.json").is_file():
        sources = open_stream()
        for remark in sources.notes:
            note(remark)
        values = [sources.fingerprint, digest(encoding.vocabulary), *encoding[2:], n_tokens]
        writer = _Writer(folder, encoding, digest(values))
        with writer.files:
            _read_all(writer, sources, progress, n_tokens)
        if not writer.counts.documents:
            raise UsageError(f"the corpus {name} holds no text; point --corpus at some that does")
        writer.finish(name, note)
        _report_reading(writer.counts, encoding, n_tokens, note)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return Corpus.open_whole(harvest)


def _read_all(writer: "_Writer", sources: SourceStream, progress: Progress, n_tokens: int | None) -> None:
    stream = sources.read(writer.position)
    committed = time.monotonic()
    while n_tokens is None or writer.counts.n_tokens < n_tokens:
        batch = list(_batch(stream))
        if not batch:
            break
        writer.add(batch, n_tokens)
        writer.position = sources.position()
        share, done = sources.share(), writer.counts.n_tokens
        progress("tokenise", done, min(round(done / share) if share else n_tokens or 0, n_tokens or 2**62))
        if time.monotonic() - committed >= SECONDS_BETWEEN_COMMITS:
            writer.commit()
            committed = time.monotonic()
    writer.close_row()
    writer.commit()
    progress("tokenise", writer.counts.n_tokens, writer.counts.n_tokens)


def _batch(stream: Iterator[Source]) -> Iterator[Source]:
    """The next sources, enough to be worth a call of the tokenizer."""
    n_source, characters = 0, 0
    for source in stream:
        yield source
        n_source, characters = n_source + 1, characters + len(source.text)
        if n_source == SOURCES_A_BATCH or characters >= CHARACTERS_A_BATCH:
            return


class _Writer:
    """The files of a corpus that is being written, and where its reading stands."""

    def __init__(self, folder: Path, encoding: Encoding, asked: str) -> None:
        """`asked` is a digest of all that the bytes depend on; what another asked for is begun anew."""
        self._folder, self._encoding = folder, encoding
        self._start = [] if encoding.bos is None else [encoding.bos]
        self._type = token_type(len(encoding.vocabulary))
        names = (
            "tokens.bin",
            "sources.jsonl",
            *(f"{PARTIAL}/{name}" for name in ("length", "source", "start", "text")),
        )
        self.files = AppendedFiles(folder, names, folder / PARTIAL / "position.json", asked)
        state = self.files.state
        self.position: Position | None = state.get("position")
        self.counts = Counts(**state.get("counts", {}))
        self._digest = bytes.fromhex(state.get("digest", ""))
        self._row: list[int] = state.get("row", [])
        """Tokens of the open row."""

    def add(self, batch: list[Source], most: int | None) -> None:
        """Append sources until `most` tokens are there."""
        texts = [source.text if source.text.strip() else "" for source in batch]
        room = self._encoding.context - len(self._start)
        cut = cut_into_documents(texts, self._encoding.encode, room)
        for source, documents in zip(batch, cut, strict=True):
            if most is not None and self.counts.n_tokens >= most:
                return
            self.counts.mended += source.mended
            if not documents:
                self.counts.empty += 1
                continue
            self._add_source(source, documents)

    def _add_source(self, source: Source, documents: list[list[int]]) -> None:
        content = f"{len(source.id)} {len(source.text)} {source.id}{source.text}".encode()
        self._digest = hashlib.blake2b(self._digest + content, digest_size=20).digest()
        write = self.files.write
        write("sources.jsonl", canonical_json(source.id).encode() + b"\n")
        write(f"{PARTIAL}/text", hashlib.blake2b(source.text.encode(), digest_size=8).digest())
        starts = []
        for ids in documents:
            length = len(self._start) + len(ids)
            if self._row and not (self._encoding.pack and len(self._row) + length <= self._encoding.context):
                self.close_row()
            starts.append(self.counts.rows * self._encoding.context + len(self._row))
            self._row += [*self._start, *ids]
        lengths = np.array([len(self._start) + len(ids) for ids in documents], np.uint32)
        write(f"{PARTIAL}/length", lengths.tobytes())
        write(f"{PARTIAL}/source", np.full(len(documents), self.counts.sources, np.uint32).tobytes())
        write(f"{PARTIAL}/start", np.array(starts, np.uint64).tobytes())
        self.counts.sources += 1
        self.counts.documents += len(documents)
        self.counts.n_tokens += sum(map(len, documents))

    def close_row(self) -> None:
        """Write the open row, if any, and begin another."""
        if self._row:
            padding = [self._encoding.pad] * (self._encoding.context - len(self._row))
            self.files.write("tokens.bin", np.array(self._row + padding, self._type).tobytes())
            self.counts.rows += 1
            self._row = []

    def commit(self) -> None:
        """From here on a kill loses nothing that was added."""
        counts = asdict(self.counts)
        state = {"position": self.position, "counts": counts, "digest": self._digest.hex(), "row": self._row}
        self.files.commit(state)

    def finish(self, name: str, note: Callable[[str], None]) -> None:
        """The arrays over documents, then `corpus.json`."""
        partial = self._folder / PARTIAL
        arrays = {key: np.fromfile(partial / key, np.uint32) for key in ("length", "source")}
        if self._encoding.pack:
            arrays["start"] = np.fromfile(partial / "start", np.uint64).astype(np.int64)
        save_arrays(self._folder / "rows.safetensors", arrays)
        repeated = self.counts.sources - len(np.unique(np.fromfile(partial / "text", np.uint64)))
        counts = {**asdict(self.counts), "repeated": repeated}
        values = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "digest": "blake2b:" + self._digest.hex(),
            "file_digests": {name: digest_file(self._folder / name) for name in ("tokens.bin", "sources.jsonl")},
            "n_row": self.counts.rows,
            "packed": self._encoding.pack,
            "context": self._encoding.context,
            "first": len(self._start),
            "n_tokens": self.counts.n_tokens,
            "counts": counts,
            "vocabulary": list(self._encoding.vocabulary),
        }
        write_atomically(self._folder / "corpus.json", seal(values))
        _report(counts, note)


def _report_reading(counts: Counts, encoding: Encoding, n_tokens: int | None, note: Callable[[str], None]) -> None:
    """What of the corpus was not read, and what of the rows holds no text."""
    if n_tokens is not None and counts.n_tokens >= n_tokens:
        note(
            f"the first {counts.sources:,} sources of the corpus, in the order of its files, have the {n_tokens:,} "
            f"tokens asked for, and no more was read: of a corpus sorted by kind that may be one kind"
        )
    filled = (counts.n_tokens + counts.documents * (encoding.bos is not None)) / max(counts.rows * encoding.context, 1)
    if filled < 1 - MUCH_PADDING and counts.rows >= MANY_ROWS and not encoding.pack:
        note(
            f"padding takes {1 - filled:.0%} of the rows, which hold one document each, cut at ends of paragraphs; "
            f"[harvest] pack = true fills rows with several"
        )


def _report(counts: dict[str, int], note: Callable[[str], None]) -> None:
    odd = {
        "without text, left out": counts["empty"],
        "with the same text as another, kept": counts["repeated"],
        "with characters that no text can hold, written as ?": counts["mended"],
    }
    said = "; ".join(f"{n:,} {what}" for what, n in odd.items() if n)
    if said:
        note(f"of {counts['sources'] + counts['empty']:,} sources in the corpus: {said}")
