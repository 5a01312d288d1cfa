"""A harvest in parts, each in a process of its own: in any order, whoever dies, the bytes of one in a piece."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from autointerp import HarvestPart, run_harvest_part
from autointerp.config import RunConfig, make_config, parse_dictionary
from autointerp.provenance import digest_file
from tests.flows.conftest import Call, environment
from tests.small_run import SmallRun

COMMAND = [sys.executable, "-c", "from autointerp.cli.main import main; main()", "harvest"]


def contents(run: Path) -> dict[str, str]:
    """Everything under `harvest/`, manifests without what may differ."""
    found = {}
    for path in sorted((run / "harvest").rglob("*")):
        if path.name == "manifest.json":
            values = json.loads(path.read_text(encoding="utf-8"))
            found[str(path.relative_to(run))] = json.dumps(
                {key: value for key, value in values.items() if key not in ("started", "closed", "seconds", "host")}
            )
        elif path.is_file():
            found[str(path.relative_to(run))] = digest_file(path)
    return found


def shard_names(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("harvest/topk/shard-*"))


@pytest.fixture(scope="module")
def whole(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest in one piece."""
    run = tmp_path_factory.mktemp("whole") / "run"
    start(small, run, run.parent).communicate(timeout=300)
    assert len(shard_names(run)) > 3
    return run


def start(small: SmallRun, run: Path, cache: Path, shard: str | None = None) -> subprocess.Popen[str]:
    words = [*COMMAND, *small.flags(run), *(["--shard", shard] if shard else []), "--json"]
    return subprocess.Popen(
        words, env=environment(cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def kill_at_shard(process: subprocess.Popen[str], run: Path, n: int) -> None:
    """SIGKILL the process group once `n` shards of a dictionary are there."""
    deadline = time.monotonic() + 120
    while len(list(run.glob("harvest/topk/shard-*.safetensors"))) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_parts_in_any_order_with_one_killed(
    small: SmallRun, whole: Path, tmp_path: Path, call: Call, order: Sequence[int]
) -> None:
    """A job array starts in any order and loses jobs; the closing harvest must find the bytes of one in a piece."""
    run = tmp_path / "run"
    kill_at_shard(start(small, run, tmp_path, f"{order[0]}/3"), run, 1)
    together = [start(small, run, tmp_path, f"{i}/3") for i in order]
    for i, process in zip(order, together, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        shards = json.loads(out.splitlines()[-1])["shards"]["planted"]
        assert shards == shard_names(whole)[i::3]
    assert not list(run.glob("harvest/*/manifest.json"))
    ended = call("harvest", *small.flags(run))
    assert ended.code == 0, ended.err
    assert contents(run) == contents(whole)
    assert [path.name for path in run.glob("lock*")] == ["lock"]


def test_a_part_that_never_ran_is_made_by_the_closing_harvest(
    small: SmallRun, whole: Path, tmp_path: Path, call: Call
) -> None:
    """Closing must not take absent shards for silence."""
    run = tmp_path / "run"
    assert call("harvest", *small.flags(run), "--shard", "1/2").code == 0
    assert call("harvest", *small.flags(run)).code == 0
    assert contents(run) == contents(whole)
    assert call("harvest", *small.flags(run), "--shard", "0/2").code == 0, "nothing is left to do"
    assert contents(run) == contents(whole)


def test_a_damaged_shard_of_one_part_is_made_again(small: SmallRun, whole: Path, tmp_path: Path, call: Call) -> None:
    """Before the parts are closed and after it, a repair must find a changed byte and make only that shard again."""
    run = tmp_path / "run"
    for part in ("0/2", "1/2"):
        assert call("harvest", *small.flags(run), "--shard", part).code == 0
    refused = call("harvest", *small.flags(run), "--shard", "1/2", "--repair")
    assert refused.code == 2
    assert "without --shard" in refused.error
    for name in shard_names(whole)[1:3]:
        path = run / "harvest" / "topk" / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 0x10
        path.write_bytes(data)
        mended = call("harvest", *small.flags(run), "--repair")
        assert mended.code == 0, mended.err
        assert f"topk: {name} is damaged" in mended.err
        assert contents(run) == contents(whole)


def test_parts_of_a_packed_sample_are_those_of_one_piece(small: SmallRun, tmp_path: Path, call: Call) -> None:
    """Which documents are kept must depend on no part, and a shard's kept documents be numbered after those before."""
    config = tmp_path / "keep.toml"
    config.write_text(
        '[harvest]\npack = true\nkeep = "sample"\nkeep_tokens = 3000\nmax_norm = 1.01\n', encoding="utf-8"
    )
    words = ["harvest", str(config)]
    assert call(*words, *small.flags(tmp_path / "one")).code == 0
    for part in ("1/2", "0/2"):
        assert call(*words, *small.flags(tmp_path / "parts"), "--shard", part).code == 0
    assert call(*words, *small.flags(tmp_path / "parts")).code == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "one")


def make_settings(small: SmallRun, out: Path) -> RunConfig:
    values: dict[str, object] = {"model": small.model, "corpus": small.corpus, "out": out}
    values["dictionary"] = [parse_dictionary(f"planted={small.planted}"), parse_dictionary(f"topk={small.topk}")]
    values["harvest"] = {"batch_size": 8, "shard_tokens": 2048, "threads": 1, "device": "cpu"}
    return make_config(None, {key: str(v) if isinstance(v, Path) else v for key, v in values.items()})


def test_a_part_is_plain_data_in_and_out(small: SmallRun, whole: Path, tmp_path: Path, call: Call) -> None:
    """An engine sends the task to a worker and takes back what it did; nothing in it may hold on to this process."""
    config = make_settings(small, tmp_path / "run")
    assert pickle.loads(pickle.dumps((config, HarvestPart(0, 2)))) == (config, HarvestPart(0, 2))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = [pool.submit(run_harvest_part, config, HarvestPart(i, 2)).result(timeout=300) for i in range(2)]
    assert json.loads(json.dumps(done[1])) == [
        [1, 2],
        {name: shard_names(whole)[1::2] for name in ("planted", "topk")},
    ]
    assert call("harvest", *small.flags(tmp_path / "run")).code == 0
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.parametrize("shard", ["3/3", "1", "a/b", "0/0", "-1/3"])
def test_no_such_part(small: SmallRun, call: Call, tmp_path: Path, shard: str) -> None:
    """Counting from 1 by mistake would leave the first part out and start one that does not exist."""
    ended = call("harvest", *small.flags(tmp_path / "run"), f"--shard={shard}")
    assert ended.code == 2
    assert "0/3, 1/3 and 2/3" in ended.error


def test_a_bad_start_of_a_part_can_be_mended(small: SmallRun, call: Call, tmp_path: Path) -> None:
    """The first part of a mistyped command must not decide what the run is of."""
    run, broken = tmp_path / "run", tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": \n', encoding="utf-8")
    bad = call("harvest", *small._replace(corpus=broken).flags(run), "--shard", "0/2")
    assert bad.code == 2
    assert "line 2" in bad.error
    assert call("harvest", *small.flags(run), "--shard", "0/2").code == 0
    other = call("harvest", *small.flags(run), "--seed", "5", "--shard", "1/2")
    assert other.code == 2
    assert "seed" in other.error
