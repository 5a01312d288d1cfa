"""The selftest's tables on standard output, each with a sentence on what to see in it.

Reports flow in; text of at most 100 columns flows out.
"""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from autointerp.cli.say import make_console
from autointerp.selftest.bench import Check, GeneratorReport
from autointerp.selftest.card import JudgeCard
from autointerp.selftest.measure import Cell
from autointerp.selftest.planted import NEAR_MISSES
from autointerp.selftest.textbench import FeatureRow, TextReport

WIDTH = 100
NEAR_NAMES: tuple[str, ...] = NEAR_MISSES
RANKED = ("broad", "lookup", "narrow", "noisy")
SHORT = {"broad": "broad", "lookup": "look-up", "narrow": "narrow", "noisy": "noisy", "random": "random"}


def show_generator_bench(report: GeneratorReport) -> None:
    """The three findings, the dictionaries of equal quality, stopping, and the acceptance checks."""
    console = make_console(width=WIDTH, highlight=False)
    _say(console, "PLANTED FEATURES, NO MODEL", "bold")
    _say(
        console,
        "A planted feature fires in bursts on a known share of the tokens; three times as many tokens look like it "
        "and never fire. A judge answers for a good explanation and for near-misses: broad claims the look-alikes too, "
        "look-up names the tokens without their context, narrow knows only the strongest, noisy half guesses, random "
        "has nothing to do with the feature.",
    )
    for density in ("1e-2", "1e-3", "1e-4"):
        _show_protocols(console, report, density)
    _say(
        console,
        "What to see: from 1e-3 down, the protocols without hard windows mostly rank a broad explanation or a bare "
        "look-up above the true one (red: right in less than 90 % of the draws), however steady their rho looks. Bias "
        "is rho less its value over all text: no small sample measures that one, which is why false positives per "
        "1,000 tokens stand beside a score. * Below 20 windows a score has no interval; this is what one would cover.",
    )
    _show_separation(console, report)
    _show_ties(console, report)
    _show_floors(console, report)
    _show_equal(console, report)
    _show_stopping(console, report)
    _show_checks(console, report.checks)


