"""What a configuration calls its corpus, opened: the built-in one, a user's files, or a data set.

A name flows in, a `SourceStream` flows out in a fixed order. A source is what the parts are split by: a JSON line, a
row of a table, a text file, or, where a corpus has few text files, a page of one. Knows no tokenizer.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from autointerp.config import parse_data_set
from autointerp.errors import UsageError, near_matches
from autointerp.settings import PYTHON_DOCS, encodes
from autointerp.subject.corpus.data_sets import is_saved, open_data_set
from autointerp.subject.corpus.python_docs import read_python_docs
from autointerp.subject.corpus.sources import ListedSources, Position, Source, SourceStream, encodable
from autointerp.subject.corpus.tables import read_parquet
from autointerp.subject.corpus.text_files import Record, read_json_lines, read_pages, read_whole

Reader = Callable[[Path, str, str, int], Iterator[Record]]
"""A file, its name, the text column and the number of records to pass over, to its records."""

READERS: dict[str, Reader] = {
    ".txt": read_pages,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}
PACKED = (".gz", ".zst")
"""Endings that may stand behind those of text."""
FEW_FILES = 100
"""Below this many text files the split goes by page, else one file would be one part."""
NAMED = 3
"""Files named of those that are left out."""
KINDS = ".txt, .jsonl (also .gz or .zst) or .parquet"


def corpus_name(spec: str) -> str:
    """A short name for a corpus: the built-in one's, the data set's, or the path's last part."""
    asked = parse_data_set(spec)
    if asked is not None:
        return str(asked).removeprefix("hf:") if not Path(asked.name).exists() else Path(asked.name).resolve().name
    return spec if spec == PYTHON_DOCS else Path(spec).resolve().name


def open_sources(spec: str, cache: Path, column: str = "text") -> SourceStream:
    """The sources of `python-docs`, of a file, of a folder read recursively in name order, or of a data set.

    Raises:
        UsageError: no such corpus or text column, or a file that cannot be read.
    """
    if spec == PYTHON_DOCS:
        return ListedSources(PYTHON_DOCS, lambda: read_python_docs(cache))
    asked = parse_data_set(spec)
    path = Path(spec)
    if asked is None and is_saved(path):
        asked = parse_data_set(f"hf:{spec}")
    if asked is not None:
        return open_data_set(asked, column)
    if path.is_file():
        found, root = [path], path.parent
    elif path.is_dir():
        found, root = _files_in(path), path
    else:
        near = near_matches(spec, [PYTHON_DOCS, *(str(p) for p in Path().iterdir())])
        raise UsageError(
            f"there is no corpus {spec!r}: give python-docs, a {KINDS} file, a folder of them, or hf:DATA_SET; "
            f"near: {near}"
        )
    files = [f for f in found if _ending(f) in READERS]
    if not files:
        raise UsageError(f"{path} holds no {KINDS} file; other formats cannot be read as a corpus")
    for file in files:
        if not encodes(str(file)):
            raise UsageError(f"the name of the corpus file {str(file)!r} is not UTF-8; rename it")
    return FileSources(files, root, column, _left_out(found, root))


def _files_in(folder: Path) -> list[Path]:
    """All files under a folder in name order, and the links to folders, which are not followed.

    Raises:
        UsageError: a folder cannot be listed, or what is called like a text is no file.
    """

    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read the corpus folder {error.filename}: {error.strerror}") from None

    found: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=refuse):
        found += [Path(at, name) for name in names]
        found += [Path(at, name) for name in folders if Path(at, name).is_symlink()]
    for file in found:
        if _ending(file) in READERS and not file.is_file():
            raise UsageError(f"the corpus file {file} is no file, or a link to nothing; mend or remove it")
    return sorted(found)


def _left_out(found: list[Path], root: Path) -> tuple[str, ...]:
    """A sentence on the files of a folder that are not read, where there are any."""
    others = [encodable(f.relative_to(root).as_posix()) for f in found if _ending(f) not in READERS]
    if not others:
        return ()
    more = f" and {len(others) - NAMED:,} more" if len(others) > NAMED else ""
    named = ", ".join(others[:NAMED]) + more
    return (
        f"of {len(found):,} files in the corpus folder: {len(others):,} of no kind that is read, left out ({named})",
    )


def _ending(file: Path) -> str:
    """What a file's name says it holds, in lower case and without a packing."""
    suffix = file.suffix.lower()
    inner = Path(file.stem).suffix.lower() if suffix in PACKED else suffix
    return "" if inner == ".parquet" and suffix in PACKED else inner


class FileSources:
    """The sources of files, one file after the other."""

    def __init__(self, files: list[Path], root: Path, column: str, notes: tuple[str, ...]) -> None:
        self._files, self._root, self._column, self.notes = files, root, column, notes
        self._by_page = sum(_ending(f) == ".txt" for f in files) < FEW_FILES
        self._sizes = [f.stat().st_size for f in files]
        self._file, self._record, self._share = 0, 0, 0.0
        names = [f.relative_to(root).as_posix() for f in files]
        times = [f.stat().st_mtime_ns for f in files]
        self.fingerprint: object = [column, [list(row) for row in zip(names, self._sizes, times, strict=True)]]

    def read(self, position: Position | None) -> Iterator[Source]:
        """As `SourceStream`."""
        values = position or {"file": 0, "record": 0}
        self._file, self._record = int(str(values["file"])), int(str(values["record"]))
        while self._file < len(self._files):
            file = self._files[self._file]
            reader = READERS[_ending(file)]
            if reader is read_pages and not self._by_page:
                reader = read_whole
            name = file.relative_to(self._root).as_posix()
            for record in reader(file, name, self._column, self._record):
                self._record, self._share = record.number, record.share
                yield record.source
            self._file, self._record, self._share = self._file + 1, 0, 0.0

    def position(self) -> Position:
        """As `SourceStream`."""
        return {"file": self._file, "record": self._record}

    def share(self) -> float:
        """As `SourceStream`."""
        here = self._share * self._sizes[self._file] if self._file < len(self._files) else 0.0
        return float((sum(self._sizes[: self._file]) + here) / max(sum(self._sizes), 1))
