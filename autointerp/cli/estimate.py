"""What `--dry-run` prints: a table of stages with calls, tokens and price, and which text goes to which host.

An estimate flows in; text or JSON flows out.
"""

from typing import TYPE_CHECKING

from autointerp.cli.say import make_console, say_json

if TYPE_CHECKING:
    from autointerp.estimate import Estimate, StageEstimate


def show_estimate(seen: "Estimate", *, as_json: bool) -> None:
    """Everything that there is to know before something is sent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = make_console()
    if seen.stages:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("stage")
        for name in ("calls", "from the cache", "tokens in", "tokens out", "USD", "at most"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, stage in seen.stages.items():
            table.add_row(name, *_cells(stage))
        table.add_row("all", *_cells(seen.total))
        console.print(table)
    for line in _lines(seen):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        say_json({**seen.model_dump(), "total": seen.total.model_dump()})


def _cells(stage: "StageEstimate") -> list[str]:
    counts = [f"{n:,}" for n in (stage.calls, stage.free, stage.input_tokens, stage.output_tokens)]
    return [*counts, *("-" if usd is None else f"{usd:,.2f}" for usd in (stage.usd, stage.most_usd))]


def _lines(seen: "Estimate") -> list[str]:
    if seen.model is None:
        return ["no language model is asked, and nothing leaves this machine"]
    if not seen.stages:
        return [f"nothing is left to be asked of {seen.model}"]
    lines = [
        f"{sent.windows:,} windows of {sent.corpus} ({sent.characters:,} characters), for {sent.dictionary}, go to "
        f"{seen.host} (model {seen.model})"
        for sent in seen.sent
    ]
    if seen.sampled < seen.features:
        lines.append(f"estimated from the requests of {seen.sampled} of {seen.features} features that are left")
    else:
        lines.append(f"counted on the requests of all {seen.features} features that are left")
    counted = "by their pieces (words, digits, marks), an estimate"
    if seen.correction is not None:
        counted += f" corrected by what the endpoint counted before (times {seen.correction:.2f})"
    lines.append(
        f"tokens are counted {counted}; questions whose answers cannot be read are asked again, at most "
        f"twice; a model that thinks writes more, at most {seen.total.most_output_tokens:,} tokens"
    )
    lines += list(seen.at_most)
    if seen.price is None:
        lines.append(f"the price of {seen.model} at {seen.host} is not known; name a table of yours with prices = FILE")
    else:
        share = "" if seen.batch in (None, 1.0) else f"; in batches {seen.batch:g} of it"
        lines.append(f"prices: {seen.price}, what the provider has cached counted in full{share}")
    return [*lines, *([seen.taken] if seen.taken else [])]
