"""Batches: as files answered by anything, and through an endpoint; the run that follows is the live one to the byte."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from autointerp import api
from autointerp.config import change_config
from autointerp.errors import RunError, StoppedError, UsageError
from autointerp.interpret.oracle import lookup_oracle
from autointerp.llm.testserver.bodies import Speaker
from autointerp.llm.testserver.profiles import PROFILES
from autointerp.store.calls import CallLog, read_calls
from autointerp.store.folder import RunFolder
from tests.flows.asked_records import MODEL, asking, make_run
from tests.flows.conftest import Call, command, environment
from tests.flows.rehearsal import rehearsing

OPENAI = "https://api.openai.com/v1"
"""Refused in tests as off this machine, and by the endpoint without a key: nobody may try."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Answerer:
    """Someone who reads JSON lines and writes JSON lines, badly."""

    def __init__(self, profile: str = "full") -> None:
        self._speaker = Speaker(lookup_oracle(), PROFILES[profile])
        self._rng = random.Random(0)

    def answer(self, files: list[Path], out: Path, *, well: bool) -> int:
        """Unordered, some twice, some missing, some failed, with lines of somebody else; the number of questions."""
        questions = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        lines = []
        for question in questions:
            said = self._speaker.say(question["url"], question["body"], None)
            response = {"status_code": said.status, "request_id": "r", "body": said.body}
            fate = 0.0 if well else self._rng.random()
            if fate > 0.9:
                continue
            if fate > 0.8:
                response = {"status_code": 500, "request_id": "r", "body": {"error": {"message": "it broke"}}}
            line = json.dumps({"id": "x", "custom_id": question["custom_id"], "response": response, "error": None})
            lines += [line] * (2 if 0.7 < fate <= 0.8 else 1)
        self._rng.shuffle(lines)
        foreign = json.dumps(
            {"custom_id": "of another run", "response": {"status_code": 200, "body": {}}, "error": None}
        )
        out.write_text("\n".join([*lines, foreign, "not json"]) + "\n")
        return len(questions)


def test_files_alone_carry_a_run_to_its_end(tmp_path: Path, call: Call) -> None:
    """No network and no key: each round of files leads on, whatever is wrong with some lines; nothing is asked twice
    that was answered, and the summary is that of the live run."""
    path = make_run(tmp_path / "run")
    changes = ("--llm", MODEL, "--base-url", OPENAI, "--refine")
    answerer, seen, stages = Answerer(), Counter[str](), []
    for round_ in range(12):
        out = tmp_path / f"requests{round_}.jsonl"
        ended = call("batch", "export", path, "--out", out, *changes, "--json")
        assert ended.code == 0, ended.err
        if not ended.json["stages"]:
            break
        stages.append(set(dict(ended.json["stages"])))  # type: ignore[call-overload]
        answerer.answer([out], tmp_path / "answers.jsonl", well=round_ > 5)
        imported = call("batch", "import", path, tmp_path / "answers.jsonl", "--json")
        assert imported.json["foreign"] == 1
        assert imported.json["unreadable"] == 1
        assert "that this run never exported" in imported.out
        seen.update(json.loads(line)["custom_id"] for line in out.read_text().splitlines())
    assert stages[0] == {"explain"}
    assert {"simulate", "shuffled"} <= set.union(*stages)
    assert call("score", path, *changes, "--offline").code == 0
    calls = list(read_calls(path / "calls.jsonl"))
    paid = [c.digest for c in calls if c.via == "batch"]
    assert sorted(paid) == sorted(seen), "every request was answered and counted once"
    assert not [c for c in calls if c.via == "live"]
    live = make_run(tmp_path / "live")
    with rehearsing() as base_url:
        api.run_score(live, {"llm": MODEL, "base_url": base_url, "explain.refine": True, "simulator": "structured"})
    assert (path / "summary.json").read_bytes() == (live / "summary.json").read_bytes()


def test_the_simulator_of_an_endpoint_that_nobody_asked_stays(tmp_path: Path, call: Call) -> None:
    """Probed later, the endpoint might suggest another one, and every answer would be to the wrong question."""
    path = make_run(tmp_path / "run")
    ended = call("batch", "export", path, "--out", tmp_path / "r.jsonl", "--llm", MODEL, "--base-url", OPENAI)
    assert "structured from now" in ended.err
    assert 'simulator = "structured"' in (path / "config.toml").read_text()
    other = make_run(tmp_path / "other")
    flags = ("--llm", MODEL, "--base-url", OPENAI, "--simulator", "top-logprobs", "--explainer", "lookup")
    ended = call("batch", "export", other, "--out", tmp_path / "o.jsonl", *flags)
    assert ended.code == 0, ended.err
    body = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])["body"]
    assert body["top_logprobs"] == 11


def test_a_refused_field_is_left_out_of_the_next_export(tmp_path: Path, call: Call) -> None:
    """A server that knows only `max_completion_tokens` refuses every line of the first batch."""
    path = make_run(tmp_path / "run")
    answerer = Answerer("strict")
    sent = []
    for round_ in range(4):
        out = tmp_path / f"{round_}.jsonl"
        assert call("batch", "export", path, "--out", out, "--llm", MODEL, "--base-url", OPENAI).code == 0
        sent.append(set(json.loads(out.read_text().splitlines()[0])["body"]))
        answerer.answer([out], tmp_path / "answers.jsonl", well=True)
        call("batch", "import", path, tmp_path / "answers.jsonl")
    assert "max_tokens" in sent[0]
    assert "max_tokens" not in sent[1]
    assert "max_completion_tokens" in sent[1]
    assert "temperature" not in sent[2]
    explained = api.read_status(path).dictionaries["records"].stages["explain"]
    assert (explained.failed, explained.open) == ({}, 0)


