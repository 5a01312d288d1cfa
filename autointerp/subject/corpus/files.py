"""A user's own text as sources: `.txt` and `.jsonl` files, or folders of them.

Paths flow in, sources flow out in a fixed order. A source is what the parts are split by: a JSON line, a text file,
or, where a corpus has few text files, a page of one. Knows no tokenizer.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from autointerp.config import PYTHON_DOCS
from autointerp.errors import UsageError, near_matches
from autointerp.subject.corpus.python_docs import read_python_docs
from autointerp.subject.corpus.sources import Source

FEW_FILES = 100
"""Below this many text files the split goes by page, else one file would be one part."""
PAGE_CHARACTERS = 2_000


def corpus_name(spec: str) -> str:
    """A short name for a corpus: the built-in one's, or the path's last part."""
    return spec if spec == PYTHON_DOCS else Path(spec).resolve().name


def open_sources(spec: str, cache: Path) -> Iterator[Source]:
    """The sources of `python-docs`, of a file, or of a folder read recursively in name order.

    Raises:
        UsageError: no such corpus, a file that is not UTF-8, or a JSON line without text.
    """
    if spec == PYTHON_DOCS:
        return read_python_docs(cache)
    path = Path(spec)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".jsonl") and p.is_file())
    else:
        near = near_matches(spec, [PYTHON_DOCS, *(str(p) for p in Path().iterdir())])
        raise UsageError(
            f"there is no corpus {spec!r}: give python-docs, a .txt or .jsonl file, or a folder; near: {near}"
        )
    if not files or any(f.suffix not in (".txt", ".jsonl") for f in files):
        raise UsageError(f"{path} holds no .txt or .jsonl file; other formats cannot be read as a corpus")
    root = path if path.is_dir() else path.parent
    by_page = sum(f.suffix == ".txt" for f in files) < FEW_FILES
    return (source for file in files for source in _read_file(file, root, by_page))


def _read_file(file: Path, root: Path, by_page: bool) -> Iterator[Source]:
    name = file.relative_to(root).as_posix()
    try:
        if file.suffix == ".jsonl":
            yield from _read_lines(file, name)
        elif by_page:
            with file.open(encoding="utf-8") as lines:
                yield from (Source(f"{name}#{n}", page) for n, page in enumerate(_pages(lines), start=1))
        else:
            yield Source(name, file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first") from None
    except OSError as error:
        raise UsageError(f"cannot read the corpus file {file}: {error.strerror}") from None


def _read_lines(file: Path, name: str) -> Iterator[Source]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UsageError(f"{file} line {number} is not JSON: {error}") from None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UsageError(f'{file} line {number} has no "text"; each line is an object like {{"text": "…"}}')
            source = str(row["id"]) if "id" in row else f"{name}:{number}"
            yield Source(_encodable(source), _encodable(row["text"]))


def _encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can spell and UTF-8 cannot hold, replaced by question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _pages(lines: Iterator[str]) -> Iterator[str]:
    """Pages of about `PAGE_CHARACTERS`, cut at blank lines, or at any line once twice as long."""
    page: list[str] = []
    size = 0
    for line in lines:
        page.append(line)
        size += len(line)
        if size >= PAGE_CHARACTERS and (not line.strip() or size >= 2 * PAGE_CHARACTERS):
            yield "".join(page)
            page, size = [], 0
    if page:
        yield "".join(page)
