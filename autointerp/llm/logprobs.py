"""What log probabilities say of one place, where they can be believed: text is not a token's name.

Several tokens may have one text, and servers write the same token with and without its space. Positions as a server
sent them flow in; probabilities by text flow out. Knows no level.
"""

import math
from collections.abc import Sequence

from autointerp.llm.base import TokenLogprob

MOST_MASS = 1.01
"""Probabilities of different tokens add up to 1 at most; servers round their logarithms."""
SAME_LOGPROB = 0.02
"""Two log probabilities no further apart are one, rounded in two ways."""
LEAST_LISTED = 0.5
"""A list of the likeliest that has lost none of them holds more, in probability."""
WHOLE = 0.99
"""A list that holds so much lacks nothing of weight, however short it is."""
_SPACES = " \t\r\n▁Ġ"
"""The last two are how vocabularies write a leading space."""


def bare(text: str) -> str:
    """A token's text without spaces around it, by which tokens are compared."""
    return text.strip(_SPACES)


def begins_at(entries: Sequence[TokenLogprob], text: str) -> int | None:
    """Where a text begins in what the tokens spell, in characters; None where they do not spell it."""
    offset = "".join([entry.token for entry in entries]).rfind(text)
    return None if offset < 0 else offset


def chances(entry: TokenLogprob) -> dict[str, float]:
    """Probabilities at a position by bare text, those of one text added up.

    The generated token counts where it is not in the list: nothing there has its text and its log probability.
    """
    token = bare(entry.token)
    listed = list(entry.top)
    same = [i for i, (text, logprob) in enumerate(listed) if bare(text) == token and _is_same(logprob, entry.logprob)]
    if not same:
        listed.append((entry.token, entry.logprob))
    own = [i for i in same if listed[i][0] == entry.token]
    if own and any(listed[i][0] != entry.token and listed[i][1] == listed[own[0]][1] for i in same):
        del listed[own[0]]  # the same token twice, with its space and without
    found: dict[str, float] = {}
    for text, logprob in listed:
        found[bare(text)] = found.get(bare(text), 0.0) + math.exp(min(1.0, logprob))
    return found


def are_real(entries: Sequence[TokenLogprob], text: str) -> bool:
    """Whether the tokens spell the text, and what was likely at each of them makes a distribution."""
    if begins_at(entries, text) is None:
        return False
    return all(entry.top and sum(chances(entry).values()) <= MOST_MASS for entry in entries)


def lost_some(entry: TokenLogprob, listed: int) -> bool:
    """Whether a list keyed by text shows that a text it holds stood there twice.

    `listed` is how many of the likeliest are listed where none is lost. A prompt's own token stands in the list as well
    where it is none of the likeliest, so a list whose least likely text is that token may be one longer.
    """
    n = len(entry.top)
    may_be_extra = all(entry.logprob <= logprob for _, logprob in entry.top)
    mass = sum(math.exp(min(0.0, logprob)) for _, logprob in entry.top)
    return (0 < n < listed and mass < WHOLE) or (n == listed and may_be_extra and mass < LEAST_LISTED)


def fully_listed(entries: Sequence[TokenLogprob]) -> int:
    """How many of the likeliest the fullest list of a prompt's positions holds, the prompt's own token not counted."""
    sizes = [len(e.top) for e in entries if any(logprob < e.logprob for _, logprob in e.top)]
    return max(sizes, default=0)


def _is_same(one: float, other: float) -> bool:
    return one == other or abs(one - other) <= SAME_LOGPROB
