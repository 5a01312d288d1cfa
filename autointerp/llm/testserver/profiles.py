"""Kinds of servers: what they do with request fields that they do not honour. Plain data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """What a kind of server does with fields that it does not honour."""

    omits_logprobs: bool = False
    """Leaves log probabilities out without a word."""
    ignores_echo: bool = False
    """Answers a completion without its prompt, and with log probabilities of what it generated alone."""
    ignores_schema: bool = False
    """Answers as if no schema had been asked for."""
    splits_digits: bool = False
    """Its tokenizer has no token of two digits."""
    rejects: tuple[str, ...] = ()
    """Fields of chat completions answered with status 400."""


PROFILES: dict[str, Profile] = {
    "full": Profile(),
    "no-logprobs": Profile(omits_logprobs=True),
    "no-echo": Profile(ignores_echo=True),
    "no-schema": Profile(ignores_schema=True),
    "split-digits": Profile(splits_digits=True),
    "strict": Profile(rejects=("max_tokens", "temperature", "logprobs")),
}