def _show_protocols(console: Console, report: GeneratorReport, density: str) -> None:
    table = _table(f"1. What the protocol decides, feature active on {density} of the tokens", "protocol", gap=0)
    heads = ("windows", "rho", "bias", "unde-\nfined", *(f"above\n{SHORT[q]}" for q in RANKED), "cover-\nage")
    for name in (*heads, "calls", "tokens"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for name, cells in report.protocols.items():
        cell = cells[density]
        table.add_row(
            name,
            str(cell.n_windows),
            f"{cell.mean:.2f}",
            f"{cell.bias:+.2f}",
            f"{cell.undefined:.2f}",
            *(_share(cell.ranks_above[q]) for q in RANKED),
            _coverage(cell),
            str(cell.calls),
            f"{cell.input_tokens / 1000:.0f}k",
        )
    console.print(table)


def _show_separation(console: Console, report: GeneratorReport) -> None:
    table = _table("d' of good against each near-miss, by hit rate of the hard windows", "protocol")
    for name in ("hit rate", "density", "broad", "look-up", "narrow", "narrow2", "noisy"):
        table.add_column(name, justify="right")
    for protocol, rates in report.hit_rates.items():
        for rate, cells in rates.items():
            for density, d in cells.items():
                table.add_row(
                    protocol,
                    rate,
                    density,
                    *(f"{d[q]:.1f}" for q in ("broad", "lookup", "narrow", "narrow2", "noisy")),
                )
    console.print(table)
    _say(
        console,
        "What to see: where every hard window holds a true look-alike, 60 windows separate good from each near-miss by "
        "2.5 standard deviations or more. Where few do, specificity is not tested, which is why a score carries its "
        "hit rate.",
    )


def _show_ties(console: Console, report: GeneratorReport) -> None:
    table = _table("2. The tie rule decides whether Spearman can be read (a perfect detector)", "ties")
    for name in ("density", "rho", "closed form", "half missing", "as many false"):
        table.add_column(name, justify="right")
    for rule, cells in report.ties.items():
        for density, cell in cells.items():
            table.add_row(
                rule, density, *(f"{x:.4f}" for x in (cell.perfect, cell.closed_form, cell.missing, cell.extra))
            )
    console.print(table)
    _say(
        console,
        "What to see: with average ranks on whole levels a perfect detector scores 1 and both kinds of damage cost it "
        "0.3. With ties broken at random, or on expected values that never tie, even a perfect detector scores near 0, "
        "and false hits as many as the true ones cost nothing.",
    )


def _show_floors(console: Console, report: GeneratorReport) -> None:
    table = _table("3. A score beside its floor", "answer")
    for density in report.floors:
        table.add_column(f"accuracy of 14\n{density}", justify="right")
    for name in ("graded rho\n1e-3", "null\nthreshold", "above\nnull"):
        table.add_column(name, justify="right")
    for name in next(iter(report.floors.values())):
        row = report.floors["1e-3"][name]
        table.add_row(
            name,
            *(f"{rows[name].accuracy:.3f}" for rows in report.floors.values()),
            *("-" if x is None else f"{x:.2f}" for x in (row.rho, row.null_threshold, row.above_null)),
        )
    console.print(table)
    _say(
        console,
        "What to see: a judge that always answers None earns .714 of SAEBench's accuracy, more than a noisy or broad "
        "explanation of a dense feature, for which even a perfect judge cannot earn 1; look-up earns more than the "
        "truth where features are sparse. Rho of a random explanation is 0, and it passes its own null threshold about "
        "one time in twenty.",
    )


def _show_equal(console: Console, report: GeneratorReport) -> None:
    table = _table("The gap between two dictionaries of equal quality, one dense, one sparse", "protocol")
    for name in ("false gap", "z", "undefined, dense", "undefined, sparse"):
        table.add_column(name, justify="right")
    for name, gap in report.equal_quality.items():
        z = f"{gap.z:+.1f}"
        table.add_row(
            name,
            f"{gap.gap:+.3f}",
            z if abs(gap.z) < 2 else f"[red]{z}[/]",
            f"{gap.undefined_dense:.2f}",
            f"{gap.undefined_sparse:.2f}",
        )
    console.print(table)
    _say(
        console,
        "What to see: random text makes the denser (1e-3 to 1e-1) of two equally good dictionaries look far better "
        "than the sparse one (5e-5 to 1e-3), most of whose scores are undefined. With a fixed share of active "
        "windows the gap is gone.",
    )


def _show_stopping(console: Console, report: GeneratorReport) -> None:
    table = _table(
        'Going on past 60 windows only where the decision is open (stop = "ci"), density 1e-3', "explanation"
    )
    for name in ("windows", "calls saved", "rho, first 60", "rho, stopped", "rho, all 120", "stopped - all"):
        table.add_column(name, justify="right")
    for name, row in report.stopping.items():
        table.add_row(
            name,
            f"{row.windows:.0f}",
            f"{row.saved:.0%}",
            f"{row.mean_first:.3f}",
            f"{row.mean_stopped:.3f}",
            f"{row.mean_full:.3f}",
            f"{row.bias:+.3f} ± {1.96 * row.bias_se:.3f}",
        )
    console.print(table)
    _say(
        console,
        "What to see: calls are saved where an explanation is clearly good or clearly nothing. Stopping on a lucky "
        "look moves single scores a little away from the boundary and the mean of a mixture by less than a hundredth, "
        "far inside one feature's interval of ± 0.1; the mean over the first 60 windows, which every feature has, is "
        "not moved at all, and is the one that a run with early stopping reports.",
    )


def show_text_bench(report: TextReport) -> None:
    """The planted features of real text, and the judges with dials."""
    console = make_console(width=WIDTH, highlight=False)
    _say(console, "PLANTED FEATURES OF REAL TEXT, JUDGES WITH DIALS", "bold")
    _show_features(console, report.features, "The project's own path over python-docs: careful judge, graded-60")
    _say(
        console,
        "What to see: the true explanation stands above those that miss, list tokens or describe something else. "
        "Over-broad ones (red: not below the truth) pass where the hard windows hold little of what they wrongly "
        "claim: hits broad, the share of them answered above 0, is low. Windows looked for by the explanation's own "
        "words (guided: false positives per 1,000) still catch most. Holes are places where the rule holds and the "
        "feature is silent: hard windows seek them out, so they cost even a true explanation dearly.",
    )
    table = _table("How often the true explanation stands above each near-miss", "judge", gap=0)
    for name in ("protocol", "mean\ntrue", "scored", *NEAR_NAMES, "no\nscore", "calls"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for judge, rows in report.judges.items():
        for plan, row in rows.items():
            table.add_row(
                judge,
                plan,
                _number(row.true_mean),
                str(row.n_true),
                *("-" if row.above[n] is None else _share(row.above[n] or 0.0) for n in NEAR_NAMES),
                str(sum(row.without_score.values())),
                f"{row.calls:,}",
            )
    console.print(table)
    _say(
        console,
        "What to see: a hasty judge scores the truth lower and tells less apart; an unreadable one gets no score "
        "rather than zeros (a failed window is never read as a level).",
    )


def show_card(card: JudgeCard) -> None:
    """What a judge is worth."""
    console = make_console(width=WIDTH, highlight=False)
    _say(console, f"JUDGE CARD: {card.simulator}", "bold")
    table = _table("True explanations: levels answered against levels planted", "windows")
    for name in ("n", "bias in levels", "of the rule itself", "seen", "agrees with the rule"):
        table.add_column(name, justify="right")
    for name, row in card.strata.items():
        table.add_row(
            name, str(row.n), f"{row.bias:+.2f}", f"{row.rule_bias:+.2f}", f"{row.sees:.2f}", f"{row.agrees:.2f}"
        )
    console.print(table)
    _say(
        console,
        "What to see: a fair judge sees hardly anything on uniform and hard windows and nearly everything in each "
        "decile. Its bias is to be read beside that of the rule itself: a window seldom tells how strongly a feature "
        "fires there.",
    )
    _show_features(console, card.features, "Every explanation of every planted feature, graded-60")
    shares = (f"{name} {_number(card.ranking.above[name])}" for name in NEAR_NAMES)
    _say(console, f"The true explanation stands above: {', '.join(shares)} (share of features).")
    again = f"Asked twice, it gives the same level for {_number(card.equal)} of the windows"
    _say(console, f"{again} (r {_number(card.correlation)}).")
    failures = ", ".join(f"{n} {reason}" for reason, n in card.failures.items()) or "none"
    _say(console, f"Windows without an answer: {failures}, of {card.n_asked:,}.")
    u, per = card.usage, card.usage.input_tokens / max(card.explanations, 1)
    tokens = f"{u.input_tokens:,} input tokens ({u.cached_input_tokens:,} cached), {u.output_tokens:,} output tokens"
    _say(console, f"Cost: {u.calls:,} calls, {tokens}; about {per:,.0f} input tokens an explanation.")


def _show_features(console: Console, rows: Sequence[FeatureRow], title: str) -> None:
    table = _table(title, "planted feature", gap=0)
    heads = ("density", "true", "null", "look-\nup", "broad", "narrow", "tokens", "neigh-\nbour", "unre-\nlated")
    for name in (*heads, "hits\nbroad", "guided\ntrue", "guided\nbroad"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        true, broad = row.claims["true"], row.claims.get("broad")
        table.add_row(
            row.kind,
            f"{row.density:.0e}" if row.density else "0",
            _number(true.value),
            _number(true.null_threshold),
            _number(row.lookup),
            *(_rival(row, name) for name in NEAR_NAMES),
            _number(broad.hit_rate if broad else None),
            "-" if true.guided is None else f"{true.guided:.0f}",
            "-" if broad is None or broad.guided is None else f"{broad.guided:.0f}",
        )
    console.print(table)


def _rival(row: FeatureRow, name: str) -> str:
    """A near-miss's value, red where it does not stand below the truth."""
    claim, true = row.claims.get(name), row.claims["true"].value
    if claim is None or claim.value is None or true is None:
        return "-"
    text = f"{claim.value:.2f}"
    return f"[red]{text}[/]" if claim.value >= true else text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _show_checks(console: Console, checks: Sequence[Check]) -> None:
    failed = [check for check in checks if not check.ok]
    for check in failed:
        bounds = f"{'' if check.low is None else check.low} to {'' if check.high is None else check.high}"
        _say(console, f"FAILED {check.what}: {check.value:.4f}, not in {bounds}", "red")
    _say(console, f"{len(checks) - len(failed)} of {len(checks)} acceptance checks hold.", "bold")


def _table(title: str, first: str, gap: int = 1) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, gap), title=title)
    table.title_justify, table.title_style = "left", "bold"
    table.add_column(first, no_wrap=True)
    return table


def _share(share: float) -> str:
    text = f"{share:.2f}"
    return f"[red]{text}[/]" if share < 0.9 else text


def _coverage(cell: Cell) -> str:
    if cell.coverage is None:
        return "-"
    return f"{cell.coverage:.2f}{'*' if cell.n_windows < 20 else ''}"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, markup=False)
