"""How a kind of server writes what it says: errors, log probabilities, thoughts, ends, and what of a prompt it reads.

A profile with a request's body or an answer flows in; what that kind of server makes of it flows out. Knows no HTTP.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from autointerp.llm.answers import Answer, RequestBody, asked_schema, last_message, pieces, spelled
from autointerp.llm.base import TokenLogprob
from autointerp.llm.testserver.faults import Problem
from autointerp.llm.testserver.profiles import Profile, Window

_THOUGHT = "Let me look at each of them in turn."
_LAST_LINE = re.compile(r"(?:^|\n)(\d+): (\S+)\s*$")
RAMBLED_LINES = 400
"""How many lines a model without an end in mind writes on, where nothing stops it."""


def prompt_tokens(body: RequestBody) -> int:
    """Tokens of a chat's messages, as this server counts them."""
    return sum(len(pieces(text)) for _, text in _turns(body))


def refused_field(profile: Profile, body: RequestBody) -> Problem | None:
    """What the server says against a field of the body; None where it takes them all."""
    for refusal in profile.refusals:
        held = _lists_integers(body) if refusal.field == "integer enum" else refusal.field in body
        if held:
            return Problem(refusal.status, refusal.message, refusal.code, refusal.param)
    return None


def unknown_name(profile: Profile, body: RequestBody) -> Problem | None:
    """What the server says of a model that it does not have; None of one that it has."""
    model = body.get("model")
    if profile.serves is None or model in profile.serves:
        return None
    said = profile.unknown_model.format(model=model)
    return Problem(profile.unknown_model_status, said, "model_not_found", "model")


def read_part(window: Window | None, body: RequestBody) -> RequestBody | Problem:
    """What of a body the model gets to read, or why it reads none of it."""
    n = prompt_tokens(body)
    if window is None or n <= window.tokens:
        return body
    if not window.cuts:
        said = window.message.format(n=n, window=window.tokens)
        return Problem(window.status, said, window.code, "messages")
    kept: list[dict[str, str]] = []
    room = window.tokens
    for role, text in reversed(_turns(body)):
        tail = pieces(text)[-room:] if room else []
        room -= len(tail)
        if tail:
            kept.insert(0, {"role": role, "content": "".join(tail)})
    return {**body, "messages": kept}


def no_room_beside_others(n: int, window: Window) -> Problem:
    """What a server says whose requests share one window, in which this one finds no room."""
    return Problem(500, f"Context size has been exceeded. ({n} tokens, {window.tokens} for all)", "server_error")


def written(profile: Profile, body: RequestBody, answer: Answer) -> Answer:
    """The answer as the server's model writes it: rambling or fenced, up to a stop sequence or the end of its room."""
    if profile.rambles:
        answer = _rambling(answer)
    if profile.fences and answer.text.startswith("{"):
        answer = Answer(f"Here are the levels:\n```json\n{answer.text}\n```", refusal=answer.refusal)
    tokens = spelled(answer.text) if answer.tokens is None else answer.tokens
    end, finish = len(tokens), answer.finish_reason
    if not profile.ignores_stop:
        stopped = _stopped(tokens, body.get("stop"))
        if stopped is not None:
            answer, tokens = answer._replace(text=answer.text[: stopped[0]]), stopped[1]
            end = len(tokens)
    room = _room(body) - profile.n_thoughts
    if end > room:
        end, finish = max(0, room), "length"
        answer = answer._replace(text="".join(entry.token for entry in tokens[:end]))
    return answer._replace(tokens=tuple(tokens[:end]), finish_reason=finish)


def message(profile: Profile, answer: Answer) -> dict[str, object]:
    """The message that holds an answer, and thoughts where they show."""
    said: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    if profile.thoughts is None or answer.refusal:
        return said
    wordings: dict[str, object] = {
        "tags": f"<think>\n{_THOUGHT}\n</think>\n\n{answer.text}",
        "closing tag": f"{_THOUGHT}\n</think>\n\n{answer.text}",
        "channel": f"<|channel|>analysis<|message|>{_THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>"
        f"{answer.text}<|return|>",
        "parts": [
            {"type": "thinking", "thinking": [{"type": "text", "text": _THOUGHT}]},
            {"type": "text", "text": answer.text},
        ],
    }
    if profile.thoughts == "field":
        return {**said, "content": answer.text or None, "reasoning_content": _THOUGHT}
    if profile.thoughts == "hidden" or (not answer.text and answer.finish_reason == "length"):
        return {**said, "content": answer.text or None}
    return {**said, "content": wordings[profile.thoughts]}


