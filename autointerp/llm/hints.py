"""What an endpoint's headers say of its limits: how long to wait before the next request fits. Hints, never orders.

Headers of an answer flow in (`x-ratelimit-*` as OpenAI and vLLM's gateways send them), seconds flow out. Sends nothing.
"""

import re
from collections.abc import Mapping

LONGEST_HINT_S = 10.0
"""A hint is believed no further; a rejection says more."""
_PART = re.compile(r"([\d.]+)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def pause_s(headers: Mapping[str, str], next_tokens: int) -> float:
    """Seconds until a request of so many tokens fits the limits; 0 where it fits, or where nothing is said.

    `reset` is when the whole limit is back, so what lacks is back in its share of that time.
    """
    return min(LONGEST_HINT_S, max(_wait_s(headers, "requests", 1), _wait_s(headers, "tokens", next_tokens)))


def _wait_s(headers: Mapping[str, str], kind: str, needed: int) -> float:
    limit, left, reset = (headers.get(f"x-ratelimit-{name}-{kind}", "") for name in ("limit", "remaining", "reset"))
    try:
        total, remaining = float(limit), float(left)
    except ValueError:
        return 0.0
    lacking, used = min(needed, total) - remaining, total - remaining
    return lacking / used * _duration_s(reset) if lacking > 0 and used > 0 else 0.0


def _duration_s(text: str) -> float:
    """`6m0s`, `1.5s`, `20ms`; 0 for anything else."""
    if not re.fullmatch(r"(?:[\d.]+(?:ms|h|m|s))+", text):
        return 0.0
    try:
        return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    except ValueError:
        return 0.0
