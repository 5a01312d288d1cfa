"""Text files and JSON lines, also packed by gzip or Zstandard, as sources.

A path and the number of records to pass over flow in; records flow out one at a time, a file never whole in memory
unless it is one source. Knows no folder and no tokenizer.
"""

import codecs
import errno
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from autointerp.errors import RunError, UsageError
from autointerp.limits import SOURCE, TooLargeError, lines_of
from autointerp.subject.corpus.extra import import_extra
from autointerp.subject.corpus.sources import Source, make_source

PAGE_CHARACTERS = 2_000
LOST = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV)
"""What a disk across a network says when it is away."""


class Record(NamedTuple):
    """One source read from a file."""

    number: int
    """Records of the file read so far, this one included: lines, pages or rows."""
    share: float
    """Part of the file read so far, 0 to 1."""
    source: Source


def read_json_lines(file: Path, name: str, column: str, skip: int) -> Iterator[Record]:
    """The objects of a JSON-lines file after the first `skip` lines; a null text is an empty one.

    Raises:
        UsageError: a line is no JSON object with a text; the message names it.
    """
    with _open(file) as (lines, raw):
        size = max(file.stat().st_size, 1)
        for number, line in enumerate(lines_of(lines), start=1):
            line = line.removeprefix(codecs.BOM_UTF8)
            if number > skip and line.strip():
                yield Record(number, raw.tell() / size, _source_of_line(file, name, number, line, column))


def _source_of_line(file: Path, name: str, number: int, line: bytes, column: str) -> Source:
    where = f"{file} line {number}"
    try:
        row = json.loads(_decode(line, where).rstrip("\r\n"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise UsageError(f"{where} holds a whole number of more than {most:,} digits; put it in quotes") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply to be a document") from None
    value = row
    for key in [column] if isinstance(row, dict) and column in row else column.split("."):
        if not isinstance(value, dict) or key not in value:
            keys = f"; its keys are {', '.join(map(str, row)) or 'none'}" if isinstance(row, dict) else ""
            raise UsageError(
                f'{where} has no "{column}"{keys}; each line is an object like {{"{column}": "…"}}, and '
                f"[harvest] text_column names another key"
            )
        value = value[key]
    if not isinstance(value, str | None):
        raise UsageError(
            f'{where}: "{column}" holds {type(value).__name__}, not text; [harvest] text_column names another'
        )
    source = str(row["id"]) if row.get("id") is not None else f"{name}:{number}"
    return make_source(source, value)


def read_pages(file: Path, name: str, column: str, skip: int) -> Iterator[Record]:
    """A text file in pages of about `PAGE_CHARACTERS`, cut at blank lines, or at any line once twice as long."""
    with _open(file) as (lines, raw):
        size = max(file.stat().st_size, 1)
        for number, page in enumerate(_pages(_text_lines(file, lines)), start=1):
            if number > skip:
                yield Record(number, raw.tell() / size, Source(f"{name}#{number}", page))


def read_whole(file: Path, name: str, column: str, skip: int) -> Iterator[Record]:
    """A text file as one source."""
    if not skip:
        with _open(file) as (lines, _):
            yield Record(1, 1.0, Source(name, "".join(_within(file, _text_lines(file, lines)))))


def _within(file: Path, lines: Iterator[str]) -> Iterator[str]:
    """The lines of what is to be one source."""
    size = 0
    for line in lines:
        size += len(line)
        if size > SOURCE:
            raise TooLargeError("it is to be one source, and is larger than that")
        yield line


@contextmanager
def _open(file: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The unpacked content, and the file under it, whose place tells how much was read.

    Raises:
        UsageError: the file cannot be read, or is not packed as its name says; also while the block reads it.
        RunError: the disk failed.
    """
    try:
        with file.open("rb") as raw:
            yield _unpack(file, raw), raw
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UsageError(f"{file} is no whole gzip file ({error}); get it again") from None
    except TooLargeError as error:
        raise UsageError(
            f"{file} cannot be read as a corpus: {error}; a source has at most {SOURCE // 2**20} MB, so split it"
        ) from None
    except OSError as error:
        if error.errno in LOST:
            raise RunError(f"the disk of {file} failed ({error.strerror}); run again when it is back") from None
        if error.errno is None and file.suffix.lower() == ".zst":
            raise UsageError(f"{file} is no whole Zstandard file ({error}); get it again") from None
        raise UsageError(f"cannot read the corpus file {file}: {error.strerror or error}") from None


def _unpack(file: Path, raw: BinaryIO) -> BinaryIO:
    if file.suffix.lower() == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if file.suffix.lower() == ".zst":
        arrow = import_extra("pyarrow", f"the packed corpus file {file}")
        return io.BufferedReader(arrow.CompressedInputStream(arrow.PythonFile(raw, mode="r"), "zstd"))
    return raw


def _text_lines(file: Path, lines: BinaryIO) -> Iterator[str]:
    """Lines that end in a newline, whatever ended them in the file."""
    for number, line in enumerate(lines_of(lines), start=1):
        text = _decode(line.removeprefix(codecs.BOM_UTF8), f"{file} line {number}")
        if "\r" in text:
            yield from io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
        else:
            yield text


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8 text ({error.reason} at byte {error.start} of the line); convert it first"
        ) from None


def _pages(lines: Iterator[str]) -> Iterator[str]:
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