def chat_logprobs(profile: Profile, positions: Sequence[Mapping[str, object]]) -> object:
    """Positions as the server writes them; `openai`'s form is what they come in."""
    if profile.logprobs == "null":
        return None
    if profile.logprobs == "columns":
        return {
            "tokens": [entry["token"] for entry in positions],
            "token_logprobs": [entry["logprob"] for entry in positions],
            "top_logprobs": [{each["token"]: each["logprob"] for each in _tops(entry)} for entry in positions],
        }
    if profile.logprobs == "spaceless":
        return {"content": [_spaceless(entry) for entry in positions]}
    return {"content": list(positions)}


def error_of(profile: Profile, problem: Problem) -> tuple[int, object]:
    """Status and body of an error as the server writes it."""
    body = problem.body
    error = body["error"]
    status = problem.status if profile.error_status is None else profile.error_status
    if isinstance(error, dict) and profile.error_status is not None:
        error["code"] = problem.status
    shapes: dict[str, object] = {
        "openai": body,
        "list": [{"error": {"code": problem.status, "message": problem.message, "status": problem.code}}],
        "anthropic": {"type": "error", "error": {"type": problem.code, "message": problem.message}},
        "flat": {"object": "error", "message": problem.message, "type": problem.code, "code": problem.status},
        "detail": {"detail": problem.message},
        "string": {"error": problem.message},
    }
    return status, shapes[profile.errors]


def without(profile: Profile, body: dict[str, object]) -> dict[str, object]:
    """An answer's body without what the server leaves out, under the name that it bears."""
    named = body if profile.model is None else {**body, "model": profile.model}
    return {key: value for key, value in named.items() if key != "usage"} if profile.omits_usage else named


def widened(profile: Profile, tokens: int) -> Profile:
    """The same kind of server with room for another number of tokens."""
    return replace(profile, window=replace(profile.window or Window(tokens), tokens=tokens))


def _turns(body: RequestBody) -> list[tuple[str, str]]:
    messages = body.get("messages")
    turns = messages if isinstance(messages, list) else [{"role": "user", "content": last_message(body)}]
    return [(str(turn.get("role")), str(turn.get("content"))) for turn in turns if isinstance(turn, dict)]


def _lists_integers(body: RequestBody) -> bool:
    return bool(re.search(r'"enum": \[\d', json.dumps(asked_schema(body) or {})))


def _room(body: RequestBody) -> int:
    """Tokens that may be generated."""
    asked = [body[name] for name in ("max_completion_tokens", "max_tokens") if isinstance(body.get(name), int)]
    return int(str(asked[0])) if asked else 1 << 20


def _rambling(answer: Answer) -> Answer:
    last = _LAST_LINE.search(answer.text)
    if last is None:
        return answer
    tokens = list(spelled(answer.text) if answer.tokens is None else answer.tokens)
    head = answer.text.rstrip("\n")
    while "".join(entry.token for entry in tokens) != head:
        tokens.pop()
    more = "".join(f"\n{n}: {last[2]}" for n in range(int(last[1]) + 1, int(last[1]) + 1 + RAMBLED_LINES))
    return answer._replace(text=head + more, tokens=(*tokens, *spelled(more)))


def _stopped(tokens: Sequence[TokenLogprob], asked: object) -> tuple[int, tuple[TokenLogprob, ...]] | None:
    """Where the text ends before a stop sequence, in characters, with the tokens before it; None where it has none."""
    words = [asked] if isinstance(asked, str) else asked if isinstance(asked, list) else []
    text = "".join(entry.token for entry in tokens)
    places = [place for word in words if word and (place := text.find(str(word))) >= 0]
    if not places:
        return None
    kept: list[TokenLogprob] = []
    length = 0
    for entry in tokens:
        if length + len(entry.token) > min(places):
            break
        kept.append(entry)
        length += len(entry.token)
    return length, tuple(kept)


def _tops(entry: Mapping[str, object]) -> list[dict[str, object]]:
    tops = entry["top_logprobs"]
    return tops if isinstance(tops, list) else []


def _spaceless(entry: Mapping[str, object]) -> dict[str, object]:
    tops = [{**each, "token": str(each["token"]).strip(" ")} for each in _tops(entry)]
    return {**entry, "token": str(entry["token"]).strip(" "), "top_logprobs": tops}
