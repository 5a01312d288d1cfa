"""Real servers with a real, small model: every question is answered once or lost with a reason, whatever it says.

SmolLM2 has no skill as a judge, so no score is expected of it; what is held is that nothing is asked twice, that no
server needs an option that the README does not name, and that what the probe wrote down is true.
"""

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.endpoints.conftest import Started, free_port, place
from tests.flows.asked_records import N_FEATURES, make_run
from tests.flows.conftest import command, environment


class Ended:
    """A finished command and what its run holds."""

    def __init__(self, folder: Path, done: "subprocess.CompletedProcess[str]") -> None:
        assert done.returncode == 0, done.stderr[-3000:]
        self.capabilities = json.loads((folder / "endpoints.json").read_text())
        self.summary = json.loads((folder / "summary.json").read_text())["dictionaries"]["records"]
        calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
        self.live = Counter(call["digest"] for call in calls if call["via"] == "live")


def score(folder: Path, url: str, model: str, *more: str) -> Ended:
    """`autointerp score` as a user types it."""
    words = command("score", folder, "--llm", model, "--base-url", url, "--json", *more)
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment(folder.parent / "cache"), timeout=3000
    )
    return Ended(folder, done)


def holds(ended: Ended) -> None:
    """What no server may break: all features explained or failed by what the model said, nothing lost in between."""
    summary = ended.summary
    answered = summary["scored"] + sum(summary["undefined"].values())
    said = {"malformed", "misaligned", "no_pattern", "refused", "cut_off"}
    assert answered + sum(summary["failed"].values()) + sum(summary["skipped"].values()) == N_FEATURES
    assert set(summary["failed"]) <= said, summary["failed"]
    assert max(ended.live.values()) == 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", 60)


def test_llama_cpp_as_the_readme_starts_it(run: Path, llama_cpp: Started) -> None:
    """Its slots share one context, it never ends by itself, and it queues without a word."""
    port = free_port()
    with llama_cpp(port):
        ended = score(run, f"http://127.0.0.1:{port}/v1", "smollm2")
    holds(ended)
    (seen,) = ended.capabilities.values()
    assert seen["top_logprobs"] == 20
    assert seen["json_schema"]


def test_llama_cpp_with_little_room(run: Path, llama_cpp: Started) -> None:
    """Four slots of 2,048 tokens: prompts are refused as too long, and answers end where the slot does."""
    port = free_port()
    with llama_cpp(port, "--parallel", "4", "--ctx-size", "8192", "--no-kv-unified"):
        ended = score(run, f"http://127.0.0.1:{port}/v1", "smollm2", "--simulator", "structured")
    holds(ended)


def test_llama_cpp_that_is_killed_and_comes_back(run: Path, llama_cpp: Started) -> None:
    """The run waits for the server; no answer is lost."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1"
    ended: list[Ended] = []
    with llama_cpp(port) as first:
        thread = threading.Thread(target=lambda: ended.append(score(run, url, "smollm2", "--simulator", "structured")))
        thread.start()
        give_up = time.monotonic() + 600
        while not (run / "calls.jsonl").exists() or (run / "calls.jsonl").read_text().count("\n") < 2:
            assert time.monotonic() < give_up
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with llama_cpp(port):
        thread.join(1800)
    holds(ended[0])


def test_litellm_in_front_of_llama_cpp(run: Path, llama_cpp: Started, litellm: Started) -> None:
    """A proxy passes fields, refusals and errors through in its own words."""
    behind, port = free_port(), free_port()
    with llama_cpp(behind), litellm(port, f"http://127.0.0.1:{behind}/v1"):
        ended = score(run, f"http://127.0.0.1:{port}/v1", "smollm2")
    holds(ended)


def test_transformers_serve(run: Path, transformers_serve: Started) -> None:
    """It ignores log probabilities, schemas and echo without a word, and works on one request at a time."""
    port = free_port()
    with transformers_serve(port):
        model = place("AUTOINTERP_SMOLLM2_FOLDER")
        ended = score(run, f"http://127.0.0.1:{port}/v1", model, "--features", "0")
    (seen,) = ended.capabilities.values()
    assert (seen["top_logprobs"], seen["json_schema"]) == (0, False)
    assert max(ended.live.values()) == 1
