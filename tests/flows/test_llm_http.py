"""The LLM path over real HTTP: planted features, a server process that understands them, and what goes wrong.

For each simulator and kind of protocol a true explanation scores high, a wrong one near zero, and no failure becomes a
level.
"""

import asyncio
import sqlite3
import subprocess
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from aiohttp import web
from scipy.stats import spearmanr

from autointerp.errors import UsageError
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.simulate_llm import (
    LlmSimulatorName,
    PromptLogprobsSimulator,
    TopLogprobsSimulator,
    make_llm_simulator,
)
from autointerp.llm.errors import LlmError
from autointerp.llm.probe import probe, probe_prompts
from autointerp.llm.registry import LOOPBACK_ONLY, ConnectedModel, connect_model
from autointerp.records import Explanation, Failed, FeatureRecord, Simulation
from autointerp.store.replies import SqliteReplyCache
from tests.flows.planted import N_FEATURES, explanation_of, feature_record
from tests.flows.rehearsal import COMMAND, rehearsing
from tests.unit.llm.servers import KEY, answering, refusal

T = TypeVar("T")
SIMULATORS: tuple[LlmSimulatorName, ...] = ("structured", "top-logprobs", "prompt-logprobs")
TRUTHFUL = "tests.flows.planted:truthful"
GARBLED = "tests.flows.planted:garbled"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(LOOPBACK_ONLY, "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture(scope="module")
def records() -> list[FeatureRecord]:
    return [feature_record(i) for i in range(N_FEATURES)]


@pytest.fixture(scope="module", params=[False, True], ids=["simulate", "graded"])
def both_records(request: pytest.FixtureRequest) -> list[FeatureRecord]:
    """The planted features with all tokens of their windows scored, and with one target a window."""
    return [feature_record(i, targets=request.param) for i in range(N_FEATURES)]


@pytest.fixture(scope="module")
def truthful_url() -> Iterator[str]:
    with rehearsing("--answer", TRUTHFUL) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def garbled_url() -> Iterator[str]:
    with rehearsing("--answer", GARBLED) as base_url:
        yield base_url


def with_model(
    base_url: str, use: Callable[[ConnectedModel], Awaitable[T]], cache: SqliteReplyCache | None = None
) -> T:
    """Run `use` on a wrapped model of that server."""

    async def run() -> T:
        connected = connect_model("any", base_url=base_url, cache=cache, in_flight=16, first_pause_s=0.05)
        try:
            return await use(connected)
        finally:
            await connected.aclose()

    return asyncio.run(run())


async def probed(kind: LlmSimulatorName, connected: ConnectedModel) -> Simulator:
    """The simulator in the form that the endpoint supports."""
    seen = await probe(connected.provider, connected.meter)
    if kind == "prompt-logprobs":
        seen = seen.model_copy(update={"prompt_logprobs": await probe_prompts(connected.provider)})
    return make_llm_simulator(kind, connected.model, seen)


def explained(record: FeatureRecord, text: str) -> Explanation:
    """A text about a feature."""
    return Explanation(feature=record.feature, text=text, author="human", method="human", examples_digest="none")


def some(kind: LlmSimulatorName, records: list[FeatureRecord]) -> list[FeatureRecord]:
    """All features, or few where an answer is long: the log probabilities of a whole prompt."""
    return records[:4] if kind == "prompt-logprobs" else records


async def simulate_all(simulator: Simulator, records: list[FeatureRecord], texts: list[str]) -> list[Simulation]:
    """Every feature's score windows by its text."""
    return [
        await simulator.simulate(explained(record, text), [example.window for example in record.splits.score])
        for record, text in zip(records, texts, strict=True)
    ]


def rho(record: FeatureRecord, simulation: Simulation) -> float:
    """Spearman over all scored tokens; a constant prediction counts as 0."""
    assert all(levels is not None for levels in simulation.levels), simulation.failures
    truth = [a for example in record.splits.score for a in example.scored_activations]
    predicted = [level for levels in simulation.levels for level in levels or ()]
    return float(spearmanr(truth, predicted).statistic) if len(set(predicted)) > 1 else 0.0


@pytest.mark.parametrize("kind", SIMULATORS)
def test_true_explanations_score_high_and_wrong_ones_near_zero(
    kind: LlmSimulatorName, truthful_url: str, both_records: list[FeatureRecord]
) -> None:
    records = some(kind, both_records)

    async def use(connected: ConnectedModel) -> tuple[list[Simulation], list[Simulation]]:
        simulator = await probed(kind, connected)
        true = await simulate_all(simulator, records, [explanation_of(i) for i in range(len(records))])
        wrong = await simulate_all(
            simulator, records, [explanation_of((i + 1) % N_FEATURES) for i in range(len(records))]
        )
        return true, wrong

    true, wrong = with_model(truthful_url, use)
    right = [rho(record, simulation) for record, simulation in zip(records, true, strict=True)]
    other = [rho(record, simulation) for record, simulation in zip(records, wrong, strict=True)]
    assert np.median(right) >= 0.98, right
    if both_records[0].splits.score[0].target is not None:
        # 40 silent targets, 10 weak and 10 strong ones, read without error: only the ties of the answers are lost.
        assert np.median(right) == pytest.approx(((60**3 - 40**3 - 2 * 10**3) / (60**3 - 60 - 40**3 + 40)) ** 0.5, 1e-3)
    assert abs(np.mean(other)) < 0.05, other


def test_the_explainer_finds_all_planted_rules(truthful_url: str, records: list[FeatureRecord]) -> None:
    async def use(connected: ConnectedModel) -> list[list[Explanation] | Failed]:
        explainer = TsvExplainer(connected.model)
        return [await explainer.explain(record, 1) for record in records]

    results = with_model(truthful_url, use)
    found = [result[0].text for result in results if not isinstance(result, Failed)]
    assert found == [explanation_of(i) for i in range(N_FEATURES)]


@pytest.mark.parametrize("kind", SIMULATORS)
def test_a_garbled_answerer_gives_failures_and_no_level(
    kind: LlmSimulatorName, garbled_url: str, both_records: list[FeatureRecord]
) -> None:
    """Others turn garbled answers into zeros, which then read as a bad explanation."""
    records = some(kind, both_records)

    async def use(connected: ConnectedModel) -> list[Simulation]:
        simulator = await probed(kind, connected)
        return await simulate_all(simulator, records, [explanation_of(i) for i in range(len(records))])

    simulations = with_model(garbled_url, use)
    assert len(simulations) == len(records)
    for record, simulation in zip(records, simulations, strict=True):
        assert simulation.levels == (None,) * len(record.splits.score)
        assert [i for i, _ in simulation.failures] == list(range(len(record.splits.score)))
    reasons = {reason for simulation in simulations for _, reason in simulation.failures}
    assert reasons >= ({"no_logprobs", "refused"} if kind == "prompt-logprobs" else {"malformed", "cut_off", "refused"})


def test_a_revision_that_sees_its_misses_finds_the_planted_rule(truthful_url: str) -> None:
    """From the neighbour's explanation, simulated on the select part in three requests a feature."""
    records = [feature_record(i, targets=True) for i in range(N_FEATURES)]

    async def use(connected: ConnectedModel) -> list[Explanation | Failed]:
        explainer, simulator = TsvExplainer(connected.model), await probed("structured", connected)
        wrong = [explained(record, explanation_of((i + 1) % N_FEATURES)) for i, record in enumerate(records)]
        revisions = []
        for record, explanation in zip(records, wrong, strict=True):
            simulated = await simulator.simulate(explanation, [example.window for example in record.splits.select])
            assert simulated.usage.calls == 3
            revisions.append(await explainer.refine(record, explanation, simulated))
        return revisions

    revisions = with_model(truthful_url, use)
    assert [getattr(revision, "text", revision) for revision in revisions] == [
        explanation_of(i) for i in range(N_FEATURES)
    ]


def test_a_garbled_answerer_gives_no_explanation(garbled_url: str, records: list[FeatureRecord]) -> None:
    async def use(connected: ConnectedModel) -> list[list[Explanation] | Failed]:
        explainer = TsvExplainer(connected.model)
        return [await explainer.explain(record, 2) for record in records]

    results = with_model(garbled_url, use)
    assert [type(result) for result in results] == [Failed] * N_FEATURES


def test_silently_omitted_logprobs_are_noticed(records: list[FeatureRecord]) -> None:
    """By the probe before anything is paid for, and by every answer where the probe was passed by."""

    async def use(connected: ConnectedModel) -> Simulation:
        with pytest.raises(UsageError, match="structured"):
            await probed("top-logprobs", connected)
        (simulation,) = await simulate_all(
            TopLogprobsSimulator(connected.model, "numbers"), records[:1], [explanation_of(0)]
        )
        return simulation

    with rehearsing("--answer", TRUTHFUL, "--profile", "no-logprobs") as base_url:
        simulation = with_model(base_url, use)
    assert {reason for _, reason in simulation.failures} == {"no_logprobs"}
    assert not any(simulation.levels)


@pytest.mark.parametrize("profile", ["no-echo", "no-logprobs"])
def test_a_server_without_prompt_logprobs_is_noticed(profile: str, records: list[FeatureRecord]) -> None:
    """llama.cpp returns the generated token's alone, which read as the prompt's would score at chance."""

    async def use(connected: ConnectedModel) -> Simulation:
        with pytest.raises(UsageError, match="echo"):
            await probed("prompt-logprobs", connected)
        (simulation,) = await simulate_all(PromptLogprobsSimulator(connected.model), records[:1], [explanation_of(0)])
        return simulation

    with rehearsing("--answer", TRUTHFUL, "--profile", profile) as base_url:
        simulation = with_model(base_url, use)
    assert {reason for _, reason in simulation.failures} == {"no_logprobs"}
    assert not any(simulation.levels)


@pytest.mark.parametrize("profile", ["split-digits", "strict", "no-schema"])
def test_lesser_servers_give_the_same_levels(
    profile: str, truthful_url: str, both_records: list[FeatureRecord]
) -> None:
    """Letters where "10" is two tokens, renamed and dropped parameters, JSON without an enforced schema."""
    kind: LlmSimulatorName = "top-logprobs" if profile == "split-digits" else "structured"

    async def use(connected: ConnectedModel) -> list[Simulation]:
        simulator = await probed(kind, connected)
        if profile == "split-digits":
            assert simulator.name == "top-logprobs/letters openai:any"
        return await simulate_all(simulator, both_records[:3], [explanation_of(i) for i in range(3)])

    full = with_model(truthful_url, use) if profile != "split-digits" else None
    with rehearsing("--answer", TRUTHFUL, "--profile", profile) as base_url:
        simulations = with_model(base_url, use)
    levels = [simulation.levels for simulation in simulations]
    assert all(window is not None for windows in levels for window in windows)
    if full is not None:
        assert levels == [simulation.levels for simulation in full]


@pytest.mark.parametrize("kind", SIMULATORS)
def test_a_fifth_of_transient_faults_changes_nothing(
    kind: LlmSimulatorName, truthful_url: str, both_records: list[FeatureRecord]
) -> None:
    async def use(connected: ConnectedModel) -> list[Simulation]:
        simulator = await probed(kind, connected)
        n = 2 if kind == "prompt-logprobs" else 5
        return await simulate_all(simulator, both_records[:n], [explanation_of(i) for i in range(n)])

    with rehearsing("--answer", TRUTHFUL, "--faults", "0.2", "--seed", "4") as base_url:
        assert with_model(base_url, use) == with_model(truthful_url, use)


def test_a_second_run_pays_nothing(truthful_url: str, both_records: list[FeatureRecord], tmp_path: Path) -> None:
    """The same replies, refusals and texts, and the meter stays at zero; sixty targets are six requests."""
    records = both_records[:4]
    graded = records[0].splits.score[0].target is not None

    async def use(connected: ConnectedModel) -> tuple[object, int]:
        explainer = TsvExplainer(connected.model)
        explanations = [await explainer.explain(record, 2) for record in records]
        simulator = make_llm_simulator("structured", connected.model, await probe(connected.provider))
        simulations = await simulate_all(simulator, records, [explanation_of(i) for i in range(4)])
        return (explanations, simulations), connected.meter.usage.calls

    with SqliteReplyCache(tmp_path / "replies.sqlite") as cache:
        first, paid = with_model(truthful_url, use, cache)
    with SqliteReplyCache(tmp_path / "replies.sqlite") as cache:
        second, paid_again = with_model(truthful_url, use, cache)
    assert [len(record.splits.score) for record in records] == [60 if graded else 20] * 4
    assert paid == 4 * 2 + 4 * (6 if graded else 20)
    assert paid_again == 0
    assert first == second


def test_the_key_is_in_no_file(records: list[FeatureRecord], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Results, cache, server log, our log at its most talkative, and errors of a server that repeats the key."""
    caplog.set_level("DEBUG")

    async def use(connected: ConnectedModel) -> str:
        result = await TsvExplainer(connected.model).explain(records[0], 1)
        simulator = await probed("top-logprobs", connected)
        (simulation,) = await simulate_all(simulator, records[:1], [explanation_of(0)])
        return repr(result) + simulation.model_dump_json() + repr(connected)

    async def complain() -> str:
        async def handler(_: dict[str, object]) -> web.Response:
            return refusal(401, f"Incorrect API key provided: {KEY}")

        async with answering(handler) as base_url:
            connected = connect_model("any", base_url=base_url)
            with pytest.raises(LlmError) as caught:
                await TsvExplainer(connected.model).explain(records[0], 1)
            await connected.aclose()
        return str(caught.value) + repr(caught.value.__cause__)

    replies = tmp_path / "replies.sqlite"
    with (
        rehearsing("--answer", TRUTHFUL, errors=tmp_path / "server.log") as base_url,
        closing(SqliteReplyCache(replies)) as cache,
    ):
        (tmp_path / "results.txt").write_text(with_model(base_url, use, cache))
    (tmp_path / "errors.txt").write_text(asyncio.run(complain()))
    (tmp_path / "own.log").write_text(caplog.text)
    for path in tmp_path.rglob("*"):
        assert KEY.encode() not in path.read_bytes(), path
    assert KEY.encode() not in _unpacked(replies)


def _unpacked(replies: Path) -> bytes:
    """The cached replies as they were before compression."""
    with closing(sqlite3.connect(replies)) as db:
        rows = db.execute("select body from reply").fetchall()
    assert rows
    return b"".join(zlib.decompress(row[0]) for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "strickt"], "strict"),
        (["--answer", "nothing"], "MODULE:FUNCTION"),
        (["--answer", "no/such.jsonl"], "no/such.jsonl"),
        (["--answer", "no.such:thing"], "no.such"),
        (["--faults", "2"], "shares of faults"),
        (["--faults", "cutt=0.1"], "cut"),
        (["--log", "no/such/log"], "no/such/log"),
    ],
)
def test_a_rehearsal_that_cannot_start_says_why(options: list[str], said: str) -> None:
    ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_said() -> None:
    with rehearsing("--answer", "lookup") as base_url:
        port = base_url.split(":")[2].removesuffix("/v1")
        ended = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {port}" in ended.stderr
