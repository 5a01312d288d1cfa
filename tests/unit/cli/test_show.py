"""The table a run ends with: it fits its width, and what is missing is named, never a number."""

from collections.abc import Mapping, Sequence

import pytest

from autointerp.cli.show import show_summaries
from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.records import Role
from autointerp.scores import FeatureScore
from tests.unit.report.scored import feature_score, plain


def summary(role: Role, found: Sequence[FeatureScore]) -> DictionarySummary:
    return summarise(role, range(len(found)), found, {}, explained=len(found), protocol="graded-60", n_windows=60,
                     n_tokens=1, l0=1.0, density=None, n_alive=1, refinements={}, seed=0)  # fmt: skip


def shown(summaries: Mapping[str, DictionarySummary], capsys: pytest.CaptureFixture[str]) -> str:
    show_summaries(summaries)
    return capsys.readouterr().out


def test_a_score_stands_beside_its_interval_null_and_controls(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean without its null and its controls is unreadable."""
    found = [feature_score(i, 0.5, lookup=0.25, changes={"bigram": plain(0.375)}) for i in range(9)]
    lines = shown({"sae": summary("trained", [*found, feature_score(9, None, lookup=0.25)])}, capsys).splitlines()
    row = next(line for line in lines if line.strip().startswith("sae "))
    words = row.split()
    assert words[1:4] == ["9", "of", "10"]
    assert words[4] == "0.450"
    assert words[7:] == ["0.200", "0.250", "0.375", "0.000"]
    assert "sae without a score: 1 constant_prediction" in lines
    assert any(line.startswith("Protocol graded-60, 60 windows a feature. Means") for line in lines)


def test_what_was_not_measured_is_a_dash_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A control that was not measured printed as 0 would read as one that failed."""
    text = shown({"sae": summary("trained", [feature_score(i, 0.5, lookup=None) for i in range(3)])}, capsys)
    row = next(line for line in text.splitlines() if line.strip().startswith("sae "))
    assert row.split()[-3:] == ["-", "-", "0.000"]
    assert "sae without these controls: look-up, bigram, position" in text
    assert "Missing control: a dictionary of random directions" in text
    assert row.split()[1:4] == ["3", "of", "3"]


def test_a_control_of_some_features_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    """A shuffled mean over a drawn tenth is not the mean over all."""
    not_drawn = plain(None, "not_drawn")
    controls = {"bigram": plain(0.3), "position": plain(0.1)}
    changes = [controls] * 4 + [{**controls, "shuffled": not_drawn}] * 6
    found = [feature_score(i, 0.5, changes=changes[i]) for i in range(10)]
    text = shown({"sae": summary("trained", found), "own": summary("control", found[:4])}, capsys)
    assert "sae: shuffled is the mean of 4 features drawn, the others are of 10" in text
    assert "Dictionaries for comparison - control: own" in text
    assert "Missing control" not in text


def test_the_table_fits_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that wraps in a log cannot be read."""
    found = [feature_score(i, 0.5) for i in range(500)]
    text = shown({"topk-rerandomised": summary("control", found)}, capsys)
    row = next(line for line in text.splitlines() if "500 of 500" in line)
    assert len(row) <= 100
    assert "topk-rerandomised" in row
    assert row.split()[-1] == "0.000"


def test_under_early_stopping_the_windows_of_the_means_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Features end with different numbers of windows; the means are over those that all have."""
    early = summary("trained", [feature_score(0, 0.5)]).model_copy(update={"protocol": "graded-ci"})
    assert "Protocol graded-ci, the first 60 windows of every feature." in shown({"sae": early}, capsys)


def test_an_empty_run_has_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A run in which nothing was scored still ends with its table."""
    row = next(line for line in shown({"sae": summary("trained", [])}, capsys).splitlines() if line.startswith(" sae "))
    assert row.split()[1:] == ["0", "of", "0", "-", "-", "-", "-", "-"]


def test_few_features_have_a_mean_and_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    """A judge without skill scored 0.091 [0.078, 0.104] on two features, each of which spanned zero by itself."""
    text = shown({"sae": summary("trained", [feature_score(0, 0.078), feature_score(1, 0.104)])}, capsys)
    row = next(line for line in text.splitlines() if line.startswith(" sae "))
    assert "0.091" in row
    assert "[" not in row
    assert "sae: no interval over 2 features; 10 are the least" in text
    assert "0.500 [0.500, 0.500]" in shown(
        {"sae": summary("trained", [feature_score(i, 0.5) for i in range(10)])}, capsys
    )


def test_without_one_score_there_is_no_mean(capsys: pytest.CaptureFixture[str]) -> None:
    """40 constant predictions counted as 0 were printed as 0.000 [0.000, 0.000]."""
    text = shown({"sae": summary("trained", [feature_score(i, None) for i in range(40)])}, capsys)
    row = next(line for line in text.splitlines() if line.startswith(" sae "))
    assert row.split()[1:5] == ["0", "of", "40", "-"]
    assert "sae without a score: 40 constant_prediction" in text


def test_old_summaries_open_without_an_interval_of_two() -> None:
    """A summary.json of before says what is known today: nothing between two features."""
    old = summary("trained", [feature_score(0, 0.078), feature_score(1, 0.104)]).model_dump(mode="json")
    old["spearman"] |= {"low": 0.078, "high": 0.104}
    old["lookup"] |= {"counted_mean": 0.0, "low": 0.0, "high": 0.0, "n": 2}
    opened = DictionarySummary.model_validate(old)
    assert (opened.spearman.counted_mean, opened.spearman.low, opened.spearman.high) == (0.091, None, None)
    assert (opened.lookup.low, opened.lookup.high) == (None, None)
    old["spearman"] |= {"mean": None, "counted_mean": 0.0, "n": 40}
    assert DictionarySummary.model_validate(old).spearman.counted_mean is None
