"""What stands around an answer: thoughts before it, ends of turns behind it, prose and fences about an object.

An answer's text flows in, the part of it that was meant for us flows out. Knows no explanation and no level.
"""

import json
import re

_TAGS = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis|seed:think"
_THOUGHTS = re.compile(
    rf"^\s*(?:<(?P<tag>{_TAGS})>.*?</(?P=tag)>|\[THINK\].*?\[/THINK\]|◁think▷.*?◁/think▷"
    r"|<\|START_THINKING\|>.*?<\|END_THINKING\|>|<\|begin_of_thought\|>.*?<\|end_of_thought\|>"
    r"|<\|channel>thought.*?<channel\|>)",
    re.DOTALL | re.IGNORECASE,
)
_OPEN_THOUGHT = re.compile(rf"^\s*(?:<(?:{_TAGS})>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|channel>thought)", re.I)
_END_OF_THOUGHT = re.compile(rf"(?<![\"'`“‘])(?:</(?:{_TAGS})>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>)", re.IGNORECASE)
"""Closes what a chat template opened; one in quotes is spoken of."""
_HARMONY_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>", re.IGNORECASE)
_HARMONY = re.compile(r"^\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>", re.IGNORECASE)
_BARE_HARMONY = re.compile(r"^\s*(?:analysis|commentary)(?=[A-Z]).*?(?:assistantfinal(?:json)?|\Z)", re.DOTALL)
"""As servers write it that leave special tokens out."""
_START_OF_TURN = re.compile(
    r"\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<(?:answer|response|output)>|<\|START_(?:RESPONSE|TEXT)\|>)"
    r"|<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<\|assistant\|>"
    r"|<start_of_turn>\s*model|<\|turn>\s*model|<\|start\|>\s*assistant\s*(?:<\|message\|>)?)",
    re.IGNORECASE,
)
_END_OF_TURN = re.compile(
    r"(?:<\|(?:im_end|endoftext|end|return|call|eot_id|eom_id|end_of_text|end_of_turn|END_OF_TURN_TOKEN|END_RESPONSE"
    r"|END_TEXT|user|im_start|eot|eom)\|>|<｜end▁of▁sentence｜>|</s>|<eos>|<end_of_turn>|<turn\|>|\[/INST\]"
    r"|</(?:answer|response|output)>)(?=\s*(?:\n|[<{\[]|\Z))"
)
"""Nothing that follows one is part of the answer; one that is followed by words is spoken of."""


class Pairs(list[tuple[str, object]]):
    """A JSON object with its keys in order, repeated ones included."""


def spoken(text: str) -> str:
    """The answer without the thoughts that some servers leave before it and the ends of turns behind it.

    A part of the text as it stands; empty where all is thought.
    """
    answer = text[spoken_from(text) :]
    return answer[: _length(answer)]


def spoken_from(text: str) -> int:
    """Where in a text its `spoken` part begins, in characters."""
    start = _START_OF_TURN.match(text)
    left = _after_thoughts(text[start.end() :] if start and not _HARMONY.match(text) else text)
    start = _START_OF_TURN.match(left)
    left = left[start.end() :] if start else left
    return len(text) - len(left.lstrip())


def _length(answer: str) -> int:
    """Of the part of an answer that stands before the end of its turn."""
    end = _END_OF_TURN.search(answer)
    return len((answer[: end.start()] if end else answer).rstrip())


def _after_thoughts(text: str) -> str:
    finals = list(_HARMONY_FINAL.finditer(text))
    if finals:
        return text[finals[-1].end() :]
    if _HARMONY.match(text):
        return ""
    bare = _BARE_HARMONY.match(text)
    if bare:
        return text[bare.end() :]
    closed = _THOUGHTS.match(text)
    while closed:
        text = text[closed.end() :]
        closed = _THOUGHTS.match(text)
    ends = list(_END_OF_THOUGHT.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return "" if _OPEN_THOUGHT.match(text) else text


def objects(text: str) -> list[Pairs]:
    """The different JSON objects that are whole in a text, outermost ones, in order; empty ones say nothing."""
    found: list[Pairs] = []
    for _, _, pairs in _objects(text):
        if pairs and pairs not in found:
            found.append(pairs)
    return found


def outside(text: str) -> str:
    """A text without the JSON objects that are whole in it."""
    left, end = "", 0
    for start, stop, _ in _objects(text):
        left, end = left + text[end:start], stop
    return left + text[end:]


def _objects(text: str) -> list[tuple[int, int, Pairs]]:
    """Where each begins and ends, and what it holds."""
    decoder = json.JSONDecoder(object_pairs_hook=Pairs, strict=False)
    found: list[tuple[int, int, Pairs]] = []
    start = text.find("{")
    while start >= 0:
        try:
            pairs, end = decoder.raw_decode(text, start)
        except RecursionError:
            break
        except ValueError:
            end = start + 1
        else:
            found.append((start, end, pairs))
        start = text.find("{", end)
    return found
