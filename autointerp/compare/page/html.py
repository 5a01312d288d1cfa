"""A comparison as one HTML file that needs nothing else: no server, no network, no second file.

A `Comparison` flows in, the text of the file flows out. Verdicts, figures and tables are in the page itself and
readable without scripts; the windows of the features that differ most travel compressed and are opened on demand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from autointerp.compare.data import GROUPS, Arm, Comparison, Contrast, Difference
from autointerp.compare.page import cards, figures, pack, tables, words
from autointerp.report import text
from autointerp.report.figures import Axis, Scale, tallest
from autointerp.report.findings import KINDS
from autointerp.report.pack import to_json
from autointerp.report.page import SHARED_SCRIPTS, STYLE, make_environment, make_policy, read_script, read_style

FOLDER = Path(__file__).parent
OPENED = 2
"""Pairs of a contrast that are open from the start."""
BY = {"dictionary": "dictionaries", "explainer": "explainers", "judge": "judges", "protocol": "protocols"}


def render_comparison(data: Comparison) -> str:
    """The whole page as HTML."""
    script = read_script(*SHARED_SCRIPTS, FOLDER / "compare.js")
    environment = make_environment(FOLDER)
    environment.globals["say"] = words
    places = {arm.key: place for place, arm in enumerate(data.arms)}
    planned, beside = ([c for c in data.contrasts if c.planned is wanted] for wanted in (True, False))
    pairs = pack.pairs_of(planned)
    store = pack.text_of(pairs)
    return environment.get_template("compare.html").render(
        c=data,
        title=_title(data),
        arms=data.arms,
        places=places,
        name_of=lambda key: arm_name(key, places[key]),
        told=[tell(c, places) for c in (*planned, *beside)],
        planned=planned,
        beside=beside,
        absent_kinds=[(name, how) for kind, (name, _, how) in KINDS.items() if kind not in {a.kind for a in data.arms}],
        groups=GROUPS,
        runs=_runs(data.arms, places),
        outcomes=tables.outcomes(data.arms),
        card_rows=cards.card_rows(data.cards),
        absences=cards.absences(data.cards),
        opened=OPENED,
        **_figures(data, planned, places),
        data=to_json(_page_data(data, store.starts)),
        points=[pack.make_points(arm) for arm in data.arms],
        chunks=pack.make_chunks(pairs, store),
        blocks=store.blocks() if pairs else (),
        style=read_style(STYLE / "page.css", STYLE / "card.css", FOLDER / "compare.css"),
        script=script,
        policy=make_policy([script]),
    )


def arm_name(key: str, place: int) -> Markup:
    """An arm's name with its sign, as it stands in running text."""
    sign = f'<span class="glyph g{place % figures.N_SIGNS}" aria-hidden="true"></span>'
    return Markup('<span class="arm">{}<bdi>{}</bdi></span>').format(Markup(sign), text.visible(key))


def tell(contrast: Contrast, places: Mapping[str, int]) -> Markup:
    """A contrast's verdict in plain words, with the arms' names."""
    names = {side: arm_name(key, places[key]) for side, key in (("a", contrast.a), ("b", contrast.b))}
    return Markup(words.headline(contrast)).format(**names)


def _title(data: Comparison) -> str:
    asked = [arm.key for arm in data.arms if arm.asked]
    named = asked if len(asked) > 1 else [arm.key for arm in data.arms]
    return " or ".join(named) if len(named) < 4 else f"{len(named)} {BY[data.by]}"


def _figures(data: Comparison, planned: Sequence[Contrast], places: Mapping[str, int]) -> dict[str, object]:
    """Everything drawn, on axes that figures of one kind share."""
    arms = data.arms
    axis = figures.mean_axis(arms)
    beside = [c for c in data.contrasts if not c.planned]
    gaps = figures.gap_scale([*planned, *(d for c in planned for d in _differences(c))])
    besides = figures.gap_scale(beside)
    clouds = figures.cloud_axes(arms)
    spread = Axis([v for arm in arms for column in _drawn(arm) for v in column])
    peak = tallest([column for arm in arms for column in _drawn(arm)[:2]], spread)
    return {
        "axis": axis,
        "headlines": figures.even_scale(planned),
        "gap_mark": figures.gap_mark,
        "means": tables.mean_forests(arms, axis),
        "gaps": gaps,
        "differences": tables.gap_forests(planned, places, gaps),
        "besides": besides,
        "controls": [tables.headline_line("", c, besides) for c in beside],
        "mark": figures.mark,
        "group_gaps": figures.gap_scale([d for c in data.contrasts for d in c.groups.values()]),
        "fidelity": _fidelity(data, places),
        "clouds": [figures.cloud(arm, place, clouds) for place, arm in enumerate(arms)],
        "density_axes": clouds,
        "density_plots": [figures.density_plot(c, (places[c.a], places[c.b]), clouds) for c in planned],
        "spread": spread,
        "panels": [figures.distribution(arm, spread, peak) for arm in arms],
    }


