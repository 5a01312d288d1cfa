"""How models write what they were asked for, over real HTTP: wrapping changes no level, and no fault becomes one.

One server plays every habit, by the name of the model that is asked for.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.simulate import Simulator
from autointerp.interpret.simulate_llm import StructuredSimulator, TopLogprobsSimulator
from autointerp.llm.answers import Answer, RequestBody, spelled
from autointerp.llm.registry import LOOPBACK_ONLY, connect_model
from autointerp.records import Explanation, Failed, Simulation
from tests.flows.planted import explanation_of, feature_record, truthful
from tests.flows.rehearsal import rehearsing

OBJECTS = {
    "prose": lambda d: f"Of course!\n```JSON\n{json.dumps(d)}\n```\nPassage {{2}} was hard.",
    "floats": lambda d: json.dumps({k: float(v) for k, v in d.items()}),
    "strings": lambda d: json.dumps({k: str(v) for k, v in d.items()}),
    "nested": lambda d: json.dumps({"note": "as asked", "levels": d}),
    "sorted": lambda d: json.dumps({k: d[k] for k in sorted(d)}),
    "turns": lambda d: f"{json.dumps(d)}<|im_end|>\n<|im_start|>user\n{json.dumps({**d, '1': 9})}",
    "half-thought": lambda d: f"Perhaps {json.dumps({**d, '1': 9})}\n</think>\n{json.dumps(d)}",
    "harmony": lambda d: (
        f"<|channel|>analysis<|message|>{json.dumps({**d, '1': 9})}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{json.dumps(d)}<|return|>"
    ),
}
WRONG = {
    "two": lambda d: f"{json.dumps(d)} or {json.dumps({**d, '1': 10 - d['1']})}",
    "missing": lambda d: json.dumps({k: v for k, v in d.items() if k != "2"}),
    "double": lambda d: json.dumps(d)[:-1] + ', "2": 5}',
    "extra": lambda d: json.dumps({**d, str(len(d) + 1): 0}),
    "from-zero": lambda d: json.dumps({str(int(k) - 1): v for k, v in d.items()}),
    "halves": lambda d: json.dumps({k: v + 0.5 for k, v in d.items()}),
    "truth-values": lambda d: json.dumps({k: v > 0 for k, v in d.items()}),
    "words": lambda d: json.dumps(dict.fromkeys(d, "three")),
    "list": lambda d: json.dumps({"levels": list(d.values())}),
    "only-thought": lambda d: f"<think>{json.dumps(d)}",
}
LINES = {
    "runs-on": ("", "".join(f"\n{i}: k" for i in range(11, 60))),
    "introduced": ("Here they are:\n\n", "\n\nPassage 2 was hard."),
    "fenced": ("```text\n", "\n```"),
    "thought": ("<think>1: k\n2: k</think>\n", ""),
    "ended": ("", "<|im_end|>"),
}
WRONG_LINES = {"again": ("", "\n1: k\n2: k"), "begun": ("1: k\n", ""), "skipped": ("", "\n12: k")}
EXPLANATIONS = {
    "heading": "### Explanation\n\nthe word river",
    "object": 'Sure:\n{"explanation": "the word river"}',
    "marks": "**Explanation:** “the word river”<|im_end|>",
    "note": 'Explanation: no line that starts with "Explanation:".',
    "sorry": "Explanation: I am sorry, I cannot help with that.",
}


def habits(body: RequestBody) -> Answer | None:
    """The truthful answer, as the model of that name writes it."""
    name, true = str(body["model"]), truthful(body)
    if name in EXPLANATIONS:
        return Answer(EXPLANATIONS[name])
    if not isinstance(true, Answer):
        return None
    if name in OBJECTS or name in WRONG:
        return Answer((OBJECTS | WRONG)[name](json.loads(true.text)))
    if name not in LINES | WRONG_LINES or not true.tokens:
        return true
    before, after = (LINES | WRONG_LINES)[name]
    tokens = true.tokens[:-1] if after else true.tokens  # without the last line's end
    text = "".join(token.token for token in tokens)
    return Answer(before + text + after, (*spelled(before), *tokens, *spelled(after)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with rehearsing("--answer", "tests.flows.test_habits_of_answers:habits") as base_url:
        yield base_url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOPBACK_ONLY, "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def simulated(url: str, habit: str, kind: str) -> Simulation:
    """A feature's windows by its true explanation."""
    record = feature_record(0, targets=True)
    windows = [example.window for example in record.splits.score[:20]]
    explanation = Explanation(
        feature=record.feature, text=explanation_of(0), author="human", method="human", examples_digest="none"
    )

    async def run() -> Simulation:
        connected = connect_model(habit, base_url=url, in_flight=4, first_pause_s=0.05)
        simulator: Simulator = StructuredSimulator(connected.model)
        if kind == "letters":
            simulator = TopLogprobsSimulator(connected.model, "letters")
        try:
            return await simulator.simulate(explanation, windows)
        finally:
            await connected.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize(("habit", "kind"), [*((h, "structured") for h in OBJECTS), *((h, "letters") for h in LINES)])
def test_how_an_answer_is_wrapped_changes_no_level(url: str, habit: str, kind: str) -> None:
    """Each of these cost three requests and then the question, at servers and small models in daily use."""
    plain = simulated(url, "plain", kind)
    assert any(level for levels in plain.levels for level in levels or ())
    wrapped = simulated(url, habit, kind)
    assert (wrapped.levels, wrapped.failures) == (plain.levels, ())
    assert wrapped.expected == plain.expected


@pytest.mark.parametrize(
    ("habit", "kind"), [*((h, "structured") for h in WRONG), *((h, "letters") for h in WRONG_LINES)]
)
def test_what_cannot_be_aligned_is_a_failure(url: str, habit: str, kind: str) -> None:
    """A level read off a wrong line is a wrong number that nobody sees."""
    simulation = simulated(url, habit, kind)
    assert set(simulation.levels) == {None}
    assert len(simulation.failures) == len(simulation.levels)


@pytest.mark.parametrize("habit", list(EXPLANATIONS))
def test_explanations_as_models_write_them(url: str, habit: str) -> None:
    """A heading, an object, marks of the chat: read. Our own words and an apology: asked again, then a failure."""

    async def run() -> Any:
        connected = connect_model(habit, base_url=url, in_flight=4, first_pause_s=0.05)
        try:
            return await TsvExplainer(connected.model).explain(feature_record(0), 1)
        finally:
            await connected.aclose()

    answer = asyncio.run(run())
    if habit in ("note", "sorry"):
        assert isinstance(answer, Failed)
        assert answer.attempts == 3
    else:
        assert [found.text for found in answer] == ["the word river"]
