"""What a run has cost, by stage: calls, tokens and dollars, from the log of its calls.

The log and a table of prices flow in; a row for each stage flows out. Writes nothing.
"""

from pathlib import Path

from autointerp.llm.prices import Prices
from autointerp.records import Record, Usage
from autointerp.store.calls import read_accounts


class StageSpending(Record):
    """One stage of a run."""

    stage: str
    paid: Usage
    """Of the answers that were paid for, in batches or one by one."""
    reused: int
    """Answers found in the cache, which cost nothing."""
    usd: float | None
    """None where the price of some model asked is not known."""


def read_spending(calls: Path, prices: Path | None) -> tuple[StageSpending, ...]:
    """Every stage that asked anything, in the order in which they began.

    Raises:
        RunError: the log is damaged.
        UsageError: the user's prices cannot be read.
    """
    table = Prices(prices)
    paid: dict[str, Usage] = {}
    reused: dict[str, int] = {}
    dollars: dict[str, float | None] = {}
    for account, usage in read_accounts(calls).items():
        stage = account.stage
        paid.setdefault(stage, Usage())
        if account.via == "cache":
            reused[stage] = reused.get(stage, 0) + usage.calls
            continue
        paid[stage] += usage
        price = table.price(account.endpoint, usage, batch=account.via == "batch")
        before = dollars.get(stage, 0.0)
        dollars[stage] = None if before is None or price is None else before + price
    return tuple(
        StageSpending(stage=stage, paid=usage, reused=reused.get(stage, 0), usd=dollars.get(stage, 0.0))
        for stage, usage in paid.items()
    )
