"""A setting reaches every command that asks a language model, whichever way it was given. Over real HTTP."""

import json
from collections import Counter
from pathlib import Path

import pytest

from autointerp.store.calls import read_calls
from autointerp.store.folder import RunFolder
from tests.flows.asked_records import make_run
from tests.flows.conftest import Call
from tests.flows.rehearsal import rehearsing

THINKING = ("--reasoning-effort", "low", "--answer-tokens", "4000", "--extra-body", '{"top_k": 1}')


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def received(log: Path) -> Counter[str]:
    """How often each question came; those of the probe are left out."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return Counter(line["digest"] for line in lines if line["stage"] in ("explain", "grade"))


def test_retry_uses_the_cache_of_the_run_and_pays_for_nothing_twice(tmp_path: Path, call: Call) -> None:
    """It looked into the user's own cache, paid for kept answers again, and forgot unusable ones in the wrong place."""
    run, log = make_run(tmp_path / "run"), tmp_path / "log"
    more = ("--most-failed", 1)
    with rehearsing("--log", str(log), "--faults", "refusal=0.3") as url:
        assert call("score", run, "--llm", "m", "--base-url", url, "--cache", "mine.sqlite", *more).code == 0
        lines = (run / "unusable.jsonl").read_text().splitlines()
        unusable = {digest for line in lines for digest in json.loads(line)["digests"]}
        again = call("retry", run, "--failed", "--refused", "--in-flight", 2, "--timeout", 30, *more)
        assert again.code == 0, again.err
    paid = Counter(line.digest for line in read_calls(run / "calls.jsonl") if line.via == "live")
    assert unusable
    assert {digest for digest, n in paid.items() if n > 1} <= unusable
    assert not (tmp_path / "cache" / "autointerp" / "replies.sqlite").exists()
    config = RunFolder(run).config()
    assert config.cache == tmp_path / "mine.sqlite"
    assert (config.endpoint.in_flight, config.endpoint.timeout_s) == (2, 30.0)


def test_the_environment_is_read_for_a_run_that_exists_and_flags_win(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`score RUN` cut twelve requests at 120 s with a variable that said 600."""
    run = make_run(tmp_path / "run")
    monkeypatch.setenv("AUTOINTERP_ENDPOINT__TIMEOUT_S", "600")
    monkeypatch.setenv("AUTOINTERP_ENDPOINT__IN_FLIGHT", "3")
    monkeypatch.setenv("AUTOINTERP_SEED", "7")  # of another harvest, and no reason to refuse this run
    monkeypatch.setenv("AUTOINTERP_CACHE", str(tmp_path / "named.sqlite"))
    with rehearsing() as url:
        monkeypatch.setenv("AUTOINTERP_BASE_URL", url)
        assert call("explain", run, "--llm", "m", "--in-flight", 2).code == 0
    config = RunFolder(run).config()
    assert (config.endpoint.timeout_s, config.endpoint.in_flight, config.seed) == (600.0, 2, 0)
    assert (tmp_path / "named.sqlite").exists()
    monkeypatch.setenv("AUTOINTERP_ENDPOINT__TIMEOUTS", "1")
    wrong = call("score", run)
    assert wrong.code == 2
    assert "timeout_s" in wrong.error


def test_how_a_model_thinks_reaches_its_questions_and_its_name(tmp_path: Path, call: Call) -> None:
    """A judge that thinks two thousand tokens could not be used at all; one that thinks less is another judge."""
    run, out = make_run(tmp_path / "run"), tmp_path / "batch.jsonl"
    assert (
        call("batch", "export", run, "--llm", "m", "--base-url", "http://127.0.0.1:9/v1", *THINKING, "--out", out).code
        == 0
    )
    bodies = [json.loads(line)["body"] for line in out.read_text().splitlines()]
    assert {(b["reasoning_effort"], b["top_k"], b["max_tokens"]) for b in bodies} == {("low", 1, 4000)}

    log = tmp_path / "log"
    with rehearsing("--log", str(log)) as url:
        plain = call("score", run, "--llm", "m", "--base-url", url, "--reasoning-effort", "high")
        assert plain.code == 0, plain.err
        first = received(log)
        keys = RunFolder(run).read_note("backends")
        other = call("score", run, "--reasoning-effort", "low", "--answer-tokens", "4000")
        assert other.code == 0, other.err
    changed = RunFolder(run).read_note("backends")
    assert "[reasoning_effort=high, answer_tokens=4000" in keys["simulator_key"]
    assert keys["simulator_key"] != changed["simulator_key"]
    assert keys["explainer_key"] != changed["explainer_key"]
    assert received(log).total() > first.total(), "another judge's answers came out of the cache"
    assert set(received(log).values()) == {1}


@pytest.mark.parametrize("bad", ["[1]", "{", '{"messages": []}', '{"stream": true}', '{"a": {"b": null}}'])
def test_fields_that_cannot_be_given_are_refused(tmp_path: Path, call: Call, bad: str) -> None:
    run = make_run(tmp_path / "run")
    ended = call("score", run, "--llm", "m", "--base-url", "http://127.0.0.1:9/v1", "--extra-body", bad)
    assert ended.code == 2
    assert "extra_body" in ended.error