def test_bad_input_is_said(tmp_path: Path, call: Call) -> None:
    path = make_run(tmp_path / "run")
    assert "--llm MODEL" in call("batch", "export", path, "--out", tmp_path / "x.jsonl").error
    assert "batch export" in call("batch", "import", path, tmp_path / "x.jsonl").error
    flags = ("--llm", MODEL, "--base-url", OPENAI)
    assert call("batch", "export", path, "--out", tmp_path / "x.jsonl", *flags).code == 0
    assert "is there already" in call("batch", "export", path, "--out", tmp_path / "x.jsonl", *flags).error
    assert "cannot read" in call("batch", "import", path, tmp_path / "none.jsonl").error
    assert "OPENAI_API_KEY" in call("batch", "run", path, *flags).error


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, bytes, Path]]:
    """A server whose batches lose, repeat and fail lines; what a live run there comes to; and the server's log."""
    folder = tmp_path_factory.mktemp("live")
    faults = "missing=0.1,duplicate=0.1,error=0.1,foreign=0.1,expired=0.1"
    log = folder / "server.jsonl"
    with (
        pytest.MonkeyPatch.context() as patch,
        rehearsing("--batch-faults", faults, "--batch-delay", "0.05", "--log", str(log)) as base_url,
    ):
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("NO_PROXY", "127.0.0.1")
        path = make_run(folder / "run")
        api.run_score(path, asking(base_url))
        yield base_url, (path / "summary.json").read_bytes(), log


def test_a_run_through_batches_ends_as_a_live_one(live: tuple[str, bytes, Path], tmp_path: Path) -> None:
    """Whatever the batches lose, fail or repeat: the same summary, everything paid at the batch's price."""
    base_url, summary, _ = live
    path = make_run(tmp_path / "run")
    api.run_batches(path, asking(base_url), poll_s=0.05)
    assert (path / "summary.json").read_bytes() == summary
    with CallLog(path / "calls.jsonl") as calls:
        assert {account.via for account in calls.accounts()} == {"batch", "cache"}
    assert not list((path / "batches").iterdir())


def test_prompts_that_are_read_go_through_batches_of_their_own(live: tuple[str, bytes, Path], tmp_path: Path) -> None:
    """They go to another path than chats, and their answers are read by what was asked to be read."""
    base_url, _, log = live
    changes = {"llm": MODEL, "base_url": base_url, "simulator": "prompt-logprobs", "score.guided": 0}
    through, alive = make_run(tmp_path / "run"), make_run(tmp_path / "live")
    api.run_batches(through, changes, poll_s=0.05)
    assert {row["path"] for row in map(json.loads, log.read_text().splitlines()) if row["batch"]} == {
        "/v1/chat/completions",
        "/v1/completions",
    }
    api.run_score(alive, {**changes, "cache": tmp_path / "other.sqlite"})
    assert (through / "summary.json").read_bytes() == (alive / "summary.json").read_bytes()


def test_a_killed_run_sends_nothing_twice(live: tuple[str, bytes, Path], tmp_path: Path) -> None:
    """A batch that is created again after a kill is paid for again."""
    base_url, summary, log = live
    path = make_run(tmp_path / "run")
    folder = RunFolder(path)
    folder.begin(change_config(folder.config(), asking(base_url)))
    before = log.read_text().count("\n")
    words = command("batch", "run", path, "--poll", "0.05")
    rng = random.Random(1)
    for _ in range(5):
        running = subprocess.Popen(words, env=environment(tmp_path / "cache"), stderr=subprocess.DEVNULL)
        time.sleep(1.0 + rng.random() * 1.5)
        running.send_signal(signal.SIGKILL)
        running.wait()
    subprocess.run(words, env=environment(tmp_path / "cache"), check=True, capture_output=True)
    assert (path / "summary.json").read_bytes() == summary
    rows = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    answered = [row for row in rows if row["batch"] and row["status"] == 200]
    paid = [call.digest for call in read_calls(path / "calls.jsonl") if call.via == "batch"]
    assert len(answered) == len(paid), "what the server answered twice is paid for and used once"
    assert len(paid) == len(set(paid))


def test_a_budget_stops_before_the_upload(live: tuple[str, bytes, Path], tmp_path: Path) -> None:
    base_url, _, log = live
    path = make_run(tmp_path / "run")
    before = log.read_text().count('"POST /v1/files"')
    with pytest.raises(StoppedError, match="budget of 500 tokens"):
        api.run_batches(path, asking(base_url, budget_tokens=500), poll_s=0.05)
    assert log.read_text().count('"POST /v1/files"') == before
    with pytest.raises(UsageError, match="no price is known"):
        api.run_batches(path, asking(base_url, budget_usd=1.0), poll_s=0.05)


def test_a_batch_that_fails_as_a_whole_ends_the_run_and_is_asked_again(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    with rehearsing("--batches-fail") as base_url, pytest.raises(RunError, match="could not be processed"):
        api.run_batches(path, asking(base_url), poll_s=0.05)
    exported = api.export_requests(path, tmp_path / "again.jsonl")
    assert exported.stages == {"explain": 6}
    assert os.path.getsize(exported.files[0]) > 0
