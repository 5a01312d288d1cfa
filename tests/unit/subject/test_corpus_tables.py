"""Parquet files, packed text and Hugging Face data sets as sources; every reading can stop and go on elsewhere."""

import gzip
import importlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from autointerp.config import DataSetName, parse_data_set
from autointerp.errors import RunError, UsageError
from autointerp.subject.corpus.data_sets import StreamedDataSet
from autointerp.subject.corpus.files import corpus_name, open_sources
from autointerp.subject.corpus.sources import Source

TEXTS = [f"text {i} \u00e9\U0001f600" if i % 7 else None for i in range(23)]


def write_parquet(path: Path, columns: dict[str, object], rows_a_group: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_a_group)
    return path


def read(spec: Path | str, column: str = "text") -> list[Source]:
    return list(open_sources(str(spec), Path("none"), column).read(None))


def expect(name: str) -> list[tuple[str, str]]:
    return [(f"{name}:{i}", text or "") for i, text in enumerate(TEXTS, start=1)]


def pairs(sources: list[Source]) -> list[tuple[str, str]]:
    return [(source.id, source.text) for source in sources]


def test_rows_of_several_groups_with_nulls(tmp_path: Path) -> None:
    """Row numbers run through the file, not the row group, and a null row still counts: ids decide the split."""
    file = write_parquet(tmp_path / "a.parquet", {"text": TEXTS, "other": list(range(23))})
    assert pairs(read(file)) == expect("a.parquet")


@pytest.mark.parametrize(
    "kind", [pyarrow.large_string(), pyarrow.string_view(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())]
)
def test_every_kind_of_text_column(tmp_path: Path, kind: pyarrow.DataType) -> None:
    """Large data sets are written with large_string, and pandas categories with dictionaries."""
    file = write_parquet(tmp_path / "a.parquet", {"text": pyarrow.array(TEXTS).cast(kind)})
    assert pairs(read(file)) == expect("a.parquet")


def test_a_column_inside_a_structure(tmp_path: Path) -> None:
    """A row whose structure is null has no text; a column whose own name has a dot is that column."""
    rows = [None if text is None else {"body": text, "n": 1} for text in TEXTS]
    file = write_parquet(tmp_path / "a.parquet", {"page": rows, "page.title": ["t"] * len(TEXTS)})
    assert pairs(read(file, "page.body")) == expect("a.parquet")
    assert {s.text for s in read(file, "page.title")} == {"t"}


def test_an_id_column_names_the_sources(tmp_path: Path) -> None:
    """Without it a re-sharded copy of a data set would be split into other parts."""
    file = write_parquet(tmp_path / "a.parquet", {"text": ["x", "y", "z"], "id": ["one", None, "three"]}, 2)
    assert [s.id for s in read(file)] == ["one", "a.parquet:2", "three"]
    file = write_parquet(tmp_path / "b.parquet", {"text": ["x", "y"], "id": [7, 8]})
    assert [s.id for s in read(file)] == ["7", "8"]
    file = write_parquet(tmp_path / "c.parquet", {"id": ["text of one", "text of two"]})
    assert pairs(read(file, "id")) == [("c.parquet:1", "text of one"), ("c.parquet:2", "text of two")]


def test_what_is_wrong_with_a_table_is_told(tmp_path: Path) -> None:
    """File, row and column, in place of a stack trace of a library."""
    file = write_parquet(tmp_path / "a.parquet", {"body": ["x"], "n": [1]})
    with pytest.raises(UsageError, match=r"a\.parquet has no text column 'text' but body, n; set \[harvest\] text_col"):
        read(file)
    with pytest.raises(UsageError, match=r"'n' of .*a\.parquet holds int64, not text"):
        read(file, "n")
    with pytest.raises(UsageError, match=r"no text column 'n\.inner'"):
        read(file, "n.inner")
    bad = pyarrow.array([b"fine"] * 6 + [b"\xff\xfe"]).view(pyarrow.string())
    with pytest.raises(UsageError, match=r"b\.parquet row 7: the column 'text' is not UTF-8"):
        read(write_parquet(tmp_path / "b.parquet", {"text": bad}))
    whole = write_parquet(tmp_path / "c.parquet", {"text": TEXTS}).read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"c\.parquet cannot be read as a Parquet file"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize(("column", "twice"), [("text", "text"), ("body", "id"), ("page.a", "a")])
