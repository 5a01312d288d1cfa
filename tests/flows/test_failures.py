"""No path leads from a failure to a number: every class of failure at every stage, through pipeline and store.

Eight planted features; one of them meets the failure at one stage. Its outcome row says so, and every other feature's
scores, and so every mean, are those of the undisturbed run without it.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from autointerp import pipeline
from autointerp.config import ScoreConfig
from autointerp.interpret.explain_tsv import TsvExplainer
from autointerp.interpret.oracle import oracle
from autointerp.interpret.protocols import make_plan
from autointerp.interpret.simulate import Tokens
from autointerp.interpret.simulate_llm import StructuredSimulator
from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.llm.answers import Answer
from autointerp.llm.base import ChatReply, ChatRequest
from autointerp.llm.errors import (
    BadRequestError,
    ConnectionLostError,
    ContextTooLongError,
    EndpointTimeoutError,
    LlmError,
    MalformedReplyError,
    RateLimitedError,
    ServerFailedError,
    UnsupportedParameterError,
)
from autointerp.pipeline import final_outcomes, partner_order
from autointerp.plans import Interpretation
from autointerp.records import Done, Example, Failed, FailedStage, FeatureRecord, Outcome, Usage
from autointerp.scores import FeatureScore
from autointerp.store.runs import RunStore
from tests.flows.planted import STRONG, WEAK, WORDS, feature_record

FEATURES = range(8)
STAGES: tuple[FailedStage, ...] = ("explain", "select", "simulate", "refine", "shuffled")
_TEXT = re.compile(r'the word "([^"]+)"(|, more strongly after "very"|, as a guess)')


@dataclass(frozen=True)
class Fault:
    """What the endpoint does instead of answering, and the reason that must be written down."""

    does: LlmError | ChatReply
    reason_of_text: str
    reason_of_levels: str


def _reply(text: str = "", finish_reason: str = "stop", *, refused: bool = False) -> ChatReply:
    return ChatReply(
        text=text, finish_reason=finish_reason, model="m", refused=refused, usage=Usage(calls=1, output_tokens=1)
    )


def _error(error: LlmError) -> Fault:
    return Fault(error, error.reason, error.reason)


FAULTS: Mapping[str, Fault] = {
    "refused": Fault(_reply(refused=True), "refused", "refused"),
    "cut off": Fault(_reply("Explanation: the", "length"), "cut_off", "cut_off"),
    "empty": Fault(_reply(), "empty", "empty"),
    "malformed": Fault(_reply("I would say seven, all in all."), "no_explanation", "malformed"),
    "misaligned": Fault(_reply('{"1": 0, "3": 5}'), "no_explanation", "too_few_levels"),
    "out of range": Fault(_reply(json.dumps({str(i): 11 for i in range(1, 11)})), "no_explanation", "out_of_range"),
    "rate limited": _error(RateLimitedError("slow down")),
    "server failed": _error(ServerFailedError(500, "oops")),
    "timeout": _error(EndpointTimeoutError(2)),
    "connection lost": _error(ConnectionLostError("http://127.0.0.1", "cut")),
    "no completion": _error(MalformedReplyError("not JSON")),
    "context too long": _error(ContextTooLongError("too many tokens")),
    "unsupported": _error(UnsupportedParameterError("response_format is not supported")),
    "bad request": _error(BadRequestError(400, "no")),
}


def levels_of(explanation: str, tokens: Tokens) -> list[int] | None:
    """The first text of a feature knows the word; a revision also what makes it stronger; the guess is often wrong."""
    match = _TEXT.fullmatch(explanation)
    if match is None:
        return None
    after = {"": WEAK, ', more strongly after "very"': STRONG, ", as a guess": 0}[match[2]]
    return [
        0 if token != match[1] else after if previous == " very" else WEAK
        for previous, token in zip(["", *tokens], tokens, strict=False)
    ]


class Endpoint:
    """A model that understands all our prompts, and fails where one feature meets one stage."""

    name = "fake:endpoint"

    def __init__(self, feature: int = -1, stage: FailedStage | None = None, fault: Fault | None = None) -> None:
        self.feature, self.stage, self.fault = feature, stage, fault
        self._answer = oracle(levels_of)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """An answer, or the fault."""
        text = request.messages[-1].content
        if text.startswith("Write your answer again"):
            text = request.messages[-3].content
        feature, stage = self._where(text)
        if (feature, stage) == (self.feature, self.stage) and self.fault:
            if isinstance(self.fault.does, LlmError):
                raise self.fault.does
            return self.fault.does
        if stage == "explain":
            return _reply(f'Explanation: the word "{WORDS[feature]}"{", as a guess" if request.sample % 2 else ""}')
        if stage == "refine":
            return _reply(f'Explanation: the word "{WORDS[feature]}", more strongly after "very"')
        answer = self._answer({"messages": [m.model_dump() for m in request.messages]})
        assert isinstance(answer, Answer)
        return _reply(answer.text)

    def _where(self, text: str) -> tuple[int, FailedStage]:
        """Which feature a question belongs to, and at which stage it is asked."""
        if text.startswith("Description:"):
            return _named(text), "refine"
        if not text.startswith("Explanation:"):
            lines = text.split("\n\n")[0].split("\n")[1:]
            return _owners()["".join(line.partition("\t")[0] for line in lines)][0], "explain"
        feature, part = _owner(text)
        if part == "select":
            return feature, "select"
        return feature, "simulate" if _named(text) == feature else "shuffled"


def _named(text: str) -> int:
    match = _TEXT.search(text)
    assert match is not None
    return WORDS.index(match[1])


def _owner(text: str) -> tuple[int, str]:
    """The feature and the part whose windows a question shows."""
    passage = text.split("\n1\t")[1].split("\n")[0]
    bare = passage.replace("«", "").replace("»", "")
    return _owners()[bare]


@cache
def _owners() -> dict[str, tuple[int, str]]:
    return {
        "".join(example.record.tokens): (feature, part)
        for feature in FEATURES
        for part in ("explain", "select", "score")
        for example in getattr(Planted().feature_record(feature).splits, part)
    }


class Planted:
    """Makes the planted features' records; no guided negatives."""

    def feature_record(self, feature: int) -> FeatureRecord:
        return feature_record(feature, "graded-120x32", targets=True)

    def guided_examples(self, feature: int, explanation: str, n: int) -> tuple[Example, ...]:
        return ()


