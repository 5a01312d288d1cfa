"""Whether a server read the whole of a prompt: what it says it read, against what it was sent.

Some servers drop the beginning of a prompt that is longer than their window and answer the rest with status 200. Texts
of requests and counts of tokens flow in; how many tokens were sent flows out where fewer were read. Sends nothing.
"""

import json
import re
from dataclasses import dataclass, field

from autointerp.llm.base import ChatRequest, PromptRequest

CHARACTERS_A_TOKEN = 4
"""Of a prompt, roughly: what is told of a cut one."""
MOST_CHARACTERS_A_TOKEN = 6
"""No text of ours has more on average, runs of one character left out."""
LEAST_PIECES = 0.8
"""A prompt has no fewer tokens than this share of its words, numbers and marks."""
LEAST_CHARACTERS = 2000
"""A shorter prompt fits everywhere."""
LEAST_WINDOW = 256
"""A count below this is no window's: such a server leaves out what it had read before, or does not count."""
MUCH_LONGER = 1.25
"""A prompt that is so much longer than another has more tokens."""
MOST_AROUND = 2000
"""Tokens that a server puts around a prompt, at most; a count beyond all that was sent says nothing."""
_RUN = re.compile(r"([\W_])\1{2,}")
_PIECE = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9\x80-\U0010ffff]+|[\r\n\t]+")
_FOREIGN = re.compile(r"[\x80-\U0010ffff]")
FOREIGN_CHARACTERS_A_TOKEN = 4
"""Of text outside ASCII; most scripts have fewer."""


@dataclass
class PromptCheck:
    """What one server has shown of how it reads prompts."""

    window: int | None = None
    """Tokens that it reads of a prompt that is longer, where it was seen to drop the rest."""
    longest_read: int = 0
    """Tokens of the longest prompt so far, as the server counts them. What is less fits its window, so a lower count of
    such a prompt only leaves out what the server had read before."""
    _shortest: dict[int, int] = field(default_factory=dict, repr=False)
    """The length of the shortest prompt that came to a count, by count."""

    def sent(self, request: ChatRequest, read: int) -> int | None:
        """About how many tokens a prompt had of which fewer were read; None where nothing says that it was cut.

        `read` is the server's count, 0 where it gives none.
        """
        whole = text_of(request)
        if not LEAST_WINDOW <= read <= len(whole.encode(errors="replace")) + MOST_AROUND:
            return None
        text = _RUN.sub(r"\1", whole)
        known, self.longest_read = self.longest_read, max(self.longest_read, read)
        shortest = self._shortest.setdefault(read, len(text))
        self._shortest[read] = min(shortest, len(text))
        if len(text) < LEAST_CHARACTERS:
            return None
        least = fewest_tokens(text)
        likely = max(least, len(text) // CHARACTERS_A_TOKEN)
        too_few = read < least and known < least
        at_the_top = read >= self.longest_read and len(text) > MUCH_LONGER * shortest
        fills_window = self.window is not None and likely > self.window and read < likely
        return max(likely, read + 1) if too_few or at_the_top or fills_window else None


def text_of(request: ChatRequest) -> str:
    """All that a request gives to read."""
    if isinstance(request, PromptRequest):
        return request.prompt + request.read
    return "\n".join([message.content for message in request.messages])


def fewest_tokens(text: str) -> int:
    """Fewer than any tokenizer makes of a text."""
    pieces = len(_PIECE.findall(text)) + len(_FOREIGN.findall(text)) / FOREIGN_CHARACTERS_A_TOKEN
    return int(min(len(text) / MOST_CHARACTERS_A_TOKEN, LEAST_PIECES * pieces))


def tokens_read(body: bytes) -> int:
    """Tokens of a prompt by a reply's usage, those included that a cache already held, under whatever name."""
    usage = json.loads(body).get("usage") or {}
    details = usage.get("prompt_tokens_details")
    inner = details.get("cached_tokens") if isinstance(details, dict) else 0
    names = ("cache_read_input_tokens", "cache_creation_input_tokens", "prompt_cache_hit_tokens")
    cached = [_count(inner), *(_count(usage.get(name)) for name in names)]
    prompt = _count(usage.get("prompt_tokens"))
    return max(prompt + sum(cached), _count(usage.get("total_tokens")) - _count(usage.get("completion_tokens")))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
