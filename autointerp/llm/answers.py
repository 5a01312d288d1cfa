"""What a test server says: answer functions, scripted files, and the answers of a merely obedient model.

The body of a chat completion or a completion flows in, an `Answer` flows out. Knows no HTTP and no prompt of ours.
"""

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from autointerp.errors import UsageError
from autointerp.llm.base import TokenLogprob
from autointerp.records import Record

RequestBody = dict[str, object]
_EXACTLY = re.compile(r"Reply with exactly: (.*)")
_TOKEN = re.compile(r" ?[^\W\d_]+|\d+|\s|.", re.DOTALL)
SURE_LOGPROB = -0.001
"""What a model that is quite sure gives its token."""
SURPRISED_LOGPROB = -7.0
"""What it gives a token that it did not expect."""
FILLER_LOGPROB = -18.0
"""What is left for the tokens that pad a list of the most likely ones."""


class Answer(NamedTuple):
    """A reply before it becomes HTTP."""

    text: str
    tokens: tuple[TokenLogprob, ...] | None = None
    """Spells the text; made up where it is None and log probabilities are asked for."""
    finish_reason: str = "stop"
    refusal: str | None = None
    prompt: tuple[TokenLogprob, ...] | None = None
    """Spells the prompt of a completion, with what was likely at each of its tokens; made up where it is None."""


AnswerFunction = Callable[[RequestBody], Answer | str | None]
"""None leaves the question to `obedient_answer`."""


class ScriptLine(Record):
    """One line of a script: what is answered to a request whose last message holds a text."""

    contains: str = ""
    text: str = ""
    refusal: str | None = None
    finish_reason: str = "stop"


def last_message(body: RequestBody) -> str:
    """The text of the last message, or of a completion's prompt; empty where there is none."""
    messages, prompt = body.get("messages"), body.get("prompt")
    if messages is None and isinstance(prompt, str):
        return prompt
    last = messages[-1] if isinstance(messages, list) and messages else {}
    content = last.get("content") if isinstance(last, dict) else ""
    return content if isinstance(content, str) else ""


def asked_schema(body: RequestBody) -> dict[str, object] | None:
    """The JSON schema that the answer must fit; None where none is asked for."""
    asked = body.get("response_format")
    wrapped = asked.get("json_schema") if isinstance(asked, dict) else None
    schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
    return schema if isinstance(schema, dict) else None


def obedient_answer(body: RequestBody) -> Answer:
    """What a model without a mind of its own says: the schema's smallest instance, or the text it is told to repeat."""
    schema = asked_schema(body)
    if schema is not None:
        return Answer(json.dumps(_smallest(schema)))
    told = _EXACTLY.search(last_message(body))
    return Answer(told.group(1) if told else "OK")


def _smallest(schema: dict[str, object]) -> object:
    choices, properties = schema.get("enum"), schema.get("properties")
    if isinstance(choices, list) and choices:
        return choices[0]
    if isinstance(properties, dict):
        return {name: _smallest(inner) for name, inner in properties.items() if isinstance(inner, dict)}
    kind = schema.get("type")
    return {"integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}.get(str(kind), "")


def pieces(text: str) -> list[str]:
    """A text as tokens: words with the space before them, runs of digits, single other characters."""
    return _TOKEN.findall(text)


def spelled(text: str) -> tuple[TokenLogprob, ...]:
    """A text as tokens of which the model was quite sure."""
    return tuple(
        TokenLogprob(token=piece, logprob=SURE_LOGPROB, top=((piece, SURE_LOGPROB),)) for piece in pieces(text)
    )


def echoed(prompt: str) -> tuple[TokenLogprob, ...]:
    """A prompt as read by a model that expects only what it has read before."""
    seen: set[str] = set()
    read: list[TokenLogprob] = []
    for piece in pieces(prompt):
        logprob = SURE_LOGPROB if piece in seen else SURPRISED_LOGPROB
        read.append(TokenLogprob(token=piece, logprob=logprob, top=((piece, logprob),)))
        seen.add(piece)
    return tuple(read)


def split_digits(tokens: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
    """The same text from a tokenizer that has no token of two digits; a split token's alternatives are lost."""
    split: list[TokenLogprob] = []
    for entry in tokens:
        if re.search(r"\d\d", entry.token):
            split += [TokenLogprob(token=c, logprob=entry.logprob, top=((c, entry.logprob),)) for c in entry.token]
        else:
            kept = tuple((token, logprob) for token, logprob in entry.top if not re.search(r"\d\d", token))
            split.append(entry._replace(top=kept))
    return tuple(split)


def scripted_answers(path: Path) -> AnswerFunction:
    """Answers from a JSON lines file: the first line whose `contains` is in the last message of a request.

    Raises:
        UsageError: no such file, or a line that is no script line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read the answers in {path}: {error.strerror}") from None
    script: list[ScriptLine] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            script.append(ScriptLine.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f'{path} line {number}: {first["msg"]}; a line looks like {{"contains": "…", "text": "…"}}'
            ) from None

    def answer(body: RequestBody) -> Answer | None:
        asked = last_message(body)
        for line in script:
            if line.contains in asked:
                return Answer(line.text, finish_reason=line.finish_reason, refusal=line.refusal)
        return None

    return answer


def imported_answers(name: str) -> AnswerFunction:
    """The answer function that `MODULE:FUNCTION` names.

    Raises:
        UsageError: no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}") from None
    if not callable(function):
        raise UsageError(f"{module_name!r} has no function {function_name!r}")
    chosen: AnswerFunction = function
    return chosen
