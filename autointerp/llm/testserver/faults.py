"""Where a test server fails, and how: every class of failure that a client must tell apart, by share and by request.

A request's digest and how often it came flow in; the name of a fault, or an error as OpenAI writes it, flows out. The
draw hangs on the seed and the request alone, never on time or order. Answers nothing itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from autointerp.errors import UsageError, near_matches
from autointerp.provenance import seed_of

TRANSIENT = ("rate-limit", "server-error", "cut", "malformed", "timeout", "misaligned")
"""Meet the first asking of a request only."""
PERMANENT = (
    *("quota", "bad-key", "unknown-model", "unsupported-parameter"),
    *("context-too-long", "content-filter", "refusal"),
)
"""Meet every asking of a request."""
FAULTS = (*TRANSIENT, *PERMANENT)
SPREAD = ("rate-limit", "server-error", "cut", "malformed")
"""What a bare share is spread over: faults that are over at once."""


class Problem(NamedTuple):
    """An error before it becomes HTTP."""

    status: int
    message: str
    code: str
    param: str | None = None

    @property
    def body(self) -> dict[str, object]:
        """As OpenAI writes it."""
        kind = {429: "rate_limit_error", 401: "authentication_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        elif self.code == "insufficient_quota":
            kind = self.code
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Faults:
    """Shares of requests that meet each fault."""

    shares: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def drawn(self, key: str, asking: int) -> str | None:
        """The fault of a request's n-th asking, from 1."""
        place = seed_of(self.seed, "fault", key) / 2**64
        for name, share in self.shares.items():
            place -= share
            if place < 0:
                return name if name in PERMANENT or asking == 1 else None
        return None


def parse_shares(text: str, known: tuple[str, ...], spread: tuple[str, ...]) -> dict[str, float]:
    """`NAME=0.1,NAME=0.05`, or `0.2`, spread evenly where there is anything to spread it over.

    Raises:
        UsageError: no such fault, or shares that are none.
    """
    shares: dict[str, float] = {}
    for piece in text.split(","):
        name, equals, value = piece.strip().rpartition("=")
        if equals and name not in known:
            raise UsageError(f"no fault {name!r}; near: {near_matches(name, known)}")
        try:
            share = float(value) if equals or spread else math.nan
        except ValueError:
            share = math.nan
        if math.isnan(share):
            raise UsageError(f"{piece!r} is no share of a fault; write NAME=0.2 with one of {', '.join(known)}")
        shares.update({name: share} if equals else {each: share / len(spread) for each in spread})
    if not all(share >= 0 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise UsageError(f"the shares of faults in {text!r} must be between 0 and 1, and so must their sum")
    return shares


def problem_of(fault: str, body: Mapping[str, object]) -> Problem | None:
    """The error that stands for a fault; None where the fault is no error answer."""
    model = body.get("model", "")
    unsupported = next((name for name in ("temperature", "max_tokens") if name in body), "model")
    return {
        "rate-limit": Problem(429, "Rate limit reached for requests. Please try again in 50ms.", "rate_limit_exceeded"),
        "server-error": Problem(500, "The server had an error while processing your request", "server_error"),
        "quota": Problem(
            429, "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"
        ),
        "bad-key": Problem(401, "Incorrect API key provided.", "invalid_api_key"),
        "unknown-model": Problem(404, f"The model `{model}` does not exist.", "model_not_found"),
        "unsupported-parameter": Problem(
            400,
            f"Unsupported parameter: '{unsupported}' is not supported with this model.",
            "unsupported_parameter",
            unsupported,
        ),
        "context-too-long": Problem(
            400,
            "This model's maximum context length is 4096 tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
            "messages",
        ),
        "content-filter": Problem(
            400, "The response was filtered due to the prompt triggering the content policy.", "content_filter"
        ),
    }.get(fault)
