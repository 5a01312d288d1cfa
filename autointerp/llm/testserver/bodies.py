"""From what a test server says to the bodies that OpenAI and vLLM write: chat, completions with echo, embeddings.

A request's body and an answer function flow in; a status and a JSON-able body flow out. Knows no HTTP, file or clock.
"""

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from autointerp.llm.answers import (
    FILLER_LOGPROB,
    Answer,
    AnswerFunction,
    RequestBody,
    echoed,
    obedient_answer,
    pieces,
    spelled,
    split_digits,
)
from autointerp.llm.base import TokenLogprob
from autointerp.llm.testserver.faults import Problem, problem_of
from autointerp.llm.testserver.habits import (
    chat_logprobs,
    error_of,
    message,
    prompt_tokens,
    read_part,
    refused_field,
    unknown_name,
    without,
    written,
)
from autointerp.llm.testserver.profiles import Profile

MODEL = "test-model"
MOST_TOP_LOGPROBS = 20
START = "<s>"
"""The token that servers put before a prompt; it has no probability."""
EMBEDDING_SIZE = 64
VOCABULARY = 128_000


class Said(NamedTuple):
    """An answer before it becomes HTTP or a line of a file."""

    status: int
    body: object


@dataclass
class Speaker:
    """Answers bodies, each by the route it came on."""

    answer: AnswerFunction
    profile: Profile

    def say(self, path: str, body: RequestBody, fault: str | None) -> Said:
        """The answer, with a fault that shows in its status or text."""
        problem = problem_of(fault, body) if fault else None
        if problem is None:
            try:
                return Said(200, without(self.profile, _ROUTES[path](self, body, fault)))
            except _RefusedError as refused:
                problem = refused.problem
        return Said(*error_of(self.profile, problem))

    def chat(self, body: RequestBody, fault: str | None) -> dict[str, object]:
        """A chat completion."""
        if not isinstance(body.get("messages"), list):
            raise _RefusedError(Problem(400, "the body must be an object with messages", "invalid_request"))
        problem = unknown_name(self.profile, body) or refused_field(self.profile, body)
        read = problem or read_part(self.profile.window, body)
        if isinstance(read, Problem):
            raise _RefusedError(read)
        answer = written(self.profile, body, _faulty(self._answer(read), fault))
        choice: dict[str, object] = {
            "index": 0,
            "message": message(self.profile, answer),
            "finish_reason": answer.finish_reason,
        }
        if body.get("logprobs") and self.profile.logprobs != "absent":
            n = _number(body.get("top_logprobs"))
            choice["logprobs"] = chat_logprobs(self.profile, [_position(entry, n) for entry in self._tokens(answer)])
        n_written = len(answer.tokens or ()) + self.profile.n_thoughts
        return _reply("chat.completion", body, [choice], _usage(prompt_tokens(read), n_written))

    def completion(self, body: RequestBody, fault: str | None) -> dict[str, object]:
        """A text completion, with the prompt and its log probabilities where `echo` asks for them, as vLLM does it."""
        asked = body.get("prompt")
        prompts = [asked] if isinstance(asked, str) else asked
        if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
            raise _RefusedError(Problem(400, "the body must have a prompt of text", "invalid_request", "prompt"))
        for name in ("logprobs", "prompt_logprobs"):
            if _number(body.get(name)) > MOST_TOP_LOGPROBS:
                said = f"Requested {name} of {body[name]}, which is greater than max allowed: {MOST_TOP_LOGPROBS}"
                raise _RefusedError(Problem(400, said, "BadRequestError", name))
        choices, n_prompt, n_generated = [], 0, 0
        for i, prompt in enumerate(prompts):
            choice, n_of_prompt, n_of_answer = self._continued({**body, "prompt": prompt}, fault)
            choices.append({"index": i, **choice})
            n_prompt, n_generated = n_prompt + n_of_prompt, n_generated + n_of_answer
        return _reply("text_completion", body, choices, _usage(n_prompt, n_generated))

    def _continued(self, body: RequestBody, fault: str | None) -> tuple[dict[str, object], int, int]:
        """One choice of a completion and the tokens of its prompt and answer."""
        prompt, echo = str(body["prompt"]), bool(body.get("echo")) and not self.profile.ignores_echo
        answer = _faulty(self._answer(body), fault)
        read = [TokenLogprob(token=START, logprob=0.0), *(answer.prompt or echoed(prompt))]
        most = _number(body.get("max_tokens", 16))
        written = self._tokens(answer)
        kept = written[:most]
        finish = "length" if len(kept) < len(written) or not most else answer.finish_reason
        finish = "content_filter" if answer.refusal else finish
        text = "".join(entry.token for entry in kept)
        choice: dict[str, object] = {
            "text": prompt + text if echo else text,
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": None,
            "prompt_logprobs": None,
        }
        if body.get("logprobs") is not None and self.profile.logprobs != "absent":
            shown = [*read, *kept] if echo else list(kept)
            choice["logprobs"] = _columns(shown, _number(body["logprobs"]), starts=echo)
        of_prompt = body.get("prompt_logprobs", body.get("logprobs") if echo else None)
        if of_prompt is not None and not (self.profile.logprobs == "absent" or self.profile.ignores_echo):
            choice["prompt_logprobs"] = [None, *(_ranked(entry, _number(of_prompt)) for entry in read[1:])]
        return choice, len(read), len(kept)

    def embeddings(self, body: RequestBody, _: str | None) -> dict[str, object]:
        """Vectors of length one; texts that share words are near each other."""
        asked = body.get("input")
        texts = [asked] if isinstance(asked, str) else asked
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise _RefusedError(Problem(400, "the body must have texts as input", "invalid_request", "input"))
        size = _number(body.get("dimensions")) or EMBEDDING_SIZE
        rows = []
        for i, text in enumerate(texts):
            vector = embedding(text, size)
            coded: object = [round(float(value), 7) for value in vector]
            if body.get("encoding_format") == "base64":
                coded = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            rows.append({"object": "embedding", "index": i, "embedding": coded})
        n = sum(len(pieces(text)) for text in texts)
        usage = {"prompt_tokens": n, "total_tokens": n}
        return {"object": "list", "data": rows, "model": body.get("model", MODEL), "usage": usage}

    def _answer(self, body: RequestBody) -> Answer:
        if self.profile.ignores_schema:
            body = {name: value for name, value in body.items() if name != "response_format"}
        said = self.answer(body)
        return obedient_answer(body) if said is None else Answer(said) if isinstance(said, str) else said

    def _tokens(self, answer: Answer) -> tuple[TokenLogprob, ...]:
        tokens = spelled(answer.text) if answer.tokens is None else answer.tokens
        return split_digits(tokens) if self.profile.splits_digits else tokens


