"""A run's report as one HTML file that needs nothing else: no server, no network, no second file.

Report data flows in, the text of the file flows out. The summary is in the page itself and readable without scripts;
per-feature evidence travels compressed and is opened on demand.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from autointerp.interpret.summary import CONTROLS, DictionarySummary, Means
from autointerp.report import figures, text
from autointerp.report.data import DictionaryEntry, FeatureEntry, ReportData
from autointerp.report.pack import FEATURES_PER_CHUNK, TextStore, deflate, make_chunks, make_rows, to_json
from autointerp.report.page import APP, SHARED_SCRIPTS, STYLE, make_environment, make_policy, read_script, read_style
from autointerp.scores import Why

FOLDER = Path(__file__).parent
SCRIPTS = ("store", "plots", "windows", "card", "table", "scatter", "main")
EXTREMES = 5
STYLES = ("page", "features", "card")
VENDORED = ("vega", "vega-lite", "vega-embed")
STATES = ("scored", "undefined", "failed", "skipped")
CONTROL_NAMES = {
    "lookup": "Token look-up",
    "bigram": "Bigram look-up",
    "position": "Position only",
    "shuffled": "Shuffled explanation",
    "constant": "Constant prediction",
}
WHYS: dict[Why, str] = {
    "misses_high": "misses strong activations",
    "misses_low": "misses weak activations",
    "fires_too_broadly": "fires too broadly",
    "wrong_order": "wrong order",
    "undefined": "undefined",
    "failed": "failed",
}
STATISTICS = {
    "pearson": ("Pearson", "linear, with the activation"),
    "kendall": ("Kendall tau-b", "pairs ordered alike less unlike"),
    "auroc": ("AUROC", "active told from silent; 0.5 by chance"),
    "average_precision": ("Average precision", "precision, averaged over recall"),
    "spearman_among_active": ("Spearman among active", "active tokens alone"),
    "spearman_weighted": ("Spearman, weighted", "windows by inverse inclusion probability"),
    "spearman_window_mean": ("Spearman, mean per window", "within each window, averaged"),
}
"""Names of the statistics beside the headline, and what each says."""


def render_report(data: ReportData) -> str:
    """The whole report as HTML."""
    script, charts = read_script(*SHARED_SCRIPTS, *(APP / f"{name}.js" for name in SCRIPTS)), read_charts()
    environment = make_environment(FOLDER)
    axis = figures.axis_of(data.features)
    groups = [[f for f in data.features if f.dictionary == d.id] for d in data.dictionaries]
    peak = figures.peak_of(groups, axis)
    store = TextStore([window for feature in data.features for window in feature.windows])
    return environment.get_template("report.html").render(
        run=data.run,
        panels=[
            {**_panel(d, group, axis, peak), "place": k}
            for k, (d, group) in enumerate(zip(data.dictionaries, groups, strict=True))
        ],
        ticks=axis.ticks(),
        axis_low=text.fixed(axis.low, 1),
        statistics=STATISTICS,
        whys=WHYS,
        features=data.features,
        extremes=_extremes(data),
        outcomes=_outcomes([d.summary for d in data.dictionaries]),
        rows=to_json(_page_data(data, store, axis)),
        chunks=make_chunks(data.features, store),
        blocks=store.blocks(),
        style=read_style(*(STYLE / f"{name}.css" for name in STYLES)),
        script=script,
        charts=deflate(charts),
        policy=make_policy([script, charts]),
    )


@cache
def read_charts() -> str:
    """The chart library with its licences; run only once the page stands."""
    notices = (FOLDER / "vendor" / "NOTICES.txt").read_text(encoding="utf-8").replace("*/", "* /")
    parts = [(FOLDER / "vendor" / f"{name}.min.js").read_text(encoding="utf-8") for name in VENDORED]
    return f"/*\n{notices}*/\n" + "\n;".join(parts)


def _panel(
    dictionary: DictionaryEntry, features: Sequence[FeatureEntry], axis: figures.Axis, peak: float
) -> dict[str, object]:
    scores = [f.score for f in features if f.score and f.score.spearman.value is not None]
    tested = [s.spearman for s in scores if s.spearman.null_threshold is not None]
    lifts = [s.lift for s in scores if s.lift.low is not None]
    above = sum((lift.low or 0) > 0 for lift in lifts)
    below = sum((lift.high or 0) < 0 for lift in lifts)
    return {
        "dictionary": dictionary,
        "summary": dictionary.summary,
        "scored": _count(dictionary.summary.scored, dictionary.summary.n_features),
        "figure": figures.distribution(features, dictionary.summary, axis, peak),
        "above_null": _count(sum((s.value or 0) > (s.null_threshold or 0) for s in tested), len(tested)),
        "lifts": (above, len(lifts) - above - below, below),
        "controls": _controls(dictionary.summary, features, axis),
        "splits": _splits(dictionary.summary, axis),
    }


def _controls(
    summary: DictionarySummary, features: Sequence[FeatureEntry], axis: figures.Axis
) -> list[dict[str, object]]:
    """The explanations' mean and every control's, one line each; why, where it was not measured."""
    scores = [f.compared for f in features if f.compared]
    lines = [_line("Explanations", summary.spearman, summary.null_threshold, "score", axis, "")]
    for name in CONTROLS:
        means: Means = getattr(summary, name)
        reasons = Counter(s.undefined for s in (getattr(score, name) for score in scores) if s.undefined)
        missing = reasons.most_common(1)[0][0] if reasons else "not_measured"
        lines.append(_line(CONTROL_NAMES[name], means, summary.null_threshold, name, axis, missing))
    return lines


def _splits(summary: DictionarySummary, axis: figures.Axis) -> list[dict[str, object]]:
    return [
        _line(name.capitalize(), means, summary.null_threshold, "score", axis, "undefined")
        for name, means in summary.splits.items()
    ]


def _line(
    name: str, means: Means, null: float | None, mark: str, axis: figures.Axis, missing: str
) -> dict[str, object]:
    figure = figures.dot(figures.Mean(means.counted_mean, means.low, means.high), mark, axis, null)
    return {"name": name, "means": means, "figure": figure, "missing": missing if means.counted_mean is None else ""}


def _count(n: int, of: int) -> tuple[str, str]:
    """A share in words and the counts under it."""
    return (f"{100 * n / of:.0f} %", f"{n} of {of}") if of else ("–", "")


def _outcomes(summaries: Sequence[DictionarySummary]) -> list[dict[str, object]]:
    """One line per state and reason, with the number of features in each dictionary."""
    lines: list[dict[str, object]] = []
    for state in STATES[1:]:
        maps: list[dict[str, int]] = [getattr(summary, state) for summary in summaries]
        for k, reason in enumerate(sorted({reason for counts in maps for reason in counts})):
            counts = [counts.get(reason, 0) for counts in maps]
            lines.append({"state": state, "reason": reason, "counts": counts, "first": k == 0})
    return lines


def _extremes(data: ReportData) -> list[tuple[str, list[tuple[int, FeatureEntry]]]]:
    """The best and the worst scored features of the dictionaries that are no control, with their dictionary's place."""
    places = {d.id: k for k, d in enumerate(data.dictionaries) if d.role != "control"}
    scored = [f for f in data.features if f.value is not None and f.dictionary in places]
    ordered = sorted(scored, key=lambda f: (-(f.value or 0.0), f.dictionary, f.index))
    n = min(EXTREMES, len(ordered) // 2)
    ends = (("Best", ordered[:n]), ("Worst", ordered[len(ordered) - n :][::-1]))
    return [(name, [(places[f.dictionary], f) for f in end]) for name, end in ends if end]


def _page_data(data: ReportData, store: TextStore, axis: figures.Axis) -> dict[str, object]:
    return {
        "dictionaries": [
            {"id": d.id, "role": d.role, "kind": text.visible(d.kind), "hook": text.visible(d.hook_point)}
            for d in data.dictionaries
        ],
        "perChunk": FEATURES_PER_CHUNK,
        "low": axis.low,
        "blocks": store.starts,
        "shapes": figures.SHAPES,
        "controls": CONTROL_NAMES,
        "whys": WHYS,
        "statistics": STATISTICS,
        "rows": make_rows(data.features, data.dictionaries),
    }
