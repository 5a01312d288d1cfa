"""Runs without a connection: what the cache holds is used, what it lacks is named, and replies travel."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autointerp import api
from autointerp.errors import UsageError
from autointerp.interpretation import Summaries
from autointerp.offline import MissingRepliesError
from autointerp.store.calls import read_calls
from autointerp.store.folder import RunFolder
from autointerp.store.replies import SqliteReplyCache
from autointerp.store.runs import RunStore, ScoreKey
from tests.flows.asked_records import asking, make_run
from tests.flows.conftest import Call
from tests.flows.rehearsal import rehearsing

NOWHERE = "http://127.0.0.1:9/v1"
"""The discard port: whoever connects there fails."""


class Answered:
    """A run that a server answered, when the server is gone."""

    def __init__(self, path: Path, base_url: str, summaries: Summaries) -> None:
        self.path, self.base_url, self.summaries = path, base_url, summaries

    @property
    def summary(self) -> bytes:
        return (self.path / "summary.json").read_bytes()


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    folder = tmp_path_factory.mktemp("answered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        path = make_run(folder / "run")
        with rehearsing() as base_url:
            summaries = api.run_score(path, asking(base_url))
        yield Answered(path, base_url, summaries)


def test_the_log_knows_every_stage_and_who_paid(answered: Answered) -> None:
    """Spending by stage is read from it; a stage without a name could not be told apart."""
    calls = list(read_calls(answered.path / "calls.jsonl"))
    assert {call.stage for call in calls} >= {"explain", "refine", "simulate", "unrefined", "shuffled"}
    assert {call.feature for call in calls} == {f"records/{i}" for i in range(3)}
    paid = [call.digest for call in calls if call.via == "live"]
    assert len(paid) == len(set(paid)), "the same question was paid twice"


def test_an_exported_run_is_recomputed_elsewhere_to_the_byte(answered: Answered, tmp_path: Path, call: Call) -> None:
    """A paper's tables from its replies: another machine, no server, another folder, the same summary."""
    file = tmp_path / "replies.gz"
    # `call` has set a cache of its own, so the run's is named.
    cache = answered.path.parent / "cache" / "autointerp" / "replies.sqlite"
    assert call("cache", "export", "--run", answered.path, "--out", file, "--cache", cache).code == 0
    path = make_run(tmp_path / "elsewhere")
    imported = call("cache", "import", file, "--json")
    assert imported.json["known"] == 0
    assert imported.json["new"] == len({c.digest for c in read_calls(answered.path / "calls.jsonl")})
    assert f"--base-url {answered.base_url}" in imported.out
    api.run_score(path, asking(answered.base_url), offline=True)
    assert (path / "summary.json").read_bytes() == answered.summary
    assert {c.via for c in read_calls(path / "calls.jsonl")} == {"cache"}
    again = call("cache", "import", file, "--json")
    assert again.json["new"] == 0


def test_what_is_missing_is_named_and_nothing_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Recorded as failed, a feature would never be asked when there is a connection again."""
    path = make_run(tmp_path / "run")
    ended = call("score", path, "--llm", "m", "--base-url", NOWHERE, "--offline")
    assert ended.code == 3
    assert "3 replies are not in the cache (explain 3)" in ended.error
    assert "explain of records/0: blake2b:" in ended.error
    assert "was never asked what it can do" in ended.err
    assert not (path / "summary.json").exists()
    stages = api.read_status(path).dictionaries["records"].stages
    assert (stages["explain"].failed, stages["explain"].open) == ({}, 3)
    with rehearsing() as base_url:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        api.run_score(path, {"base_url": base_url})
    assert (path / "summary.json").exists()


def test_a_later_stage_is_reached_as_far_as_the_cache_goes(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With explanations there and simulations gone, explanations are stored, and the simulations are named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "replies.gz"
    api.export_replies(answered.path, file, answered.path.parent / "cache" / "autointerp" / "replies.sqlite")
    api.import_replies(file)
    path = make_run(tmp_path / "run")
    lost = [c.digest for c in read_calls(answered.path / "calls.jsonl") if c.stage == "simulate"]
    with SqliteReplyCache() as cache:
        cache.forget(lost)
    with pytest.raises(MissingRepliesError) as caught:
        api.run_score(path, asking(answered.base_url), offline=True)
    assert caught.value.stages == {"simulate": len(set(lost))}
    store = RunStore(RunFolder(path).store)
    keys = RunFolder(path).read_note("backends")
    assert len(store.explained("records", "graded-120x32", keys["explainer_key"])) == 3
    assert store.scores("records", ScoreKey("graded-60", keys["explainer_key"], keys["simulator_key"])) == []
    store.close()


def test_what_cannot_be_exported_is_said(answered: Answered, tmp_path: Path) -> None:
    path = make_run(tmp_path / "fresh")
    with pytest.raises(UsageError, match="used no reply"):
        api.export_replies(path, tmp_path / "x.gz")
    with pytest.raises(UsageError, match="no run"):
        api.export_replies(tmp_path / "nothing", tmp_path / "x.gz")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        api.export_replies(answered.path, tmp_path / "file" / "x.gz")
    forgotten = api.export_replies(answered.path, tmp_path / "x.gz", tmp_path / "empty.sqlite")
    assert forgotten.replies == 0
    assert forgotten.missing == len({c.digest for c in read_calls(answered.path / "calls.jsonl")})
