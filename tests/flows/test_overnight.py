"""A run against an endpoint that limits, fails, refuses or is stopped: nothing is lost, nothing is paid for twice.

Bare records, the command line, and the test server as a process that writes down what it received.
"""

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from autointerp import api
from tests.flows.conftest import Call, command, environment
from tests.flows.rehearsal import rehearsing
from tests.flows.test_bare_records import make_records

N_FEATURES = 6


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of six features, imported."""
    rows = [row | {"feature": i} for i in range(N_FEATURES) for row in make_records(100, seed=i)]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_records(path, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def received(log: Path) -> Counter[str]:
    """How often each question came; those of the probe and of tests of the connection are left out."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(line["digest"] for line in lines if line["stage"] in ("explain", "grade"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The summary of the same features, never interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    rows = [row | {"feature": i} for i in range(N_FEATURES) for row in make_records(100, seed=i)]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_records(folder / "records.jsonl", folder / "run")
    with rehearsing() as url:
        changes = {"llm": "m", "base_url": url, "cache": folder / "cache.sqlite"}
        api.run_score(folder / "run", changes)
    return summary(folder / "run")


def summary(run_folder: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((run_folder / "summary.json").read_text())
    return value


def test_ctrl_c_waits_for_the_answers_under_way(
    run_folder: Path, log: Path, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    """A request cut off is paid for and asked again; the second command must end as if there had been one."""
    with rehearsing("--latency", "1", "--log", str(log)) as url:
        words = command("score", run_folder, "--llm", "m", "--base-url", url)
        process = subprocess.Popen(
            words, env=environment(tmp_path / "cache"), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while not log.exists() or not received(log):
            time.sleep(0.05)
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3, errors
        assert "waiting for the answers under way" in errors
        assert "the same command goes on" in errors
        seen = received(log)
        assert 0 < seen.total() < 7 * N_FEATURES
        seen_status = api.read_status(run_folder)
        assert not seen_status.finished
        assert "stopped" in (seen_status.stopped or "")
        done = subprocess.run(words, env=environment(tmp_path / "cache"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(received(log).values()) == {1}
    assert summary(run_folder) == undisturbed
    assert api.read_status(run_folder).finished


def test_a_budget_ends_the_run_before_it_is_exceeded(
    run_folder: Path, log: Path, call: Call, undisturbed: dict[str, object]
) -> None:
    """A surprise on the bill is what keeps people from running ten thousand features."""
    with rehearsing("--log", str(log)) as url:
        words = ("score", run_folder, "--llm", "m", "--base-url", url)
        ended = call(*words, "--budget-tokens", 60_000)
        assert ended.code == 3
        assert "could exceed the budget of 60,000 tokens" in ended.error
        spent = sum(sum(json.loads(line)["usage"][i] for i in (1, 3)) for line in calls(run_folder))
        assert 40_000 < spent <= 60_000  # the next one, of 10,000 bytes and more, could have exceeded it
        rows = api.read_status(run_folder).spending
        assert sum(row.paid.input_tokens + row.paid.output_tokens for row in rows) == spent
        assert {row.stage for row in rows} >= {"explain", "simulate"}
        assert [row.usd for row in rows] == [None] * len(rows), "nobody knows what m costs"
        again = call(*words, "--budget-tokens", 60_000)
        assert again.code == 3
        assert call(*words, "--budget-usd", 1).error.startswith("error: no price is known for m at http://127.0.0.1")
        assert call(*words, "--budget-tokens", 10_000_000).code == 0
        assert set(received(log).values()) == {1}
    assert summary(run_folder) == undisturbed


def calls(run_folder: Path) -> list[str]:
    lines = (run_folder / "calls.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["via"] == "live"]


def test_failures_are_shown_and_tried_again_on_demand(
    run_folder: Path, log: Path, call: Call, undisturbed: dict[str, object]
) -> None:
    """A refusal is kept until somebody asks again, and then nothing else is asked with it."""
    shares = "refusal=0.3"
    with rehearsing("--log", str(log), "--faults", shares) as url:
        assert call("score", run_folder, "--llm", "m", "--base-url", url).code == 0
        first = received(log)
        status = call("status", run_folder, "--json")
        stages = status.json["dictionaries"]["records"]["stages"]  # type: ignore[index]
        lost = status.json["dictionaries"]["records"]["lost_windows"]  # type: ignore[index]
        refused = sum(stage["failed"].get("refused", 0) for stage in stages.values())
        assert refused + lost.get("refused", 0) > 0
        assert "refused" in status.out
        assert call("retry", run_folder).code == 2
        assert call("retry", run_folder, "--failed").code == 0
        assert received(log) == first
    port = url.rpartition(":")[2].removesuffix("/v1")
    with rehearsing("--log", str(log), "--port", port):
        ended = call("retry", run_folder, "--failed", "--refused")
        assert ended.code == 0, ended.err
    assert summary(run_folder) == undisturbed
    again = received(log) - first
    assert again
    assert set(received(log).values()) <= {1, 2}
    assert not (run_folder / "unusable.jsonl").read_text()


def test_a_run_of_failures_stops_and_says_what_fails(call: Call, tmp_path: Path) -> None:
    """Ten thousand features against a model that cannot keep to the form is money burnt."""
    rows = [row | {"feature": i} for i in range(60) for row in make_records(60, seed=i)]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    api.import_records(tmp_path / "many.jsonl", tmp_path / "many")
    script = [{"contains": f"exactly: {word}", "text": word} for word in ("10", "blue")]
    script.append({"text": "I would rather talk about something else."})
    (tmp_path / "garbled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in script))
    with rehearsing("--answer", str(tmp_path / "garbled.jsonl")) as url:
        words = (
            "score",
            tmp_path / "many",
            "--llm",
            "m",
            "--base-url",
            url,
            "--simulator",
            "structured",
            "--in-flight",
            4,
        )
        ended = call(*words)
        assert ended.code == 3, ended.err
        assert "21 of the last 21 items failed (no_explanation 21)" in ended.error
        assert "--most-failed" in ended.error
        assert 0 < api.read_status(tmp_path / "many").dictionaries["records"].stages["explain"].open < 39
        assert call(*words, "--most-failed", 1).code == 0
    counted = api.read_status(tmp_path / "many").dictionaries["records"].stages["explain"]
    assert sum(counted.failed.values()) == 60
    assert counted.done == 0


def test_a_rate_limit_slows_and_loses_nothing(
    run_folder: Path, log: Path, call: Call, undisturbed: dict[str, object]
) -> None:
    with rehearsing("--rate-limit", "20", "--log", str(log)) as url:
        assert call("score", run_folder, "--llm", "m", "--base-url", url).code == 0
    assert summary(run_folder) == undisturbed
    assert np.mean([json.loads(line)["status"] == 200 for line in log.read_text().splitlines()]) > 0.3
