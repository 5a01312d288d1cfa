"""How fast a test server lets itself be asked: token buckets for requests and tokens, and what its headers say of them.

Times and sizes flow in; whether a request comes too early, and headers, flow out. Waits for nothing itself.
"""

import math
from dataclasses import dataclass

REQUEST_BURST_S = 0.2
"""So many seconds' worth of requests may come at once."""
TOKEN_BURST_S = 6.0
"""The same of tokens, of which one request takes many."""


@dataclass
class Bucket:
    """Fills at a steady rate up to a brim."""

    rate: float
    """Units a second."""
    brim: float
    level: float
    filled: float
    """When the level was last true, in seconds of the caller's clock."""

    def refill(self, now: float) -> None:
        """Let time pass."""
        self.level = min(self.brim, self.level + (now - self.filled) * self.rate)
        self.filled = now

    def wait_s(self, amount: float) -> float:
        """Seconds until so much can be taken; 0 where it can be now. More than the brim is as much as the brim."""
        return max(0.0, (min(amount, self.brim) - self.level) / self.rate)


class Limits:
    """Requests a second and tokens a minute, either of them unlimited where None."""

    def __init__(self, requests_per_s: float | None, tokens_per_minute: float | None, now: float) -> None:
        self._buckets: dict[str, Bucket] = {}
        for kind, rate, brim in (
            ("requests", requests_per_s, max(1.0, (requests_per_s or 0.0) * REQUEST_BURST_S)),
            ("tokens", (tokens_per_minute or 0.0) / 60, (tokens_per_minute or 0.0) / 60 * TOKEN_BURST_S),
        ):
            if rate:
                self._buckets[kind] = Bucket(rate, brim, brim, now)

    def take(self, tokens: float, now: float) -> float:
        """Take a request of so many tokens; seconds to wait, and nothing taken, where it comes too early."""
        asked = {"requests": 1.0, "tokens": tokens}
        for bucket in self._buckets.values():
            bucket.refill(now)
        wait_s = max((bucket.wait_s(asked[kind]) for kind, bucket in self._buckets.items()), default=0.0)
        if wait_s == 0:
            for kind, bucket in self._buckets.items():
                bucket.level -= min(asked[kind], bucket.brim)
        return wait_s

    def headers(self) -> dict[str, str]:
        """`x-ratelimit-*` as OpenAI sends them: the limit by the minute, what is left now, when all is back."""
        said: dict[str, str] = {}
        for kind, bucket in self._buckets.items():
            said[f"x-ratelimit-limit-{kind}"] = str(round(bucket.rate * 60))
            said[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(bucket.level)))
            said[f"x-ratelimit-reset-{kind}"] = spoken_s((bucket.brim - bucket.level) / bucket.rate)
        return said


def retry_headers(wait_s: float) -> dict[str, str]:
    """`retry-after-ms`, and `Retry-After` in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(wait_s))), "retry-after-ms": str(math.ceil(wait_s * 1000))}


def spoken_s(seconds: float) -> str:
    """A length of time as OpenAI's headers write it: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{round(rest)}s" if minutes else f"{rest:.3g}s"
