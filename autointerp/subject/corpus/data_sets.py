"""Hugging Face data sets as sources: one on the hub or a folder of files, streamed; one saved to disk, mapped.

A name and a split flow in, a `SourceStream` flows out; a stream's position is the library's own state. Knows no
tokenizer. The library `datasets` is imported when such a corpus is opened.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from autointerp.config import DataSetName
from autointerp.errors import RunError, UsageError
from autointerp.subject.corpus.extra import import_extra
from autointerp.subject.corpus.sources import Position, Source, SourceStream, make_source
from autointerp.subject.corpus.tables import sources_of, text_columns

ROWS_A_READ = 512


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def open_data_set(asked: DataSetName, column: str) -> SourceStream:
    """A data set's split: the one named, else `train`, else the only one.

    Raises:
        UsageError: there is no such data set, split or text column, or `datasets` is not installed.
        RunError: the hub does not answer.
    """
    library = import_extra("datasets", f"the data set {asked}")
    with _told(asked, library):
        if is_saved(Path(asked.name)):
            return SavedDataSet(asked, _load_saved(asked, library), column)
        builder = library.load_dataset_builder(asked.name, asked.config)
        rows = _split_of(builder.as_streaming_dataset(), asked)
        return StreamedDataSet(asked, rows, column, builder.hash)


def _load_saved(asked: DataSetName, library: ModuleType) -> Any:
    """The split's rows; where it has none, `save_to_disk` wrote no file of rows, and `datasets` does not open it."""
    folder = Path(asked.name)
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        folder = _split_of({name: folder / name for name in json.loads(splits.read_text("utf-8"))["splits"]}, asked)
    else:
        _split_of(folder, asked)
    if not json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]:
        raise UsageError(f"the data set {asked} holds no text; point --corpus at some that does")
    return library.load_from_disk(str(folder))


def _split_of(found: Any, asked: DataSetName) -> Any:
    if not isinstance(found, dict):
        if asked.split is not None:
            raise UsageError(f"the data set {asked.name} was saved without splits; leave out :{asked.split}")
        return found
    split = asked.split or ("train" if "train" in found else next(iter(found)) if len(found) == 1 else None)
    if split not in found:
        raise UsageError(
            f"the data set {asked.name} has the splits {', '.join(found)}; name one as hf:{asked.name}:SPLIT"
        )
    return found[split]


@contextmanager
def _told(asked: DataSetName, library: ModuleType, *, reading: bool = False) -> Iterator[None]:
    """What the library raises, as one sentence; what fails while rows are read is the network's or the disk's fault."""
    lost: tuple[type[Exception], ...] = (ConnectionError, TimeoutError)
    if reading:
        lost = (*lost, OSError, import_extra("huggingface_hub.errors", str(asked)).HTTPError)
    try:
        yield
    except lost as error:
        raise RunError(f"the data set {asked} cannot be reached ({_line(error)}); run again when it can") from None
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        raise UsageError(f"the data set {asked} cannot be read: {_line(error)}") from None


def _top(columns: list[str], names: list[str]) -> list[str]:
    """The columns that hold these, which may lie inside them."""
    return [column if column in names else column.split(".")[0] for column in columns]


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class SavedDataSet:
    """A split that `save_to_disk` wrote, memory-mapped."""

    notes: tuple[str, ...] = ()

    def __init__(self, asked: DataSetName, rows: Any, column: str) -> None:
        columns = text_columns(rows.features.arrow_schema, column, f"the data set {asked}")
        self._asked, self._column = asked, column
        self._rows = rows.select_columns(_top(columns, rows.column_names)).with_format("arrow")
        self._done = 0
        self.fingerprint: object = [str(asked), column, len(rows), rows._fingerprint]

    def read(self, position: Position | None) -> Iterator[Source]:
        """As `SourceStream`."""
        self._done = int(str((position or {}).get("row", 0)))
        name = Path(self._asked.name).resolve().name
        for first in range(self._done, len(self._rows), ROWS_A_READ):
            batches = self._rows[first : first + ROWS_A_READ].to_batches()
            for number, source in sources_of(batches, self._column, name, first, first, f"the data set {self._asked}"):
                self._done = number
                yield source

    def position(self) -> Position:
        """As `SourceStream`."""
        return {"row": self._done}

    def share(self) -> float:
        """As `SourceStream`."""
        return self._done / max(len(self._rows), 1)


class StreamedDataSet:
    """A split whose rows arrive one by one, from the hub or from a folder of files."""

    notes: tuple[str, ...] = ()

    def __init__(self, asked: DataSetName, rows: Any, column: str, content: str) -> None:
        """`content` is the library's hash of the files read and of their state."""
        self._asked, self._column = asked, column
        if rows.features is not None:
            columns = text_columns(rows.features.arrow_schema, column, f"the data set {asked}")
            rows = rows.select_columns(_top(columns, rows.column_names))
        self._rows = rows
        known = (rows.info.splits or {}).get(str(rows.split))
        self._all = int(known.num_examples or 0) if known is not None else 0
        self._done = 0
        self.fingerprint: object = [str(asked), column, content]

    def read(self, position: Position | None) -> Iterator[Source]:
        """As `SourceStream`."""
        self._done = 0
        if position is not None:
            self._done = int(str(position["row"]))
            self._rows.load_state_dict(position["state"])
        name = Path(self._asked.name).name
        with _told(self._asked, import_extra("datasets", f"the data set {self._asked}"), reading=True):
            for row in self._rows:
                self._done += 1
                text = self._text(row)
                given = row.get("id") if self._column != "id" else None
                source = str(given) if isinstance(given, str | int) else f"{name}:{self._done}"
                yield make_source(source, text)

    def _text(self, row: Any) -> str:
        value = row
        for part in [self._column] if self._column in row else self._column.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UsageError(
                    f"the data set {self._asked} has no text column {self._column!r} but {', '.join(row)}; "
                    f"set [harvest] text_column to one (one inside a structure is OUTER.INNER)"
                )
            value = value[part]
        if not isinstance(value, str | None):
            raise UsageError(
                f"the column {self._column!r} of the data set {self._asked} holds {type(value).__name__}, not text, in "
                f"row {self._done}; set [harvest] text_column"
            )
        return value or ""

    def position(self) -> Position:
        """As `SourceStream`."""
        return {"row": self._done, "state": self._rows.state_dict()}

    def share(self) -> float:
        """As `SourceStream`."""
        return min(self._done / self._all, 1.0) if self._all else 0.0