def _runs(arms: Sequence[Arm], places: Mapping[str, int]) -> list[tuple[list[Markup], str, str, str, str]]:
    """Arms that come from one run and were scored alike, together."""
    found: dict[tuple[str, str, str, str], list[Markup]] = {}
    for arm in arms:
        name = arm_name(arm.key, places[arm.key])
        found.setdefault((arm.run, arm.protocol, arm.explainer, arm.judge), []).append(name)
    return [(names, *how) for how, names in found.items()]


def _differences(c: Contrast) -> list[Difference]:
    paired = [] if c.pairing is None else [c.pairing.difference, c.pairing.unmatched]
    return [d for d in (c.adjusted, c.uniform, c.firing_weighted, c.lift, *paired) if d is not None]


def _drawn(arm: Arm) -> list[list[float]]:
    """What a distribution shows: scores, look-up, shuffled."""
    points = arm.points
    return [[v for v in column if v is not None] for column in (points.value, points.lookup, points.shuffled)]


class FidelityPlot(NamedTuple):
    """Scores against one property of the dictionaries."""

    title: str
    figure: Markup
    x: Scale | figures.LogScale
    y: Scale
    shown: list[figures.Spot]
    left_out: list[str]
    """Arms for which the property is not known."""


def _fidelity(data: Comparison, places: Mapping[str, int]) -> list[FidelityPlot]:
    """Scores against L0 and against loss recovered."""
    own = {card.arm: card for card in data.cards}
    of_dictionary = {arm.spec.id: own[arm.key] for arm in reversed(data.arms) if arm.key in own}
    cards_ = [own.get(arm.key) or of_dictionary.get(arm.spec.id) for arm in data.arms]
    l0 = [card.activity.l0 if card and card.activity else None for card in cards_]
    loss = [card.loss_recovered if card else None for card in cards_]
    return [
        _fidelity_plot(data.arms, places, l0, "L0: mean number of active features a token"),
        _fidelity_plot(data.arms, places, loss, "Loss recovered: 0 as zero ablation, 1 as the model itself"),
    ]


def _fidelity_plot(
    arms: Sequence[Arm], places: Mapping[str, int], values: Sequence[float | None], title: str
) -> FidelityPlot:
    ends = [end for arm in arms for m in (arm.standardised, arm.uniform) for end in (m.low, m.high) if end is not None]
    y = figures.nice_scale([0.0, *ends], least=0.2)
    shown = [
        figures.Spot(places[arm.key], arm.key, value, arm.standardised, arm.uniform)
        for arm, value in zip(arms, values, strict=True)
        if value is not None
    ]
    x = _across([spot.x for spot in shown])
    left_out = [arm.key for arm, value in zip(arms, values, strict=True) if value is None]
    figure = figures.spots(shown, x, y, f"Mean score against {title}")
    return FidelityPlot(title, figure, x, y, shown, left_out)


def _across(values: Sequence[float]) -> Scale | figures.LogScale:
    """An axis with room at both ends, logarithmic where values lie far apart."""
    if values and min(values) > 0 and max(values) > 4 * min(values):
        return figures.LogScale([min(values) / 1.3, max(values) * 1.3], "{:g}".format)
    width = (max(values) - min(values)) if values else 0.0
    room = max(0.15 * width, 0.05 * max(map(abs, values), default=1.0))
    return figures.nice_scale([v + s * room for v in values for s in (-1, 1)], least=1e-3)


def _page_data(data: Comparison, blocks: Sequence[int]) -> dict[str, object]:
    x, y = figures.cloud_axes(data.arms)
    return {
        "blocks": blocks,
        "perChunk": pack.PAIRS_PER_CHUNK,
        "arms": [text.visible(arm.key) for arm in data.arms],
        "axes": {"low": x.low, "high": x.high, "bottom": y.low, "top": y.high},
    }
