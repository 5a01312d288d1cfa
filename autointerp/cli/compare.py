"""`compare`: verdicts with their intervals, controls beside them, and plans.

References and options flow in, one library call each; sentences and what `--json` prints flow out. Imports nothing
heavy for `--help`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autointerp.cli.say import say, say_json

if TYPE_CHECKING:
    from autointerp.compare.data import Comparison, Contrast, Difference

_TERTILES = ("low entropy", "middle entropy", "high entropy")


def compare(
    what: Annotated[
        list[str], typer.Argument(metavar="RUN[:ID]...", help="Finished runs, or one CONFIG.toml that is run first.")
    ],
    by: Annotated[
        str, typer.Option(help="dictionary, explainer, judge or protocol; the rest is alike.")
    ] = "dictionary",
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Compare runs that differ in more, and mark every table.")
    ] = False,
    known: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A known dictionary: the cards say how much of it is found again."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Take the runs for a pilot: how many features a gap takes, what they cost.")
    ] = False,
    gap: Annotated[float, typer.Option(help="With --plan: the gap between mean scores that is to be seen.")] = 0.05,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where compare.json and compare.html go.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")] = False,
) -> None:
    """Say which dictionary, explainer, judge or protocol scores higher, or why that cannot be said."""
    if len(what) == 1 and what[0].endswith(".toml"):
        what = [_run(Path(what[0]))]
    told = show_plan_of(what, by, gap, out) if plan else show_comparison_of(what, by, allow_mismatch, known, out)
    if as_json:
        say_json(told)


def _run(config: Path) -> str:
    """Harvest, explain and score everything that a configuration names; the run's folder."""
    from autointerp import api
    from autointerp.cli.progress import listening
    from autointerp.config import make_config

    settings = make_config(config, {}, "runs/run")
    with listening() as listener:
        api.run(settings, listener)
    return str(settings.out)


def show_comparison_of(
    references: Sequence[str], by: Any, allow_mismatch: bool, known: str | None, out: Path
) -> dict[str, object]:
    """Compare, print the verdicts, and return what `--json` ends with."""
    from autointerp import api
    from autointerp.cli.progress import listening

    with listening() as listener:
        comparison = api.compare_runs(
            references, by=by, allow_mismatch=allow_mismatch, known=known, out=out, listener=listener
        )
    _show(comparison)
    for name in ("compare.json", "compare.html"):
        say(out / name)
    told = comparison.model_dump(mode="json", exclude={"arms": True, "contrasts": {"__all__": {"differing"}}})
    return {"out": str(out), **told}


def show_plan_of(references: Sequence[str], by: Any, gap: float, out: Path) -> dict[str, object]:
    """Plan, print what it takes, keep the plan, and return what `--json` ends with."""
    from autointerp import api
    from autointerp.compare.comparing import PLAN_FILE

    plan = api.plan_comparison(references, by=by, gap=gap, out=out)
    for contrast in plan.contrasts:
        say(contrast.sentence)
    if plan.n_features is not None:
        say(f"to ask for: --features sample:{plan.n_features} (live features: {_counts(plan.features_alive)})")
        cost = plan.cost
        say(
            f"cost of all arms: {cost.calls:,} calls, {cost.input_tokens:,} tokens in, {cost.output_tokens:,} out"
            + (f", {plan.dollars:,.2f} USD" if plan.dollars is not None else ", at a price not known")
            + (f", {plan.seconds:,.0f} s" if plan.seconds is not None else "")
        )
    say(out / PLAN_FILE)
    return {"out": str(out), **plan.model_dump(mode="json")}


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in values.items())


def _show(comparison: "Comparison") -> None:
    for mismatch in comparison.mismatches:
        say(f"NOT ALIKE: {mismatch}")
    for contrast in comparison.contrasts:
        _show_contrast(contrast)


def _show_contrast(contrast: "Contrast") -> None:
    say(contrast.sentence)
    tertiles = "; ".join(f"{name} {_gap(contrast.groups[name])}" for name in _TERTILES if name in contrast.groups)
    say(f"    by token entropy: {tertiles}")
    if contrast.pairing is not None:
        pairs = contrast.pairing.difference
        say(f"    paired, {pairs.n_a} features: {_gap(pairs)}")
    for note in contrast.notes:
        say(f"    {note}")


def _gap(difference: "Difference") -> str:
    from autointerp.compare.verdict import short

    if difference.value is None or difference.low is None or difference.high is None:
        return str(difference.undefined).replace("_", " ")
    return f"{short(difference.value)} [{short(difference.low)}, {short(difference.high)}]"