@dataclass(frozen=True)
class Ended:
    """What a run left in its store."""

    scores: Mapping[int, FeatureScore]
    outcomes: Mapping[int, Outcome]
    refine: Mapping[int, Outcome]
    shuffled: Mapping[int, Outcome]
    summary: DictionarySummary


def interpret(folder: Path, endpoint: Endpoint, candidates: int = 2, *, refine: bool = True) -> Ended:
    """Explain, choose, refine, score and shuffle."""
    store = RunStore(folder / "store.sqlite")
    explainer = TsvExplainer(endpoint)
    plan = Interpretation(
        store=store,
        dictionary="planted",
        features=FEATURES,
        plan=make_plan("graded", ScoreConfig()),
        explainer_key="tsv",
        simulator_key="structured",
        maker=Planted(),
        explainer=explainer,
        refiner=explainer if refine else None,
        simulator=StructuredSimulator(endpoint),
        simulator_is_free=False,
        candidates=candidates,
        guided=0,
        interval="jackknife",
        seed=0,
        concurrency=4,
        progress=lambda stage, done, total: None,
    )

    async def work() -> None:
        await pipeline.interpret([plan])

    asyncio.run(work())
    try:
        scores = store.scores("planted", plan.key)
        ended = final_outcomes(plan)
        summary = summarise(
            "trained", FEATURES, scores, ended, explained=len(scores), protocol="graded-60", n_windows=60, n_tokens=1,
            l0=None, density=None, n_alive=8, refinements={}, seed=0,
        )  # fmt: skip
        refined, shuffled = (store.outcomes("planted", step) for step in (plan.refine_step, plan.shuffled_step))
        return Ended({s.feature.index: s for s in scores}, ended, refined, shuffled, summary)
    finally:
        store.close()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return interpret(tmp_path_factory.mktemp("clean"), Endpoint())


