"""What was paid for is used and kept, whatever the reply cache's disk does. The command line over real HTTP."""

import json
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from autointerp import api
from tests.flows.conftest import Call, command, environment
from tests.flows.rehearsal import rehearsing
from tests.flows.test_bare_records import make_records

N_FEATURES = 3


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def imported(folder: Path) -> Path:
    """A run of three features that nobody has been asked about."""
    rows = [row | {"feature": i} for i in range(N_FEATURES) for row in make_records(100, seed=i)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_records(folder / "records.jsonl", folder / "run")
    return folder / "run"


def received(log: Path) -> Counter[str]:
    """How often each question came; those of the probe are left out."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(line["digest"] for line in lines if line["stage"] in ("explain", "grade"))


def summary(run: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((run / "summary.json").read_text())
    return value


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The summary of the same features where nothing went wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = imported(folder)
    with rehearsing() as url:
        api.run_score(run, {"llm": "m", "base_url": url, "cache": folder / "cache.sqlite"})
    return summary(run)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_a_cache_that_is_deleted_meanwhile_stops_the_run_and_loses_no_answer(
    tmp_path: Path, log: Path, undisturbed: dict[str, object]
) -> None:
    """SQLite goes on writing into a file that has lost its name: all answers were gone, and nobody was told."""
    run, cache = imported(tmp_path), tmp_path / "cache.sqlite"
    with rehearsing("--latency", "0.5", "--log", str(log)) as url:
        words = command("score", run, "--llm", "m", "--base-url", url, "--cache", cache)
        process = subprocess.Popen(words, env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
        while not log.exists() or not received(log):
            time.sleep(0.02)
            assert process.poll() is None, process.communicate()
        for path in tmp_path.glob("cache.sqlite*"):
            path.unlink()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert f"cannot write the reply cache {cache}: it was deleted or moved away meanwhile" in errors
        assert f"kept in {run / 'replies.jsonl'}" in errors
        assert "Traceback" not in errors
        done = subprocess.run(words, env=environment(tmp_path), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert set(received(log).values()) == {1}
    assert summary(run) == undisturbed


def test_a_cache_that_another_process_holds_is_waited_for(
    tmp_path: Path, log: Path, call: Call, undisturbed: dict[str, object]
) -> None:
    """An import of many replies beside a run made it lose what it paid for."""
    run, cache = imported(tmp_path), tmp_path / "cache.sqlite"
    with rehearsing("--log", str(log)) as url:
        words = ("score", run, "--llm", "m", "--base-url", url, "--cache", cache)
        assert call("score", run, "--features", "0", "--dry-run", *words[2:]).code == 0  # makes the cache
        holder = sqlite3.connect(cache, isolation_level=None, check_same_thread=False)
        holder.execute("begin immediate")
        release = threading.Timer(8.0, holder.execute, ["rollback"])
        release.start()
        ended = call(*words)
        release.join()
        assert ended.code == 0, ended.err
        assert f"another process holds the reply cache {cache}; waiting for it" in ended.err
    assert set(received(log).values()) == {1}
    assert summary(run) == undisturbed
