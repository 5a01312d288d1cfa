"""What the report says in words: never more than its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.records import Failed, Role, Skipped
from autointerp.report.findings import compare_controls, why_low
from autointerp.scores import FeatureScore, UndefinedReason
from tests.unit.interpret.test_score import feature_score


def scores(mean: float, n: int = 60, seed: int = 0) -> list[FeatureScore]:
    values = np.clip(np.random.default_rng(seed).normal(mean, 0.1, n), -1, 1)
    return [feature_score(i, float(v)) for i, v in enumerate(values)]


def sentences(groups: Mapping[str, tuple[Role, Sequence[FeatureScore]]]) -> list[str]:
    def summary(role: Role, found: Sequence[FeatureScore]) -> DictionarySummary:
        return summarise(role, range(len(found)), found, {}, explained=len(found), protocol="simulate", n_windows=48,
                         n_tokens=1, l0=1.0, density=None, n_alive=1, refinements={}, seed=0)  # fmt: skip

    summaries = {name: summary(role, found) for name, (role, found) in groups.items()}
    return list(compare_controls(summaries, {name: found for name, (_, found) in groups.items()}, 0))


def test_a_control_below_above_and_in_between() -> None:
    """The re-randomised control's sentence is the run's main claim; it must follow the interval, not the means."""
    trained: tuple[Role, list[FeatureScore]] = ("trained", scores(0.6))
    below = sentences({"sae": trained, "control": ("control", scores(0.2, seed=1))})[1]
    assert below.startswith("control lies 0.4")
    assert below.endswith("below sae.")
    above = sentences({"sae": trained, "control": ("control", scores(0.9, seed=1))})[1]
    assert above.startswith("control lies 0.2")
    assert above.endswith("above sae, not below it.")
    same = sentences({"sae": trained, "control": ("control", scores(0.6, seed=2))})[1]
    assert "spans zero" in same


@pytest.mark.parametrize(
    ("mean", "word"), [(0.5, "above that of shuffled"), (-0.5, "below that of"), (0.0, "separable")]
)
def test_trained_against_its_shuffled_explanations(mean: float, word: str) -> None:
    """Shuffled explanations score 0 here; 'above' needs the whole interval above."""
    assert word in sentences({"sae": ("trained", scores(mean))})[0]


def test_too_little_to_say() -> None:
    """One score has no interval, and none has no mean."""
    assert "nothing can be said" in sentences({"sae": ("trained", [])})[0]
    both = sentences({"sae": ("trained", scores(0.5)), "control": ("control", scores(0.5, n=1))})
    assert both[1] == "control against sae: too few scores to compare."


@pytest.mark.parametrize("reason", ["no_pattern", "too_few_windows", "constant_prediction", "too_many_failures"])
def test_an_undefined_score_has_its_reason_in_words(reason: UndefinedReason) -> None:
    """A bare keyword in the report sends the reader to the source."""
    text = why_low(feature_score(0, None, reason), None)
    assert text
    assert text != reason


def test_why_a_score_is_low() -> None:
    """Firing on silent text and missing activations ask for different cures."""

    def low(per_stratum: dict[str, float | None]) -> str | None:
        return why_low(feature_score(0, 0.1).model_copy(update={"per_stratum": per_stratum}), None)

    assert low({"decile": 1.0, "uniform": 2.0}) == (
        "the explanation fires too broadly: it predicts activation on silent text"
    )
    assert low({"decile": 3.0, "uniform": 0.0}) == "the explanation misses activations"
    assert why_low(feature_score(0, 0.9), None) is None
    assert why_low(None, Skipped(reason="dead")) == "it is active on no token of this corpus"
    assert why_low(None, Failed(stage="explain", reason="refused", message="no")) == "explain failed: no"
