"""Pauses by an endpoint's headers, by hand."""

import pytest

from autointerp.llm.hints import LONGEST_HINT_S, pause_s


def headers(kind: str, limit: object, left: object, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(left),
        f"x-ratelimit-reset-{kind}": reset,
    }


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, 0.0),
        (headers("requests", 60, 5, "55s"), 0.0),
        (headers("requests", 60, 0, "1m0s"), 1.0),
        (headers("requests", 10, 0, "200ms"), 0.02),
        (headers("tokens", 1000, 600, "4s"), 0.0),
        (headers("tokens", 1000, 400, "6s"), 1.0),
        (headers("requests", 60, 0, "1m0s") | headers("tokens", 1000, 0, "10s"), 5.0),
        (headers("tokens", 100, 0, "2h"), LONGEST_HINT_S),
        (headers("requests", 60, 0, "soon"), 0.0),
        (headers("requests", "many", 0, "1s"), 0.0),
        (headers("requests", 60, 0, "1.2.3s"), 0.0),
    ],
)
def test_what_lacks_is_back_in_its_share_of_the_time(said: dict[str, str], seconds: float) -> None:
    """`reset` is when everything is back: waiting for that wastes the limit; nonsense must not stop a run."""
    assert pause_s(said, 500) == pytest.approx(seconds)
