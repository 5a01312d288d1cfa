"""What somebody packed to fill a memory is refused in a sentence, after little of it was read."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.errors import UsageError
from autointerp.limits import BODY, SOURCE, TooLargeError, lines_of, unpack
from autointerp.llm.batch_lines import read_answers
from autointerp.subject.corpus.tables import read_parquet
from autointerp.subject.corpus.text_files import read_json_lines, read_pages, read_whole
from autointerp.subject.loaders.tensors import read_weights


def test_a_line_is_read_up_to_its_limit() -> None:
    assert list(lines_of(io.BytesIO(b"ab\ncde\n"), 4)) == [b"ab\n", b"cde\n"]
    with pytest.raises(TooLargeError, match="a line is longer"):
        list(lines_of(io.BytesIO(b"ab\ncdef\n"), 4))


def test_a_body_is_unpacked_up_to_its_limit() -> None:
    """Bodies of 2 GB each kept a reader busy without an end."""
    assert unpack(zlib.compress(b"x" * 100), 100) == b"x" * 100
    with pytest.raises(TooLargeError):
        unpack(zlib.compress(b"x" * 101), 100)
    with pytest.raises(TooLargeError, match="more than 64 MB"):
        unpack(zlib.compress(b" " * (BODY + 1)))
    for broken in (b"", b"text", zlib.compress(b"x" * 1000)[:-8], b"\x00" * 50):
        with pytest.raises(ValueError, match=r"."):
            unpack(broken)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 kB that unpack to a little more than a source may have, without a line end."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(SOURCE // 2**20 + 1):
            file.write(b"a" * 2**20)
    return path


@pytest.mark.parametrize("read", [read_json_lines, read_pages, read_whole])
def test_a_packed_line_without_end_is_refused(bomb: Path, read: Callable[..., object]) -> None:
    """4 MB filled the memory and ended as `MemoryError`."""
    with pytest.raises(UsageError, match=r"bomb.gz cannot be read as a corpus: a line is longer than 256 MB"):
        list(read(bomb, "bomb", "text", 0))  # type: ignore[call-overload]


def write_repeated(path: Path, text: str, n: int) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([text]))
    pq.write_table(pa.table({"text": column}), path, compression="zstd")


def test_one_text_repeated_in_a_table_is_refused_or_read_a_few_at_a_time(tmp_path: Path) -> None:
    """2.5 kB of Parquet came to 64 MB a row, 512 rows at a time."""
    write_repeated(tmp_path / "bomb.parquet", "a" * 64 * 2**20, 1000)
    assert (tmp_path / "bomb.parquet").stat().st_size < 20_000
    with pytest.raises(UsageError, match=r"unpack to 64 MB of 'text', which no text does"):
        next(read_parquet(tmp_path / "bomb.parquet", "bomb", "text", 0))
    write_repeated(tmp_path / "fine.parquet", "a plain sentence. " * 100, 2000)
    assert len(list(read_parquet(tmp_path / "fine.parquet", "fine", "text", 0))) == 2000


def test_an_array_packed_to_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """An `npz` of 6 GB of zeros was a `MemoryError` with a traceback."""
    shape = {"descr": "<f4", "fortran_order": False, "shape": (2**27,)}
    with (
        zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
        packed.open("W_enc.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, shape)
        for _ in range(300):
            file.write(bytes(2**20))
    with pytest.raises(UsageError, match=r"w.npz holds W_enc.npy, which is packed to fill the memory"):
        read_weights(tmp_path / "w.npz")
    np.savez_compressed(tmp_path / "zeros.npz", b=np.zeros(2**20, np.float32))
    assert read_weights(tmp_path / "zeros.npz").length("b") == 2**20


def test_a_line_of_answers_has_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "answers.jsonl").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(UsageError, match=r"answers.jsonl is no file of answers: a line is longer than 64 MB"):
        list(read_answers(tmp_path / "answers.jsonl"))
