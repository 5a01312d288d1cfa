"""The figures of a comparison: positions by hand."""

import re

import pytest

from autointerp.compare.data import Comparison, Difference, Estimate
from autointerp.compare.page import cards, figures, tables
from autointerp.compare.page.figures import GRID, LogScale, Spot
from autointerp.report.figures import Axis, Scale
from tests.unit.compare.comparisons import make_comparison, with_nothing_to_rank


@pytest.fixture(scope="module")
def data() -> Comparison:
    return Comparison.model_validate(make_comparison())


def gap(value: float, low: float, high: float) -> Difference:
    return Difference(value=value, low=low, high=high, n_a=30, n_b=30)


def test_a_scale_holds_its_values_between_round_numbers() -> None:
    scale = figures.gap_scale([gap(0.06, 0.03, 0.34)])
    assert scale.low == 0
    assert scale.high == pytest.approx(0.4)
    assert [label for _, label in scale.ticks()] == ["0.0", "0.1", "0.2", "0.3", "0.4"]
    tiny = figures.nice_scale([15.6, 23.2])
    assert tiny.low <= 15.6
    assert tiny.high >= 23.2
    assert 3 <= len(tiny.ticks()) <= 8


def test_a_gap_that_is_not_there_leaves_0_on_the_axis() -> None:
    """Without 0 a reader cannot see which way a gap goes."""
    for scale in (figures.gap_scale([gap(0.3, 0.25, 0.35)]), figures.gap_scale([gap(-0.3, -0.4, -0.2)])):
        assert scale.low <= 0 <= scale.high
    even = figures.even_scale(Comparison.model_validate(make_comparison()).contrasts)
    assert even.at(0) == 50


def test_log_scale_by_hand() -> None:
    scale = LogScale([1e-4, 1e-2], "{:g}".format)
    middle = scale.at(1e-3)
    assert middle == pytest.approx(50)
    assert [label for _, label in scale.ticks()] == ["0.0001", "0.001", "0.01"]
    assert scale.at(1e-4) == pytest.approx(100 * 0.06 / 2.12, abs=0.01)
    assert len(LogScale([3.0, 9.0], "{:g}".format).ticks()) >= 1


def test_dots_stand_where_features_are(data: Comparison) -> None:
    """A flipped or shifted cloud would show density's effect the wrong way around."""
    axes = figures.CloudAxes(LogScale([1e-4, 1e-2], "{:g}".format), Axis([]))
    assert axes.place(1e-3, 1.0) == (GRID // 2, 0)
    assert axes.place(1e-3, -0.2) == (GRID // 2, GRID)
    arm = data.arms[0]
    shown = figures.cloud_axes(data.arms)
    dots = {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", str(figures.cloud(arm, 3, shown)))}
    assert dots == {shown.place(d, v) for d, v in zip(arm.points.density, arm.points.value, strict=True)}
    assert 'id="cloud-3"' in str(figures.cloud(arm, 3, shown))


def test_shared_strata_are_shaded_and_no_others(data: Comparison) -> None:
    """A stratum that is in no verdict must not look as if it were."""
    contrast = data.contrasts[0]
    axes = figures.cloud_axes(data.arms)
    svg = str(figures.density_plot(contrast, (0, 1), axes))
    shared = [row for row in contrast.strata if row.weight]
    assert 0 < len(shared) < len(contrast.strata)
    assert svg.count('class="shared"') == len(shared)
    assert svg.count('class="level a0"') == svg.count('class="level a1"') == len(shared)
    left = axes.x.at(shared[0].low)
    assert f'class="shared" x="{left}%"' in svg
    mean = shared[0].mean_a
    assert mean is not None
    assert f'y1="{round(100 - axes.y.at(mean), 3)}%"' in svg


def test_arms_at_one_place_stand_apart_over_their_true_place() -> None:
    """Four dictionaries with k = 16 would cover each other."""
    mean = Estimate(value=0.5, low=0.4, high=0.6, n=30)
    found = [Spot(k, f"arm{k}", 16.0, mean, mean) for k in range(3)] + [Spot(3, "far", 20.0, mean, mean)]
    svg = str(figures.spots(found, Scale(10, 20, 2), Scale(0, 1, 0.2), "scores"))
    assert re.findall(r"translate\(([-\d.]+) 0\)", svg) == ["-26.0", "0.0", "26.0", "0.0"]
    assert svg.count('class="rug') == 4
    assert re.findall(r'class="rug a\d" x1="([\d.]+)%"', svg) == ["60.0", "60.0", "60.0", "100.0"]
    assert 'y1="60.0%" y2="40.0%"' in svg


def test_an_interval_beyond_the_axis_ends_with_it() -> None:
    """A bootstrap interval of five scores can leave what a correlation can be; it must not leave its cell."""
    svg = str(figures.mark(Estimate(value=0.9, low=0.8, high=1.4, n=5), "uniform", Axis([])))
    assert 'x2="100.0%"' in svg


def test_missing_means_leave_no_mark() -> None:
    """What has no value is told in words, and above all not drawn at 0."""
    data = Comparison.model_validate(with_nothing_to_rank())
    lines = tables.mean_forests(data.arms, Axis([]))[0].lines
    assert lines[0].missing == "no shared densities"
    assert "mark-" not in str(lines[0].figure)
    forest = tables.gap_forests(data.contrasts, {arm.key: k for k, arm in enumerate(data.arms)}, Scale(-1, 1, 0.5))[0]
    assert forest.lines[0].missing == "no shared densities"
    assert "mark-" not in str(forest.lines[0].figure)


def test_reasons_of_all_arms_stand_in_one_table(data: Comparison) -> None:
    """Features must add up to those asked for, reason by reason."""
    lines = tables.outcomes(data.arms)
    for k, arm in enumerate(data.arms):
        assert arm.denominators.scored + sum(counts[k] for _, _, counts in lines) == arm.denominators.asked


def test_cards_have_a_cell_each_and_dashes_with_reasons() -> None:
    data = Comparison.model_validate(with_nothing_to_rank())
    rows = cards.card_rows(data.cards)
    assert all(len(row.cells) == 2 for row in rows)
    assert all(row.cells[1] == "–" for row in rows)
    activity = data.cards[0].activity
    assert activity is not None
    assert next(row for row in rows if row.name == "L0").cells[0] == f"{activity.l0:.1f}"
    (why, whose) = next((why, whose) for why, whose in cards.absences(data.cards) if "bare records" in why)
    assert len(whose) == 8
    assert whose[0] == f"{data.cards[1].arm} (activity)"
    assert "bare records" in why


def test_a_density_histogram_has_a_bar_for_every_bin_that_holds_something(data: Comparison) -> None:
    activity = data.cards[0].activity
    assert activity is not None
    svg = str(figures.density_histogram(activity, -6.0))
    assert svg.count("<rect") == sum(n > 0 for n in activity.log_density_counts)
    first = next(k for k, n in enumerate(activity.log_density_counts) if n)
    assert f'x="{100 * (activity.log_density_edges[first] + 6) / 6:.2f}%"' in svg
