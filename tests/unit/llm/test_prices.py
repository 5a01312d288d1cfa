"""Prices: what the table says, what a user's own says over it, and nothing where neither does."""

import os
from pathlib import Path

import pytest

from autointerp.errors import UsageError
from autointerp.llm.base import Endpoint
from autointerp.llm.prices import Prices
from autointerp.records import Usage

USAGE = Usage(calls=3, input_tokens=3_000_000, cached_input_tokens=1_000_000, output_tokens=500_000)


def endpoint(model: str, base_url: str = "https://api.openai.com/v1") -> Endpoint:
    return Endpoint(provider="openai", base_url=base_url, model=model)


def test_a_price_counts_cached_input_apart_and_a_batch_at_its_share() -> None:
    """By hand, gpt-4o-mini: 2 x 0.15 + 1 x 0.075 + 0.5 x 0.60 = 0.675; half of it in a batch."""
    prices = Prices()
    assert prices.price(endpoint("gpt-4o-mini"), USAGE) == pytest.approx(0.675)
    assert prices.price(endpoint("gpt-4o-mini"), USAGE, batch=True) == pytest.approx(0.3375)
    assert prices.price(endpoint("gpt-4o-mini-2024-07-18"), USAGE) == pytest.approx(0.675)


@pytest.mark.parametrize(
    "asked",
    [
        endpoint("gpt-4o-mini", "http://127.0.0.1:8000/v1"),
        endpoint("gpt-4o-mini", "https://router.example/v1"),
        endpoint("gpt-4o-mini-of-mine"),
        endpoint("unheard-of"),
    ],
)
def test_an_unknown_price_is_none(asked: Endpoint) -> None:
    """A price guessed from a name behind another host, or from a similar name, would be a wrong bill."""
    assert Prices().price(asked, USAGE) is None


def test_a_users_table_wins_and_may_hold_for_every_host(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(
        "[[provider]]\nbatch = 0.25\n[provider.models]\n"
        '"gpt-4o-mini" = { input = 1.0, output = 2.0 }\n"local" = { input = 0.0, output = 0.0 }\n'
    )
    prices = Prices(own)
    assert prices.price(endpoint("gpt-4o-mini"), USAGE, batch=True) == pytest.approx((3.0 + 1.0) / 4)
    assert prices.price(endpoint("local", "http://127.0.0.1:1/v1"), USAGE) == 0.0
    assert prices.price(endpoint("gpt-5-mini"), USAGE) is not None
    quote = prices.quote(endpoint("local"))
    assert quote is not None
    assert os.fspath(own) in quote.source


@pytest.mark.parametrize(
    "text",
    ["no toml", '[[provider]]\n[provider.models]\n"m" = { input = -1.0, output = 1.0 }\n', "[prices]\n"],
)
def test_a_table_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml"):
        Prices(own)
    with pytest.raises(UsageError, match="none"):
        Prices(tmp_path / "none.toml")
