"""A byte that changed on disk is found, named, and made again with nothing else."""

import asyncio
import shutil
from pathlib import Path

import pytest

from autointerp import aio
from autointerp.config import RunConfig
from autointerp.errors import RunError, UsageError
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


def _repair(config: RunConfig) -> list[str]:
    """What the public function says."""
    said: list[str] = []
    asyncio.run(aio.run_harvest(config, Listener(note=said.append), repair=True))
    return said


def _content(folder: Path) -> dict[str, str]:
    """Digests of all files of a harvest that say nothing of the time."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): digest_file(path) for path in files}


KEEP = {"keep": "sample", "keep_tokens": 3000, "keep_strongest": 2}


@pytest.fixture(scope="module")
def sampled_run(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished harvest that keeps a sample, by the public function."""
    out = tmp_path_factory.mktemp("sampled")
    asyncio.run(aio.run_harvest(small_config(small, out, **KEEP)))
    return out


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
@pytest.mark.parametrize(
    "name", ["tokens.bin", "sources.jsonl", "rows.safetensors", "kept.safetensors", "corpus.json", "plan.json"]
)
def test_tokens_and_plans_are_mended_too(
    small: SmallRun, sampled_run: Path, tmp_path: Path, name: str, damage: str
) -> None:
    """A flipped token was shown in place of the right one, and a repaired shard was made of it."""
    shutil.copytree(sampled_run, tmp_path / "run")
    config = small_config(small, tmp_path / "run", **KEEP)
    harvest = tmp_path / "run" / "harvest"
    before = _content(harvest)
    path = harvest / ("topk" if name == "plan.json" else "_corpus") / name
    if damage == "flip":
        flip(path, path.stat().st_size // 2)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    if name != "plan.json":
        with pytest.raises((RunError, UsageError), match="autointerp harvest"):
            Harvest(harvest, "topk").windows(0)
    said = _repair(config)
    if damage != "delete":
        assert any("is damaged and will be made again" in text for text in said)
    if (name, damage) != ("plan.json", "delete"):  # nothing reads the plan of a finished harvest
        assert _content(harvest) == before
    assert Harvest(harvest, "topk").windows(0)
    assert not any("damaged" in text for text in _repair(config))


def test_a_shard_under_another_ones_name_is_not_closed(small: SmallRun, harvested: Path, tmp_path: Path) -> None:
    """Its checksums are all right, and its activations are on other text."""
    shutil.copytree(harvested, tmp_path / "harvest")
    folder = tmp_path / "harvest" / "topk"
    (folder / "manifest.json").unlink()
    shutil.copy(folder / "shard-00001.safetensors", folder / "shard-00002.safetensors")
    with pytest.raises(RunError, match=r"shard-00002.* is another shard than its name says; delete it"):
        run_harvest(small_config(small, tmp_path))


def test_a_harvest_beside_other_tokens_is_refused(small: SmallRun, short: SmallRun, tmp_path: Path) -> None:
    """Slots of one text read as slots of another show wrong words under right activations."""
    for name, run in (("one", small), ("other", short)):
        run_harvest(small_config(run, tmp_path / name), only=["topk"])
    shutil.copytree(tmp_path / "one" / "harvest" / "topk", tmp_path / "other" / "harvest" / "mine")
    with pytest.raises(RunError, match="is the harvest of other text"):
        Harvest(tmp_path / "other" / "harvest", "mine")


def test_the_public_function_says_what_it_mends(small: SmallRun, tmp_path: Path) -> None:
    """A repair without a word leaves the user guessing whether there was anything to mend."""
    asyncio.run(aio.run_harvest(small_config(small, tmp_path)))
    flip(tmp_path / "harvest" / "topk" / "shard-00002.safetensors", -3)
    said = _repair(small_config(small, tmp_path))
    assert said[0] == "topk: shard-00002.safetensors is damaged and will be made again"
    assert any("will need about" in text for text in said)
    assert discard_damaged(tmp_path / "harvest" / "topk") == []
