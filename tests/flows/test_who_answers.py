"""Who answers is compared with who was asked and who answered before: over real HTTP, with judges that give names."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from autointerp import api
from autointerp.errors import UsageError
from autointerp.interpret.oracle import lookup_oracle
from autointerp.listener import Listener
from autointerp.llm.testserver.bodies import Speaker
from autointerp.llm.testserver.profiles import Profile
from autointerp.store.folder import RunFolder
from tests.flows.asked_records import make_run
from tests.flows.conftest import Call

ASKED = "local"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class Judge:
    """A server that anybody may be behind: its name, its answers' ids, and whether it reads what it is asked."""

    def __init__(self) -> None:
        self.name: Callable[[int], str] = lambda n: ASKED
        self.number: Callable[[int], str] = lambda n: f"id-{n}"
        self.dull = False
        self.asked: list[str] = []
        """The last message of each question, the probe's among them."""
        self._count = itertools.count(1)
        self._speaker = Speaker(lookup_oracle(), Profile())

    def answer(self, path: str, body: dict[str, object]) -> dict[str, object]:
        messages = body["messages"]
        assert isinstance(messages, list)
        n = next(self._count)
        self.asked.append(messages[-1]["content"])
        said: dict[str, object] = json.loads(json.dumps(self._speaker.say(path, body, None).body))
        if self.dull:
            said["choices"] = [{"message": {"content": "no"}, "finish_reason": "stop"}]
        return {**said, "model": self.name(n), "id": self.number(n)}

    @property
    def questions(self) -> int:
        """Those that were not the probe's."""
        return sum("Window" in text or "Explanation:" in text for text in self.asked)

    @contextmanager
    def serving(self) -> Iterator[str]:
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send({"data": [{"id": ASKED}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(judge.answer(self.path, body))

            def _send(self, value: object) -> None:
                data = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()


def score(run: Path, url: str, cache: Path, **more: object) -> list[str]:
    """Score a run; what was said meanwhile."""
    told: list[str] = []
    changes = {"llm": ASKED, "base_url": url, "cache": cache, "simulator": "structured", **more}
    api.run_score(run, changes, Listener(note=told.append))
    return told


def served(run: Path) -> list[tuple[list[str], int]]:
    notes = RunFolder(run).read_note("endpoints").values()
    return [(value["served"], value["crossed"]) for value in notes]


def test_another_judge_under_the_same_name_does_not_answer_from_the_first_ones_cache(tmp_path: Path) -> None:
    """`llama-server -m A.gguf`, then `-m B.gguf`: B got the probe alone, and A's score was reported as B's."""
    judge, cache = Judge(), tmp_path / "cache.sqlite"
    with judge.serving() as url:
        score(make_run(tmp_path / "a"), url, cache)
        n = judge.questions
        judge.name = lambda _: "B.gguf"
        told = score(make_run(tmp_path / "b"), url, cache)
        assert judge.questions == 2 * n
        assert any("B.gguf answers at" in line and "where local answered before" in line for line in told)
        assert served(tmp_path / "b") == [(["B.gguf"], 0)]
        report = (tmp_path / "b" / "report.html").read_text()
        assert "B.gguf answered where local was asked" in report
        with pytest.raises(UsageError, match=r"who answered for the judge differs: local in .*, B\.gguf in "):
            api.compare_runs([tmp_path / "a", tmp_path / "b"])
        # Both keep their answers, and each finds its own.
        score(make_run(tmp_path / "b2"), url, cache)
        judge.name = lambda _: ASKED
        score(make_run(tmp_path / "a2"), url, cache)
        assert judge.questions == 2 * n
    summaries = [(tmp_path / name / "summary.json").read_bytes() for name in ("a", "b", "a2", "b2")]
    assert len(set(summaries)) == 1, "all of them are one oracle"


def test_a_version_of_the_name_that_was_asked_for_is_the_same_judge(tmp_path: Path) -> None:
    """Hosted models answer under dated names: a run is not paid for again for that."""
    judge, cache = Judge(), tmp_path / "cache.sqlite"
    with judge.serving() as url:
        judge.name = lambda _: f"{ASKED}-2026-01-02"
        score(make_run(tmp_path / "a"), url, cache)
        n = judge.questions
        judge.name = lambda _: f"{ASKED}-2026-03-04"
        score(make_run(tmp_path / "b"), url, cache)
        assert judge.questions == n


def test_a_judge_that_changes_on_the_way_is_told_and_asked_anew_what_it_does(tmp_path: Path) -> None:
    judge, run = Judge(), make_run(tmp_path / "run")
    with judge.serving() as url:
        judge.name = lambda n: ASKED if n < 12 else "another-model-entirely"
        told = score(run, url, tmp_path / "cache.sqlite")
        assert any("another-model-entirely answers at" in line and "answers of both" in line for line in told)
        assert served(run) == [([ASKED, "another-model-entirely"], 0)]
        n, questions = len(judge.asked), judge.questions
        score(run, url, tmp_path / "cache.sqlite")
        assert len(judge.asked) > n, "the probe"
        assert judge.questions == questions


def test_answers_that_come_for_two_questions_are_told(tmp_path: Path) -> None:
    """A proxy that crosses answers moved scores by half without a word."""
    judge, run = Judge(), make_run(tmp_path / "run")
    with judge.serving() as url:
        judge.number = lambda n: f"id-{n - n % 5 // 4}"
        told = score(run, url, tmp_path / "cache.sqlite")
    assert any("with the id of an answer to another question" in line for line in told)
    ((_, crossed),) = served(run)
    assert crossed == (len(judge.asked) + 1) // 5, "the fourth of every five"


def test_a_server_with_one_id_for_all_its_answers_crosses_none(tmp_path: Path) -> None:
    judge, run = Judge(), make_run(tmp_path / "run")
    with judge.serving() as url:
        judge.number = lambda _: "x"
        told = score(run, url, tmp_path / "cache.sqlite")
    assert not any("another question" in line for line in told)


def test_a_probe_that_stops_the_run_is_not_kept(tmp_path: Path) -> None:
    """The mended server was never asked again: the same error came back with no request sent."""
    judge, run = Judge(), make_run(tmp_path / "run")
    with judge.serving() as url:
        judge.dull = True
        with pytest.raises(UsageError, match="answers every question alike"):
            score(run, url, tmp_path / "cache.sqlite")
        assert RunFolder(run).read_note("endpoints") == {}
        judge.dull = False
        score(run, url, tmp_path / "cache.sqlite")
    assert (run / "summary.json").is_file()


def test_a_probe_is_believed_for_a_day_and_until_asked_again(tmp_path: Path, call: Call) -> None:
    """A server started with other flags, or another file, does other things."""
    judge, run, cache = Judge(), make_run(tmp_path / "run"), tmp_path / "cache.sqlite"
    with judge.serving() as url:
        score(run, url, cache)
        n = len(judge.asked)
        score(run, url, cache)
        assert len(judge.asked) == n
        assert call("score", run, "--probe").code == 0
        probed = len(judge.asked)
        assert probed > n
        notes = RunFolder(run).read_note("endpoints")
        for value in notes.values():
            value["seen"] = time.time() - 25 * 3600
        RunFolder(run).write_note("endpoints", notes)
        score(run, url, cache)
        assert len(judge.asked) == probed + (probed - n)


def test_explaining_needs_no_simulator(tmp_path: Path) -> None:
    """`explain` failed where the simulator of the run could not be made, and had no way to name another."""
    judge, run = Judge(), make_run(tmp_path / "run")
    told: list[str] = []
    with judge.serving() as url:
        judge._speaker = Speaker(lookup_oracle(), Profile(logprobs="absent"))
        changes = {"llm": ASKED, "base_url": url, "cache": tmp_path / "c.sqlite", "simulator": "prompt-logprobs"}
        assert api.run_explain(run, changes, Listener(note=told.append)) == 3