@pytest.fixture(scope="module")
def unrefined(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return interpret(tmp_path_factory.mktemp("unrefined"), Endpoint(), refine=False)


@pytest.fixture(scope="module")
def victim() -> int:
    """A feature that serves nobody as control: its failure can then move nothing but itself."""
    partners = {next(o for o in partner_order(i, FEATURES, "planted", 0) if o != i) for i in FEATURES}
    return next(i for i in FEATURES if i not in partners)


def numbers(score: FeatureScore, *, shuffled: bool = True) -> dict[str, object]:
    """Everything a score says in numbers, its cost apart."""
    left_out = {"usage", "unrefined"} | (set() if shuffled else {"shuffled"})
    return score.model_dump(exclude=left_out)


def test_the_undisturbed_run_goes_through_every_stage(clean: Ended, unrefined: Ended) -> None:
    """Otherwise the failures below would be planted where nothing happens."""
    assert {type(o) for o in (*clean.outcomes.values(), *clean.refine.values(), *clean.shuffled.values())} == {Done}
    assert len(clean.scores) == len(clean.refine) == len(clean.shuffled) == len(FEATURES)
    for index in FEATURES:
        after, before = clean.scores[index], unrefined.scores[index]
        assert after.spearman.value is not None
        assert before.spearman.value is not None
        assert after.spearman.value > before.spearman.value
        assert after.unrefined == before.spearman


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_is_a_row_with_its_reason_and_moves_no_mean(
    name: str, stage: FailedStage, clean: Ended, unrefined: Ended, victim: int, tmp_path: Path
) -> None:
    """Others count a refused explanation as a bad one, and a garbled simulation as zeros."""
    fault = FAULTS[name]
    ended = interpret(tmp_path, Endpoint(victim, stage, fault))
    rows = {"refine": ended.refine, "shuffled": ended.shuffled}.get(stage, ended.outcomes)
    row = rows[victim]
    assert isinstance(row, Failed)
    expected_reason = fault.reason_of_text if stage in ("explain", "refine") else fault.reason_of_levels
    assert (row.stage, row.reason) == (stage, expected_reason)
    others = [rows[index] for index in FEATURES if index != victim]
    assert {type(outcome) for outcome in others} == {Done}

    expected = dict(clean.scores)
    if stage == "refine":
        expected[victim] = unrefined.scores[victim]
    elif stage != "shuffled":
        del expected[victim]
    assert set(ended.scores) == set(expected)
    for index, score in expected.items():
        with_shuffled = (stage, index) != ("shuffled", victim)
        found = ended.scores[index]
        assert numbers(found, shuffled=with_shuffled) == numbers(score, shuffled=with_shuffled)
    if stage == "shuffled":
        assert ended.scores[victim].shuffled.undefined == "too_many_failures"
    _means_are_those_of(ended.summary, list(expected.values()), victim if stage == "shuffled" else None)


def _means_are_those_of(summary: DictionarySummary, scores: Sequence[FeatureScore], unshuffled: int | None) -> None:
    """Every mean by hand, over the scores that the undisturbed run has."""

    def mean(values: Sequence[float | None]) -> object:
        known = [value for value in values if value is not None]
        return pytest.approx(sum(known) / len(known), abs=1e-6) if known else None

    read: Mapping[str, Callable[[FeatureScore], float | None]] = {
        "spearman": lambda s: s.spearman.value,
        "lookup": lambda s: s.lookup.value,
        "shuffled": lambda s: None if s.feature.index == unshuffled else s.shuffled.value,
    }
    for name, value in read.items():
        assert getattr(summary, name).mean == mean([value(score) for score in scores])
    assert summary.hit_rate == mean([score.hit_rate for score in scores])
    assert summary.null_threshold == mean([score.spearman.null_threshold for score in scores])
