"""A byte that changed on disk is found, named, and made again with nothing else."""

import shutil
from pathlib import Path

import pytest

from autointerp import aio
from autointerp.errors import RunError
from autointerp.harvest.events import Harvest
from autointerp.harvest.repair import discard_damaged
from autointerp.listener import Listener
from autointerp.provenance import digest_file
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(("name", "place"), [("shard-00001", -1), ("shard-00003", 4000), ("stats", -9), ("facts", -9)])
def test_only_what_changed_is_made_again(
    small: SmallRun, harvested: Path, tmp_path: Path, name: str, place: int
) -> None:
    """A repair that harvests everything again costs hours; one that misses a byte is worse."""
    shutil.copytree(harvested, tmp_path / "harvest")
    folder = tmp_path / "harvest" / "topk"
    path = folder / f"{name}.safetensors"
    before = {p.name: (digest_file(p), p.stat().st_mtime_ns) for p in folder.glob("*.safetensors")}
    flip(path, place)
    assert discard_damaged(folder) == [path.name]
    run_harvest(small_config(small, tmp_path))
    after = {p.name: (digest_file(p), p.stat().st_mtime_ns) for p in folder.glob("*.safetensors")}
    assert {n: d for n, (d, _) in after.items()} == {n: d for n, (d, _) in before.items()}
    untouched = {n for n, told in after.items() if told == before[n]}
    assert {n for n in before if n.startswith("shard-")} - {path.name} <= untouched
    assert discard_damaged(folder) == []


def test_a_reader_names_the_shard(harvested: Path, tmp_path: Path) -> None:
    """A changed position read without a word is an activation on another token."""
    shutil.copytree(harvested, tmp_path / "harvest")
    flip(tmp_path / "harvest" / "topk" / "shard-00002.safetensors", -3)
    harvest = Harvest(tmp_path / "harvest", "topk")
    with pytest.raises(RunError, match=r"shard-00002.* is damaged.*--repair"):
        [harvest.read(feature) for feature in range(harvest.spec.d_sae)]


def test_an_unfinished_harvest_is_held_against_its_own_checksums(
    small: SmallRun, harvested: Path, tmp_path: Path
) -> None:
    """A killed pass has no manifest yet, and its shards are kept by the resume."""
    shutil.copytree(harvested, tmp_path / "harvest")
    folder = tmp_path / "harvest" / "planted"
    (folder / "manifest.json").unlink()
    flip(folder / "shard-00000.safetensors", -2)
    assert discard_damaged(folder) == ["shard-00000.safetensors"]
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    assert discard_damaged(folder) == ["manifest.json"]
    assert discard_damaged(tmp_path / "nothing here") == []
    run_harvest(small_config(small, tmp_path))
    assert digest_file(folder / "shard-00000.safetensors") == digest_file(
        harvested / "planted" / "shard-00000.safetensors"
    )


async def _repair(small: SmallRun, out: Path, said: list[str]) -> None:
    await aio.run_harvest(small_config(small, out), Listener(note=said.append), repair=True)


def test_the_public_function_says_what_it_mends(small: SmallRun, tmp_path: Path) -> None:
    """A repair without a word leaves the user guessing whether there was anything to mend."""
    import asyncio

    said: list[str] = []
    asyncio.run(aio.run_harvest(small_config(small, tmp_path)))
    flip(tmp_path / "harvest" / "topk" / "shard-00002.safetensors", -3)
    asyncio.run(_repair(small, tmp_path, said))
    assert said[0] == "topk: shard-00002.safetensors is damaged and will be made again"
    assert any("will need about" in text for text in said)
    assert discard_damaged(tmp_path / "harvest" / "topk") == []
