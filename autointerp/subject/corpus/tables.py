"""Tables of Arrow columns, as sources: Parquet files here, and the rows of data sets for `data_sets`.

A path or record batches and the number of rows to pass over flow in; records flow out, a row group's one column in
memory at a time. Knows no folder and no tokenizer.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autointerp.errors import UsageError
from autointerp.limits import GROUP, LARGE_TEXT, SOURCE, is_bomb
from autointerp.subject.corpus.extra import import_extra
from autointerp.subject.corpus.sources import Source, make_source
from autointerp.subject.corpus.text_files import Record

ROWS_A_BATCH = 512


def read_parquet(file: Path, name: str, column: str, skip: int) -> Iterator[Record]:
    """The rows of a Parquet file after the first `skip`; row groups before them are not read. A null text is empty.

    Raises:
        UsageError: it is no Parquet file, has no such text column, or holds text that is not UTF-8.
    """
    arrow = import_extra("pyarrow", f"the Parquet file {file}")
    parquet = import_extra("pyarrow.parquet", f"the Parquet file {file}")
    try:
        with parquet.ParquetFile(file) as table:
            columns = text_columns(table.schema_arrow, column, str(file))
            n_row, passed = max(table.metadata.num_rows, 1), 0
            for group in range(table.metadata.num_row_groups):
                before, passed = passed, passed + table.metadata.row_group(group).num_rows
                if passed > skip:
                    rows = _rows_at_a_time(table.metadata.row_group(group), columns, file)
                    batches = table.iter_batches(
                        batch_size=rows, row_groups=[group], columns=columns, use_threads=False
                    )
                    for number, source in sources_of(batches, column, name, before, skip, str(file)):
                        yield Record(number, number / n_row, source)
    except (arrow.ArrowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{file} cannot be read as a Parquet file ({reason}); get it again") from None


def _rows_at_a_time(group: Any, columns: Sequence[str], file: Path) -> int:
    """As many rows of a row group as cannot fill the memory, however often one text is repeated in them.

    Raises:
        UsageError: it unpacks to what no text does.
    """
    rows = ROWS_A_BATCH
    for i in range(group.num_columns):
        chunk = group.column(i)
        if chunk.path_in_schema not in columns:
            continue
        packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
        if is_bomb(packed, unpacked, LARGE_TEXT):
            raise UsageError(
                f"{file} holds {packed / 2**10:,.0f} kB that unpack to {unpacked / 2**20:,.0f} MB of "
                f"{chunk.path_in_schema!r}, which no text does; leave it out"
            )
        if chunk.has_dictionary_page:  # each text is there once, and every row may be the longest
            rows = max(1, min(rows, GROUP // max(unpacked, 1)))
    return rows


def text_columns(schema: Any, column: str, where: str) -> list[str]:
    """The columns of an Arrow schema to read: that of the text, which may lie inside a structure, and `id`.

    Raises:
        UsageError: there is no such column, it holds no text, or two columns to read have one name.
    """
    arrow = import_extra("pyarrow", where)
    kind: Any = None
    names: list[str] = schema.names
    for part in _parts(column, names):
        inside = list(schema if kind is None else kind) if kind is None or arrow.types.is_struct(kind) else []
        fields = {field.name: field.type for field in inside}
        if part not in fields:
            raise UsageError(
                f"{where} has no text column {column!r} but {', '.join(names)}; set [harvest] text_column to one "
                f"(one inside a structure is OUTER.INNER)"
            )
        _check_single(part, [field.name for field in inside], where)
        kind = fields[part]
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    if not _is_text(kind):
        raise UsageError(
            f"the column {column!r} of {where} holds {kind}, not text; set [harvest] text_column to another"
        )
    if "id" not in names or column == "id":
        return [column]
    _check_single("id", names, where)
    return [column, "id"]


def sources_of(
    batches: Iterable[Any], column: str, name: str, before: int, skip: int, where: str
) -> Iterator[tuple[int, Source]]:
    """Row numbers, from 1, and sources of record batches whose first row has `before` rows before it in its table.

    An `id` column of texts or whole numbers names the sources; without one they are called `name:number`.

    Raises:
        UsageError: a text is not UTF-8.
    """
    for batch in batches:
        first = max(skip - before, 0)
        if first < batch.num_rows:
            rows = batch.slice(first)
            texts = _values(_column(rows, column), before + first, column, where)
            ids = [None] * len(texts) if column == "id" else _ids(rows, before + first, where)
            for number, (text, given) in enumerate(zip(texts, ids, strict=True), start=before + first + 1):
                yield number, make_source(f"{name}:{number}" if given is None else str(given), text)
        before += batch.num_rows


def _check_single(name: str, names: list[str], where: str) -> None:
    if names.count(name) > 1:
        raise UsageError(f"{where} has {names.count(name)} columns called {name!r}; rename or drop all but one")


def _is_text(kind: Any) -> bool:
    types = import_extra("pyarrow", "a table").types
    return any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view))


def _parts(column: str, names: list[str]) -> list[str]:
    return [column] if column in names else column.split(".")


def _column(batch: Any, column: str) -> Any:
    first, *inner = _parts(column, batch.schema.names)
    values = batch.column(first)
    for part in inner:
        values = import_extra("pyarrow.compute", "a column inside a structure").struct_field(values, part)
    return values


def _ids(batch: Any, before: int, where: str) -> list[object]:
    if "id" in batch.schema.names:
        kind = batch.schema.field("id").type
        if import_extra("pyarrow", where).types.is_integer(kind) or _is_text(kind):
            return _values(batch.column("id"), before, "id", where)
    return [None] * int(batch.num_rows)


def _values(values: Any, before: int, column: str, where: str) -> list[Any]:
    """Python values of an Arrow column; text that is no UTF-8 is found and named by its row."""
    try:
        found = list(values.to_pylist())
        if any(isinstance(value, str) and len(value) > SOURCE for value in found):
            raise UsageError(f"{where}: a text has more than {SOURCE // 2**20} MB, too much for one source; split it")
        return found
    except UnicodeDecodeError:
        for number, value in enumerate(values, start=before + 1):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{where} row {number}: the column {column!r} is not UTF-8 ({error.reason}); mend or drop that row"
                ) from None
        raise
