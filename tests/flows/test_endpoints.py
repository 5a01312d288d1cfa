"""Every endpoint of docs/endpoints.md, played over real HTTP by the test server: each ends with the scores of a fast,
faultless one that writes levels in the same way.

Guards against what endpoints do in silence or say in words of their own: refused fields, thoughts, cut prompts, other
shapes of errors and log probabilities, contexts that are full.
"""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from autointerp import api
from autointerp.interpret.oracle import lookup_oracle, stage_of
from autointerp.llm.testserver.habits import widened
from autointerp.llm.testserver.profiles import PROFILES, Profile
from autointerp.llm.testserver.server import TestServer
from autointerp.store.runs import RunStore
from tests.flows.asked_records import MODEL, N_FEATURES, make_run
from tests.flows.serving import in_thread


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


DOCS = Path(__file__).parents[2] / "docs" / "endpoints.md"
ROOMY = 16_384
"""A context in tokens that every question fits."""
TIGHT = 3000
"""One that holds the demonstrations and half of a feature's examples, or of ten passages."""


class Scored(NamedTuple):
    """What a run against a server came to."""

    means: tuple[float | None, ...]
    simulator: str
    lost: dict[str, int]
    """Windows without an answer, by reason."""
    twice: int
    """Questions that the server received more than once."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three features, each of which fires on one word."""
    folder = tmp_path_factory.mktemp("records")
    make_run(folder / "run", 100)
    return folder / "run.jsonl"


@pytest.fixture(scope="module")
def ask(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Scored]:
    """Score the features by a server with a profile."""

    def scored(profile: Profile, *, latency_s: float = 0.0, query: str = "", **changes: object) -> Scored:
        folder = tmp_path_factory.mktemp("run")
        api.import_records(records, folder / "run")
        server = TestServer(lookup_oracle(), profile, latency_s=latency_s, stage_of=stage_of)
        with in_thread(server) as url:
            base_url = f"{url.removesuffix('/v1')}/openai/deployments/{MODEL}?{query}" if query else url
            settings = {"llm": MODEL, "base_url": base_url, "cache": folder / "cache.sqlite", "score.guided": 0}
            summary = api.run_score(folder / "run", settings | changes)["records"]
        assert (summary.scored, summary.n_features) == (N_FEATURES, N_FEATURES), summary
        with closing(RunStore(folder / "run" / "store.sqlite")) as store:
            (key,) = store.score_keys("records")
            lost = store.lost_windows("records", key)
        means = (summary.spearman.mean, summary.null_threshold, summary.shuffled.mean)
        return Scored(means, key.simulator.partition(" ")[0], lost, sum(n > 1 for n in server.asked.values()))

    return scored


@pytest.fixture(scope="module")
def fast(ask: Callable[..., Scored]) -> dict[str, Scored]:
    """What a server comes to that does all that it is asked, by how levels are written."""
    return {
        "structured": ask(PROFILES["full"], simulator="structured"),
        "top-logprobs/letters": ask(replace(PROFILES["full"], splits_digits=True), simulator="top-logprobs"),
        "top-logprobs/numbers": ask(PROFILES["full"], simulator="top-logprobs"),
    }


class Row(NamedTuple):
    """An endpoint of the docs' table: its profile, and how levels are written there."""

    profile: str
    simulator: str


ROWS = (
    Row("openai", "top-logprobs/numbers"),
    Row("openai-reasoning", "structured"),
    Row("anthropic", "structured"),
    Row("gemini", "structured"),
    Row("deepseek", "top-logprobs/numbers"),
    Row("deepseek-reasoner", "structured"),
    Row("mistral", "structured"),
    Row("mistral-reasoning", "structured"),
    Row("groq", "structured"),
    Row("together", "structured"),
    Row("openrouter", "structured"),
    Row("litellm", "structured"),
    Row("vllm", "top-logprobs/numbers"),
    Row("vllm-sentencepiece", "structured"),
    Row("vllm-thinking", "structured"),
    Row("vllm-harmony", "structured"),
    Row("sglang", "structured"),
    Row("llama.cpp", "top-logprobs/numbers"),
    Row("ollama", "top-logprobs/numbers"),
    Row("lmstudio", "structured"),
    Row("transformers-serve", "structured"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.profile)
def test_an_endpoint_comes_to_what_a_faultless_one_does(
    row: Row, ask: Callable[..., Scored], fast: dict[str, Scored]
) -> None:
    """A habit of a server must change neither a score nor how often a question is asked."""
    profile = PROFILES[row.profile]
    scored = ask(widened(profile, ROOMY) if profile.window and profile.window.tokens < ROOMY else profile)
    assert scored.simulator == row.simulator
    assert scored.means == fast[row.simulator].means
    assert not scored.lost
    assert not scored.twice


@pytest.mark.parametrize("name", ["groq", "lmstudio", "llama.cpp", "ollama", "vllm", "anthropic", "gemini", "sglang"])
def test_what_does_not_fit_is_asked_in_halves(name: str, ask: Callable[..., Scored]) -> None:
    """Each server says that a prompt is too long in its own words, and one cuts it without any."""
    scored = ask(widened(PROFILES[name], TIGHT), latency_s=0.01)
    assert not scored.lost
    assert (scored.means[0] or 0) > 0.5


def test_azure_is_asked_with_the_query_of_its_url(ask: Callable[..., Scored], fast: dict[str, Scored]) -> None:
    """`…/deployments/X?api-version=…/chat/completions` leads nowhere."""
    scored = ask(PROFILES["azure"], query="api-version=2024-10-21")
    assert scored.means == fast["top-logprobs/numbers"].means


def test_the_docs_name_what_is_played() -> None:
    """A row of the docs' table without its test, or a test without its row, is a claim that nobody checks."""
    named = set(
        re.findall(r"`([^`]+)`", "".join(re.findall(r"\| played ([^|]*) \|", DOCS.read_text(encoding="utf-8"))))
    )
    assert named == {row.profile for row in ROWS} | {"azure"}
