"""What a dry run says is what the run then does; it opens no connection and leaves the run as it was."""

import hashlib
import socket
from collections import Counter
from pathlib import Path

import pytest

from autointerp import api, estimate
from autointerp.errors import UsageError
from autointerp.store.calls import read_calls
from tests.flows.asked_records import MODEL, N_FEATURES, asking, make_run
from tests.flows.conftest import Call
from tests.flows.rehearsal import rehearsing
from tests.small_run import SmallRun

OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def contents(folder: Path) -> dict[str, str]:
    """Every file of a run with a digest of what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def live_calls(path: Path) -> Counter[str]:
    return Counter(call.stage for call in read_calls(path / "calls.jsonl") if call.via == "live")


@pytest.mark.parametrize("simulator", ["structured", "top-logprobs", "prompt-logprobs"])
def test_what_is_foreseen_is_what_is_asked(tmp_path: Path, simulator: str) -> None:
    """A wrong forecast is a wrong bill; what depends on the answers is told as the most that it can be."""
    path = make_run(tmp_path / "run")
    with rehearsing() as base_url:
        changes = asking(base_url, simulator=simulator)
        foreseen = api.estimate_changes(path, changes)
        api.run_score(path, changes)
        again = api.estimate_changes(path, changes)
    assert (again.features, again.total.calls) == (0, 0)
    asked, calls = live_calls(path), {name: stage.calls for name, stage in foreseen.stages.items()}
    assert foreseen.features == foreseen.sampled == N_FEATURES
    for stage in ("explain", "simulate", "shuffled"):
        assert calls[stage] == asked[stage], stage
    for stage in asked:
        assert calls[stage] >= asked[stage], stage
    if simulator == "prompt-logprobs":  # the server counts other tokens there
        return
    said = sum(c.usage.input_tokens for c in read_calls(path / "calls.jsonl") if c.stage == "simulate")
    assert 0.8 < foreseen.stages["simulate"].input_tokens / said < 1.2


def test_a_sample_is_scaled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three features that are alike: one stands for all."""
    path = make_run(tmp_path / "run", n=400)
    changes = {"llm": MODEL, "base_url": OPENAI, "score.guided": 0}
    whole = api.estimate_changes(path, changes)
    monkeypatch.setattr(estimate, "SAMPLE", 2)
    part = api.estimate_changes(path, changes)
    assert (part.features, part.sampled) == (3, 2)
    assert {name: stage.calls for name, stage in part.stages.items()} == {
        name: stage.calls for name, stage in whole.stages.items()
    }
    assert part.sent[0].windows == pytest.approx(whole.sent[0].windows, rel=0.05)


def test_what_the_cache_holds_is_free(tmp_path: Path) -> None:
    """Whoever scores under another simulator has the explanations already."""
    path, other = make_run(tmp_path / "run"), make_run(tmp_path / "other")
    with rehearsing() as base_url:
        asked = {"llm": MODEL, "base_url": base_url}
        api.run_explain(path, asked)
        stages = api.estimate_changes(other, asked, scoring=False).stages
        assert {name: (stage.calls, stage.free) for name, stage in stages.items() if name != "probe"} == {
            "explain": (0, 3)
        }
        stages = api.estimate_changes(path, asked).stages
        assert "explain" not in stages
        assert stages["simulate"].calls == api.estimate_changes(other, asked).stages["simulate"].calls > N_FEATURES


def test_no_connection_is_opened_and_the_run_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Nothing may leave before the user has seen what would; not even the probe."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"a connection to {args[1:]}")

    path = make_run(tmp_path / "run")
    before = contents(path)
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        words = ("--llm", "gpt-5-mini", "--base-url", OPENAI, "--refine", "--dry-run", "--json")
        ended = call("score", path, *words)
    assert ended.code == 0, ended.err
    assert contents(path) == before
    assert "windows of run.jsonl" in ended.out
    assert "for records, go to api.openai.com (model gpt-5-mini)" in ended.out
    assert "developers.openai.com/api/docs/pricing, 2026-" in ended.out
    assert "in batches 0.5 of it" in ended.out
    assert "was never asked what it can do" in ended.out
    total = ended.json["total"]
    assert isinstance(total, dict)
    assert 0 < total["usd"] < total["most_usd"]
    assert total["usd"] == pytest.approx((total["input_tokens"] * 0.25 + total["output_tokens"] * 2.0) / 1e6)


def test_an_unknown_price_is_said(tmp_path: Path, call: Call) -> None:
    path = make_run(tmp_path / "run")
    ended = call("explain", path, "--llm", "my-own", "--base-url", "http://127.0.0.1:9/v1", "--dry-run")
    assert "the price of my-own at 127.0.0.1:9 is not known" in ended.out
    ended = call("explain", path, "--dry-run")
    assert "no language model is asked" in ended.out


def test_without_a_harvest_the_harvest_comes_first(small: SmallRun, tmp_path: Path, call: Call) -> None:
    """Without the windows any number would be a guess."""
    ended = call("run", *small.flags(tmp_path / "run"), "--llm", "m", "--base-url", OPENAI, "--dry-run")
    assert ended.code == 2
    assert "the harvest comes first" in ended.error
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="no run"):
        api.estimate_changes(tmp_path / "run")
