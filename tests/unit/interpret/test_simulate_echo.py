"""The simulator `prompt-logprobs`: the text it has read, what is read at its open places, and the planted truth."""

import asyncio
import math

import pytest

from autointerp.errors import UsageError
from autointerp.interpret.oracle import STILL_OPEN, lookup_oracle, oracle, stage_of
from autointerp.interpret.parse import LETTERS, Distributions, Unparsed, parse_echoed
from autointerp.interpret.prompts import load_few_shots
from autointerp.interpret.questions import ECHO_WORDINGS, PLACE, make_questions, prompt_digest
from autointerp.interpret.simulate_llm import PromptLogprobsSimulator, make_llm_simulator
from autointerp.llm.answers import Answer, AnswerFunction
from autointerp.llm.base import Capabilities, ChatReply, ChatRequest, Endpoint, PromptRequest, TokenLogprob
from autointerp.llm.fakes import FunctionModel
from autointerp.llm.negotiate import Negotiation, route
from autointerp.records import Usage, Window
from tests.unit.interpret.features import explained
from tests.unit.interpret.test_simulate_llm import b_is_seven, word_is_seven

WINDOWS = [Window(("a", "b", "\\n")), Window(("b", "b"))]
MARKED = [Window((" a", " b", " c"), i % 3) for i in range(13)]


def read_by(function: AnswerFunction) -> FunctionModel:
    """A model that reads prompts as a test server with that function would, without the server."""

    def complete(request: ChatRequest) -> ChatReply:
        assert isinstance(request, PromptRequest)
        said = function(Negotiation().body(request, "m"))
        read = said.prompt if isinstance(said, Answer) else None
        kept = read and read[-4 * request.read.count(": ") + 1 :]
        usage = Usage(calls=1)
        return ChatReply(text=request.read, finish_reason="length", logprobs=kept, model="m", usage=usage)

    return FunctionModel(complete)


def test_levels_come_back_in_place_with_their_mass() -> None:
    simulator = PromptLogprobsSimulator(read_by(oracle(b_is_seven)))
    simulation = asyncio.run(simulator.simulate(explained("b"), WINDOWS))
    assert simulation.levels == ((0, 7, 0), (7, 7))
    assert simulation.legal_mass == pytest.approx(1 - STILL_OPEN)
    assert simulation.expected is not None
    assert simulation.expected[1] is not None
    assert simulation.expected[1][0] == pytest.approx(7.0)


def test_ten_targets_are_one_request() -> None:
    model = read_by(oracle(word_is_seven))
    simulation = asyncio.run(PromptLogprobsSimulator(model).simulate(explained("b"), MARKED))
    assert simulation.levels == tuple((7 if window.target == 1 else 0,) for window in MARKED)
    assert len(model.asked) == 2
    assert [route(request) for request in model.asked] == ["/completions"] * 2


def test_an_explanation_that_is_not_understood_is_a_failure() -> None:
    """No level has any probability; zeros would read as a bad explanation."""
    simulation = asyncio.run(PromptLogprobsSimulator(read_by(lookup_oracle())).simulate(explained("words"), WINDOWS))
    assert simulation.levels == (None, None)
    assert simulation.failures == ((0, "no_logprobs"), (1, "no_logprobs"))


def reply(*entries: TokenLogprob, **more: object) -> ChatReply:
    """A prompt that was read: `1: x`, with these entries."""
    fields = {"text": "1: x", "finish_reason": "length", "logprobs": entries, "model": "m", "usage": Usage(), **more}
    return ChatReply.model_validate(fields)


def at(token: str, **chances: float) -> TokenLogprob:
    """A token with probabilities of words, each with a space before it."""
    top = tuple((f" {word}", math.log(chance)) for word, chance in chances.items())
    return TokenLogprob(token=token, logprob=-1.0, top=top)


