"""The events' format: what is written comes back, and damage is told from silence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from autointerp.errors import RunError, UsageError
from autointerp.harvest.arrays import map_arrays, save_arrays
from autointerp.harvest.events import Harvest, free_bytes, is_finished
from autointerp.harvest.shards import FeatureEvents, Shard, ShardArrays
from autointerp.harvest.tokens import FORMAT_VERSION, Corpus
from autointerp.provenance import digest_file, seal
from tests.shard_files import write_shard


def shard(values: list[float], d_sae: int = 3) -> ShardArrays:
    """All events on feature 1, at positions 0, 1, …"""
    n = len(values)
    return ShardArrays(np.array([0, 0, n, n]), np.arange(n), np.array(values, dtype=np.float32))


def meta(first_row: int = 0) -> dict[str, object]:
    return {"dictionary": "d", "first_row": first_row, "first_kept": first_row, "n_token": 9, "n_outlier": 0}


def written(path: Path, arrays: ShardArrays, first_row: int = 0) -> Callable[[int], FeatureEvents]:
    write_shard(path, arrays, meta(first_row))
    return Shard(path, context=10).events.read


@given(st.integers(-140, 127), st.lists(st.floats(2.0**-10, 1.0, width=32), min_size=1, max_size=20))
def test_any_scale_comes_back_to_fp16_precision(
    tmp_path_factory: pytest.TempPathFactory, exponent: int, values: list[float]
) -> None:
    """Bare fp16 loses activations above 65,504 and below 6e-8; the shard's power of two must not."""
    raw = np.ldexp(np.array([*values, 1.0], dtype=np.float32), exponent).astype(np.float32)
    back = written(tmp_path_factory.getbasetemp() / "s", shard(raw.tolist()))(1).value
    assert (back != 0).all()
    if exponent > -110:
        assert back == pytest.approx(raw, rel=2.0**-11)


def test_what_rounds_to_zero_stays_an_event_with_its_sign(tmp_path: Path) -> None:
    """A token on which a feature is active must not become a verified negative by rounding."""
    back = written(tmp_path / "s", shard([1e30, 1e-20, -1e-20]))(1)
    assert back.slot.tolist() == [0, 1, 2]
    assert back.value[1] > 0
    assert back.value[2] < 0


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    """A shard in which nothing fires is data, and its maximum is not a division by zero."""
    read = written(tmp_path / "s", shard([]))
    assert len(read(1).slot) == len(read(0).slot) == 0


def test_positions_count_from_the_shards_first_row(tmp_path: Path) -> None:
    """A slot is over the whole corpus; positions are small so that they fit 32 bits."""
    assert written(tmp_path / "s", shard([1.0, 2.0]), first_row=7)(1).slot.tolist() == [70, 71]


def test_equal_content_has_equal_bytes(tmp_path: Path) -> None:
    """Resume is checked by bytes; an order of keys or a time in the header would break it."""
    for name in "abcdefgh":
        write_shard(tmp_path / name, shard([3.0, 0.5]), meta(1))
    assert len({digest_file(path) for path in tmp_path.iterdir()}) == 1


def test_any_flipped_byte_is_found(tmp_path: Path) -> None:
    """A flipped bit of a position moves an activation to another word, and nothing else shows it."""
    write_shard(tmp_path / "whole", ShardArrays(np.array([0, 2, 2, 5]), np.arange(5), np.arange(1.0, 6)), meta())
    data = (tmp_path / "whole").read_bytes()
    flipped = tmp_path / "flipped"
    for place in range(len(data)):
        flipped.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(RunError, match=r"flipped.* is damaged.*--repair"):
            Shard(flipped, 10).verify()


def test_reading_finds_what_changed_where_it_reads(tmp_path: Path) -> None:
    """Only what is read is held against its checksum, so the damage must be found by whoever reads it."""
    n = 40
    write_shard(tmp_path / "s", ShardArrays(np.arange(n + 1), np.arange(n) + 50, np.ones(n, np.float32)), meta())
    data = bytearray((tmp_path / "s").read_bytes())
    place = data.index((np.arange(n, dtype=np.uint32) + 50).tobytes()) + 4 * 13
    data[place] ^= 1
    (tmp_path / "s").write_bytes(data)
    events = Shard(tmp_path / "s", 100).events
    assert events.read(2).slot.tolist() == [52]
    assert events.read(30).slot.tolist() == [80]
    with pytest.raises(RunError, match="events of features 8 to 15 changed"):
        events.read(12)