def test_two_columns_of_one_name_are_told(tmp_path: Path, column: str, twice: str) -> None:
    """Arrow writes such tables and looks no column up in them by its name; one that is not read does no harm."""
    values = pyarrow.array(["x"])
    page = pyarrow.StructArray.from_arrays([values, values], names=["a", "a"])
    names = {"text": ["text", "text"], "body": ["body", "id", "id"], "page.a": ["page"]}[column]
    table = pyarrow.Table.from_arrays([page if name == "page" else values for name in names], names=names)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=rf"a\.parquet has 2 columns called '{twice}'; rename or drop all but one"):
        read(tmp_path, column)
    harmless = pyarrow.Table.from_arrays([values] * 3, names=["text", "more", "more"])
    pyarrow.parquet.write_table(harmless, tmp_path / "a.parquet")
    assert pairs(read(tmp_path)) == [("a.parquet:1", "x")]


def json_lines() -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_packed_json_lines(tmp_path: Path, packing: str) -> None:
    """Corpora are shipped packed; a cut file must not read as a short one."""
    file, name = tmp_path / f"a.jsonl.{packing}", {"gz": "gzip", "zst": "Zstandard"}[packing]
    if packing == "gz":
        file.write_bytes(gzip.compress(json_lines()))
    else:
        with pyarrow.OSFile(str(file), "wb") as raw, pyarrow.CompressedOutputStream(raw, "zstd") as out:
            out.write(json_lines())
    assert pairs(read(file)) == expect(file.name)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UsageError, match=rf"a\.jsonl\.{packing} is no whole {name} file \(.+\); get it again"):
        read(file)
    file.write_bytes(b"no such packing at all")
    with pytest.raises(UsageError, match=rf"a\.jsonl\.{packing} is no whole {name} file \(.+\); get it again"):
        read(file)


def test_a_key_inside_an_object_of_json_lines(tmp_path: Path) -> None:
    """As a structure in a table; the error lists the keys there are."""
    (tmp_path / "a.jsonl").write_text('{"a": {"b": "x"}}\n{"a.b": "y"}\n', encoding="utf-8")
    assert [s.text for s in read(tmp_path, "a.b")] == ["x", "y"]
    with pytest.raises(UsageError, match=r'line 1 has no "text"; its keys are a;'):
        read(tmp_path)


def test_a_binary_file_is_told_with_its_line(tmp_path: Path) -> None:
    """Somebody's executable called .txt."""
    (tmp_path / "a.txt").write_bytes(b"fine\n\x7fELF\x00\xff\xfe\n")
    with pytest.raises(UsageError, match=r"a\.txt line 2 is not UTF-8 text"):
        read(tmp_path)


def test_line_ends_of_other_systems(tmp_path: Path) -> None:
    """A page of a file from Windows is the page of the same file from elsewhere."""
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\nthree\rfour")
    assert [s.text for s in read(tmp_path)] == ["one\ntwo\n\nthree\nfour"]


def files(tmp_path: Path) -> str:
    """Parquet, packed and plain JSON lines, and text in pages, in one folder."""
    root = tmp_path / "corpus"
    write_parquet(root / "a.parquet", {"text": TEXTS})
    (root / "b.jsonl").write_bytes(b"\n" + json_lines())
    (root / "c.jsonl.gz").write_bytes(gzip.compress(json_lines()))
    (root / "d.txt").write_text("line of a page\n\n" * 900, encoding="utf-8")
    return str(root)


def saved(tmp_path: Path) -> str:
    datasets.Dataset.from_dict({"text": TEXTS, "n": list(range(23))}).save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def streamed(tmp_path: Path) -> str:
    for i in range(3):
        write_parquet(tmp_path / "set" / "data" / f"train-{i:05}-of-00003.parquet", {"text": TEXTS})
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", {"text": ["only"]})
    return f"hf:{tmp_path / 'set'}"