def test_a_distribution_by_hand() -> None:
    """0 and 2 with a fifth each, the rest open or illegal: expectation 1, legal mass two fifths."""
    read = parse_echoed(reply(at("\n1"), at(":"), at(" x", a=0.2, c=0.2, x=0.5, the=0.1)), 1, LETTERS, PLACE)
    assert isinstance(read, Distributions)
    assert read.expected == pytest.approx((1.0,))
    assert read.levels == (1,)
    assert read.legal_mass == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("entries", "more", "reason"),
    [
        ((), {"logprobs": None}, "no_logprobs"),
        ((at("1"), at(":"), at(" x", x=0.9)), {}, "no_logprobs"),
        ((at("1"), at(":"), at(" x")), {}, "no_logprobs"),
        ((at("1"), at(": y", a=0.9)), {}, "no_logprobs"),
        ((at("1"), at(":"), at(" x", a=0.9)), {"refused": True}, "refused"),
    ],
)
def test_what_cannot_be_read_is_no_level(
    entries: tuple[TokenLogprob, ...], more: dict[str, object], reason: str
) -> None:
    read = parse_echoed(reply(*entries, **more), 1, LETTERS, PLACE)
    assert isinstance(read, Unparsed)
    assert read.reason == reason


def test_a_list_that_lost_one_of_two_equal_texts_is_a_failure() -> None:
    """A completion's lists are keyed by text: the likeliest level was replaced by a token of its text at 1e-5."""
    whole = [at(token, x=0.4, a=0.3, b=0.2, **{token.strip(): 0.37}) for token in ("1", ":")]
    short = parse_echoed(reply(*whole, at(" x", x=1e-5, a=0.02, j=1e-5)), 1, LETTERS, PLACE)
    assert isinstance(short, Unparsed)
    assert short.reason == "no_logprobs"


@pytest.mark.parametrize("targets", [False, True])
def test_demonstrated_lists_are_open_at_first_and_true_then(targets: bool) -> None:
    used = ECHO_WORDINGS[targets]
    windows = [Window((" x",), 0 if targets else None)]
    text = make_questions("echo", explained("e"), windows)[0].prompt_request(0, 15).prompt
    lists = [block for block in text.split("\n\n") if block.startswith("Levels of")][:-1]
    assert len(lists) == len(used.demonstrated) == 3
    seen_open = set()
    for block, (name, shown), n_open in zip(lists, used.demonstrated, used.opened, strict=True):
        (shot,) = load_few_shots().named(name)
        true = [
            level
            for i, target in shown
            for level in (shot.windows[i].levels if target is None else [shot.windows[i].levels[target]])
        ]
        written = [line.partition(": ")[2] for line in block.split("\n")[1:]]
        assert written[:n_open] == [PLACE] * n_open
        assert [LETTERS[word] for word in written[n_open:]] == true[n_open:]
        assert n_open < len(true)
        seen_open.add(n_open)
    assert 0 in seen_open
    assert len(seen_open) == 3
    assert PLACE not in LETTERS


def test_requests_of_a_feature_differ_from_the_first_passage_on() -> None:
    first, second = (question.prompt_request(0, 15) for question in make_questions("echo", explained("e"), MARKED))
    shared = first.prompt[: first.prompt.index("Explanation: e\n\nPassages:\n1\t")]
    assert second.prompt.startswith(shared)
    assert (first.read.count("x"), second.read.count("x")) == (10, 3)
    assert second.read == "1: x\n2: x\n3: x"


def test_the_stage_of_a_prompt_shows() -> None:
    for windows, stage in ((WINDOWS, "simulate"), (MARKED, "grade")):
        request = make_questions("echo", explained("e"), windows)[0].prompt_request(0, 15)
        assert stage_of(Negotiation().body(request, "m")) == stage
    assert stage_of({"prompt": "anything"}) is None


def test_an_echo_has_a_digest_of_its_own() -> None:
    digests = {prompt_digest(form, targets=t) for form in ("echo", "letters") for t in (False, True)}
    assert len(digests) == 4


@pytest.mark.parametrize("found", [None, 0])
def test_an_endpoint_without_echo_is_refused(found: int | None) -> None:
    seen = Capabilities(
        endpoint=Endpoint(provider="openai", base_url="http://127.0.0.1:1/v1", model="m"),
        answers_differ=True,
        top_logprobs=20,
        logprobs_differ=True,
        json_schema=True,
        ten_is_one_token=True,
        prompt_logprobs=found,
        rejected=(),
    )
    model = FunctionModel(lambda _: "")
    with pytest.raises(UsageError, match="echo"):
        make_llm_simulator("prompt-logprobs", model, seen)
    assert make_llm_simulator("prompt-logprobs", model, seen.model_copy(update={"prompt_logprobs": 15}))