def test_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    """A harvest larger than memory must open; and any safetensors reader can read our files."""
    save_arrays(tmp_path / "f", {"a": np.arange(6, dtype=np.uint32).reshape(2, 3), "b": np.zeros((0, 4))}, {"k": 1})
    arrays, told = map_arrays(tmp_path / "f")
    base = arrays["a"]
    while not isinstance(base, np.memmap):
        assert base.base is not None
        base = base.base
    assert told == {"k": 1}
    assert arrays["b"].shape == (0, 4)
    theirs = safetensors.numpy.load_file(tmp_path / "f")
    assert theirs["a"].tolist() == arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_any_cut_is_damage(tmp_path: Path) -> None:
    """A truncated shard whose header still reads would give a feature fewer activations without a word."""
    write_shard(tmp_path / "whole", shard([1.0, 2.0, 3.0]), meta())
    data = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for size in [*range(0, len(data), 7), len(data) - 1]:
        cut.write_bytes(data[:size])
        with pytest.raises(RunError, match=r"damaged or cut short; run .* again with --repair"):
            map_arrays(cut)
    cut.write_bytes(data + b"\x00")
    with pytest.raises(RunError):
        map_arrays(cut)
    with pytest.raises(RunError):
        map_arrays(tmp_path / "missing")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b'{"a": 5}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}',
        b'{"__metadata__": {"autointerp": "{"}}',
        b"\xff\xfe",
    ],
)
def test_a_header_of_nonsense_is_damage(tmp_path: Path, header: bytes) -> None:
    """Flipped bits in the header ended in a KeyError."""
    path = tmp_path / "f"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00" * 4)
    with pytest.raises(RunError):
        map_arrays(path)
    path.write_bytes((2**60).to_bytes(8, "little") + header)
    with pytest.raises(RunError):
        map_arrays(path)


def test_a_shard_without_its_arrays_is_damage(tmp_path: Path) -> None:
    """Another safetensors file under a shard's name is no shard."""
    save_arrays(tmp_path / "f", {"other": np.zeros(3)}, {"first_row": 0})
    with pytest.raises(RunError, match="lacks"):
        Shard(tmp_path / "f", 10)


def test_a_harvest_without_all_its_files_is_not_finished(tmp_path: Path) -> None:
    """The message says to delete a damaged shard and run again; that run must see that something is missing."""
    folder = tmp_path / "d"
    folder.mkdir()
    assert not is_finished(folder)
    names = ["shard-00000.safetensors", "stats.safetensors", "facts.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"")
    manifest = {"format_version": FORMAT_VERSION, "files": dict.fromkeys(names, "blake2b:0")}
    (folder / "manifest.json").write_text(seal(manifest), encoding="utf-8")
    assert is_finished(folder)
    for name in names:
        (folder / name).unlink()
        assert not is_finished(folder)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("content", ["{", "[]", "{}", seal({"format_version": 3, "files": 5}), '{"format_version": 3}'])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, content: str) -> None:
    """json's own error does not name the file."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        Harvest(tmp_path, "d")


def test_another_version_says_what_to_do(tmp_path: Path) -> None:
    """Old shards lack checksums and sums; read as today's they would be called damaged, and repaired at great cost."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "manifest.json").write_text('{"format_version": 1, "shards": []}', encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"another version of .* .format 1, this one reads 3.; move .* or choose another"
    ):
        is_finished(tmp_path / "d")
    (tmp_path / "_corpus").mkdir()
    (tmp_path / "_corpus" / "corpus.json").write_text('{"format_version": 1}', encoding="utf-8")
    with pytest.raises(UsageError, match="another version"):
        Corpus.open(tmp_path)


def test_an_unfinished_harvest_says_what_to_do(tmp_path: Path) -> None:
    """A missing folder and a killed pass are the same to a reader: not there yet."""
    with pytest.raises(UsageError, match="autointerp harvest"):
        Harvest(tmp_path, "d")
    with pytest.raises(UsageError, match="no finished corpus"):
        Corpus.open(tmp_path)


def test_a_feature_that_does_not_exist(planted: Harvest) -> None:
    """A negative index would silently read another feature's events."""
    for feature in (-1, planted.spec.d_sae):
        with pytest.raises(UsageError, match="has features 0 to"):
            planted.read(feature)


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """The check runs before the folder exists."""
    assert free_bytes(tmp_path / "a" / "b") > 0