@pytest.mark.parametrize("make", [files, saved, streamed])
def test_reading_goes_on_from_any_position(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """Killed behind any source: none is lost, none comes twice, and ids stay what they were. As JSON, as on disk."""
    spec = make(tmp_path)
    whole = pairs(list(open_sources(spec, tmp_path / "cache").read(None)))
    for stop in sorted({0, 1, 4, 5, 6, 22, 23, 24, 45, 46, 47, 60, len(whole) - 1, len(whole)} & set(range(999))):
        first = open_sources(spec, tmp_path / "cache")
        reading = first.read(None)
        head = pairs([next(reading) for _ in range(min(stop, len(whole)))])
        position = json.loads(json.dumps(first.position()))
        second = open_sources(spec, tmp_path / "cache")
        assert second.fingerprint == first.fingerprint
        assert head + pairs(list(second.read(position))) == whole
        assert 0 <= first.share() <= 1


def test_saved_and_streamed_data_sets(tmp_path: Path) -> None:
    """Row numbers name the sources; the split is the one asked for, else train."""
    assert pairs(read(saved(tmp_path))) == expect("saved")
    assert pairs(read("hf:" + saved(tmp_path))) == expect("saved")
    spec = streamed(tmp_path)
    assert [s.text for s in read(spec)] == [text or "" for text in TEXTS] * 3
    assert [s.id for s in read(spec)] == [f"set:{i}" for i in range(1, 70)]
    assert pairs(read(spec + ":test")) == [("set:1", "only")]
    both = datasets.DatasetDict({"a": datasets.Dataset.from_dict({"text": ["x"]})})
    both.save_to_disk(str(tmp_path / "one"))
    assert pairs(read(tmp_path / "one")) == [("one:1", "x")]


def test_a_saved_split_without_rows_is_no_corpus(tmp_path: Path) -> None:
    """`datasets` ends in an IndexError on it; the other splits beside it can be read."""
    rows = datasets.Dataset.from_dict({"text": ["x"]})
    for name, empty in {"list": datasets.Dataset.from_list([]), "selected": rows.select([])}.items():
        empty.save_to_disk(str(tmp_path / name))
        with pytest.raises(UsageError, match=rf"{name} holds no text; point --corpus at some that does"):
            read(tmp_path / name)
    datasets.DatasetDict({"train": rows, "test": rows.select([])}).save_to_disk(str(tmp_path / "both"))
    assert pairs(read(tmp_path / "both")) == [("both:1", "x")]
    with pytest.raises(UsageError, match="both:test holds no text"):
        read(f"hf:{tmp_path / 'both'}:test")


@pytest.mark.parametrize(
    ("spec", "column", "said"),
    [
        ("hf:{}/set:dev", "text", "has the splits test, train|has the splits train, test"),
        ("hf:{}/set", "body", "no text column 'body' but text"),
        ("hf:{}/saved:train", "text", "was saved without splits"),
        ("{}/saved", "n", "holds int64, not text"),
        ("hf:{}/nowhere", "text", "there is no folder .*/nowhere to read as the data set hf:.*; check its path"),
        ("hf:./no:where", "text", r"there is no folder \./no to read as the data set hf:\./no:where"),
        ("hf:owner//name", "text", "is not of the form"),
        ("hf:", "text", "is not of the form"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_told(tmp_path: Path, spec: str, column: str, said: str) -> None:
    """A misspelt split must not fall back to another."""
    saved(tmp_path), streamed(tmp_path)
    with pytest.raises(UsageError, match=said):
        read(spec.format(tmp_path), column)


def test_a_stream_that_is_lost_on_the_way_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that fails after hours is no bad input: what was read is kept, and the next start goes on there."""
    stream = open_sources(streamed(tmp_path), tmp_path)
    assert isinstance(stream, StreamedDataSet)
    whole, rows = pairs(read(streamed(tmp_path))), stream._rows

    class Lost:
        def __iter__(self) -> Iterator[object]:
            yield from islice(rows, 30)
            raise OSError("read timed out")

        def state_dict(self) -> object:
            return rows.state_dict()

    monkeypatch.setattr(stream, "_rows", Lost())
    with pytest.raises(RunError, match=r"cannot be reached \(read timed out\); run again"):
        list(stream.read(None))
    rest = open_sources(streamed(tmp_path), tmp_path).read(stream.position())
    assert whole[:30] + pairs(list(rest)) == whole


def test_names_of_data_sets(tmp_path: Path) -> None:
    """Owner, name, configuration and split; a folder's path is no configuration."""
    assert parse_data_set("hf:owner/name/config:split") == DataSetName("owner/name", "config", "split")
    assert parse_data_set("hf:owner/name") == DataSetName("owner/name", None, None)
    assert parse_data_set(f"hf:{tmp_path}:test") == DataSetName(str(tmp_path), None, "test")
    (tmp_path / "a:b").mkdir()
    assert parse_data_set(f"hf:{tmp_path}/a:b") == DataSetName(f"{tmp_path}/a:b", None, None)
    assert parse_data_set(f"hf:{tmp_path}/a:b:test") == DataSetName(f"{tmp_path}/a:b", None, "test")
    assert parse_data_set("some/path") is None
    assert corpus_name("hf:owner/name:train") == "owner/name:train"
    assert corpus_name(f"hf:{tmp_path}:train") == tmp_path.name


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow and datasets are extras; without them the text formats still work."""

    def missing(name: str) -> None:
        raise ImportError(name)

    (tmp_path / "a.jsonl").write_bytes(json_lines())
    file = write_parquet(tmp_path / "x" / "a.parquet", {"text": TEXTS})
    monkeypatch.setattr(importlib, "import_module", missing)
    assert len(read(tmp_path / "a.jsonl")) == len(TEXTS)
    with pytest.raises(UsageError, match=r"needs pyarrow, which is not installed; install autointerp\[corpora\]"):
        read(file)
    with pytest.raises(UsageError, match=r"needs datasets"):
        read("hf:owner/name")