class _RefusedError(Exception):
    """A body that is answered with an error."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


_ROUTES: dict[str, Callable[[Speaker, RequestBody, str | None], dict[str, object]]] = {
    "/v1/chat/completions": Speaker.chat,
    "/v1/completions": Speaker.completion,
    "/v1/embeddings": Speaker.embeddings,
}
SPOKEN = tuple(_ROUTES)
"""Paths that a `Speaker` answers."""


def embedding(text: str, size: int) -> np.ndarray:
    """A vector of length one, shape (size,): every word adds to a place of its own, with a sign."""
    vector = np.zeros(size)
    for word, n in Counter(piece.strip().casefold() for piece in pieces(text)).items():
        code = zlib.crc32(word.encode())
        vector[code % size] += n if code >> 16 & 1 else -n
    return vector / (float(np.linalg.norm(vector)) or 1.0)


def _faulty(answer: Answer, fault: str | None) -> Answer:
    """An answer that lacks its last line or entry, or a refusal."""
    if fault == "refusal":
        return Answer("", refusal="I cannot help with that.")
    if fault != "misaligned":
        return answer
    try:
        value = json.loads(answer.text)
    except ValueError:
        value = None
    if isinstance(value, dict) and value:
        return Answer(json.dumps(dict(list(value.items())[:-1])))
    return Answer("\n".join(answer.text.rstrip("\n").split("\n")[:-1]) or "Well.")


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


@lru_cache(maxsize=10_000)
def _top(entry: TokenLogprob, n: int) -> tuple[tuple[str, float], ...]:
    """The n likeliest tokens, the list padded to length as a real vocabulary would."""
    ranked = sorted(entry.top, key=lambda pair: -pair[1])
    padding = [(f"filler{i}", FILLER_LOGPROB - i) for i in range(n - len(ranked))]
    return (*ranked, *padding)[:n]


def _position(entry: TokenLogprob, n: int) -> dict[str, object]:
    """One position as chat completions write it."""
    top = [{"token": token, "logprob": logprob} for token, logprob in _top(entry, min(n, MOST_TOP_LOGPROBS))]
    return {"token": entry.token, "logprob": entry.logprob, "top_logprobs": top}


def _columns(entries: Sequence[TokenLogprob], n: int, *, starts: bool) -> dict[str, object]:
    """Positions as completions write them, offsets counted over the tokens' own texts; the first has no probability."""
    offsets = np.cumsum([0, *(len(entry.token) for entry in entries)])[:-1].tolist() if entries else []
    unknown = 1 if starts else 0
    return {
        "text_offset": offsets,
        "token_logprobs": [None] * unknown + [entry.logprob for entry in entries[unknown:]],
        "tokens": [entry.token for entry in entries],
        "top_logprobs": [None] * unknown
        + [{**dict(_top(entry, n)), entry.token: entry.logprob} for entry in entries[unknown:]],
    }


@lru_cache(maxsize=10_000)
def _ranked(entry: TokenLogprob, n: int) -> dict[str, object]:
    """One prompt position in vLLM's own form: by token id, with ranks."""
    likely = _top(entry, n)
    if entry.token not in dict(likely):
        likely = ((entry.token, entry.logprob), *likely)
    return {
        str(zlib.crc32(token.encode("utf-8", "replace")) % VOCABULARY): {
            "logprob": logprob,
            "rank": rank,
            "decoded_token": token,
        }
        for rank, (token, logprob) in enumerate(likely, start=1)
        if math.isfinite(logprob)
    }


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _reply(kind: str, body: RequestBody, choices: Sequence[object], usage: dict[str, int]) -> dict[str, object]:
    return {"id": "cmpl-test", "object": kind, "model": body.get("model", MODEL), "choices": choices, "usage": usage}
