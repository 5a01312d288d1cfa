"""What the report says in words: never more than its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from autointerp.interpret.summary import DictionarySummary, summarise
from autointerp.records import DictionarySpec, Failed, Refinement, Role, Skipped, Usage
from autointerp.report.findings import tell, why_low
from autointerp.scores import FeatureScore, Score, UndefinedReason
from tests.unit.report.scored import feature_score, plain

Group = tuple[Role, Sequence[FeatureScore]]


def scores(mean: float, n: int = 60, seed: int = 0, lookup: float = 0.0) -> list[FeatureScore]:
    values = np.clip(np.random.default_rng(seed).normal(mean, 0.1, n), -1, 1)
    return [feature_score(i, float(v), lookup=lookup) for i, v in enumerate(values)]


def summary_of(role: Role, found: Sequence[FeatureScore], refined: Mapping[int, Refinement]) -> DictionarySummary:
    return summarise(role, range(len(found)), found, {}, explained=len(found), protocol="graded-60", n_windows=60,
                     n_tokens=1, l0=1.0, density=None, n_alive=1, refinements=refined, seed=0)  # fmt: skip


def spec(name: str, role: Role) -> DictionarySpec:
    source = "random@sae" if name == "random" else name
    seed = 0 if name == "rerandomised" else None
    return DictionarySpec(id=name, role=role, model="m", hook_point="h", d_in=1, d_sae=1, kind="k", source=source,
                          weights_digest="w", rerandomise_seed=seed)  # fmt: skip


def sentences(groups: Mapping[str, Group], refined: Mapping[int, Refinement] | None = None) -> list[str]:
    summaries = {name: summary_of(role, found, refined or {}) for name, (role, found) in groups.items()}
    specs = {name: spec(name, role) for name, (role, _) in groups.items()}
    return list(tell(specs, summaries, {name: found for name, (_, found) in groups.items()}, 0))


def test_a_control_below_above_and_in_between() -> None:
    """The re-randomised control's sentence is the run's main claim; it must follow the interval, not the means."""
    trained: Group = ("trained", scores(0.6))
    below = sentences({"sae": trained, "rerandomised": ("control", scores(0.2, seed=1))})[1]
    assert below.startswith("The re-randomised control (rerandomised) lies 0.4")
    assert below.endswith("below sae.")
    above = sentences({"sae": trained, "rerandomised": ("control", scores(0.9, seed=1))})[1]
    assert above.startswith("The re-randomised control (rerandomised) lies 0.2")
    assert above.endswith("above sae, not below it.")
    same = sentences({"sae": trained, "rerandomised": ("control", scores(0.6, seed=2))})[1]
    assert "does not lie below sae" in same
    assert "spans zero" in same


def test_each_kind_of_control_has_its_name() -> None:
    """Random directions called re-randomised, or the other way round, would be a false claim about the experiment."""
    low = scores(0.2, seed=1)
    said = sentences(
        {
            "sae": ("trained", scores(0.6)),
            "random": ("control", low),
            "own": ("control", low),
            "neurons": ("basis", low),
        }
    )
    starts = ("Random directions (random) lie ", "The control (own) lies ", "The neuron basis (neurons) lies ")
    assert all(any(s.startswith(start) for s in said) for start in starts)


@pytest.mark.parametrize(
    ("mean", "word"), [(0.5, "above shuffled"), (-0.5, "below shuffled"), (0.0, "not separable from shuffled")]
)
def test_trained_against_its_shuffled_explanations(mean: float, word: str) -> None:
    """Shuffled explanations score 0 here; 'above' needs the whole interval above."""
    assert word in sentences({"sae": ("trained", scores(mean))})[0]


def test_controls_are_compared_feature_by_feature() -> None:
    """Explanations 0.02 above look-up on every feature are above it, however far the features lie apart."""
    values = np.linspace(0.1, 0.8, 60)
    found = [feature_score(i, float(v), lookup=float(v) - 0.02) for i, v in enumerate(values)]
    first = sentences({"sae": ("trained", found)})[0]
    assert "0.02 [0.02, 0.02] above the token look-up (0.43 [" in first
    assert "null threshold 0.20" in first
    assert "bigram" not in first  # not measured: not a number


def test_too_little_to_say() -> None:
    """One score has no interval, and none has no mean."""
    assert "nothing can be said" in sentences({"sae": ("trained", [])})[0]
    both = sentences({"sae": ("trained", scores(0.5)), "own": ("control", scores(0.5, n=1))})
    assert both[1] == "The control (own) against sae: too few scores to compare."
    assert sentences({"sae": ("trained", scores(0.5, n=9))})[0] == (
        "sae: mean Spearman 0.52 over 9 features; an interval needs 10, so nothing is said of its controls."
    )


def test_shares_count_intervals_not_values() -> None:
    """A feature whose interval spans look-up beats nothing; a score at its null threshold is not above it."""
    found = [feature_score(i, value) for i, value in enumerate((0.5, 0.5, 0.05, -0.4, 0.2))]
    undefined = feature_score(5, None)
    said = next(s for s in sentences({"sae": ("trained", [*found, undefined])}) if "lies above 0" in s)
    assert "above 0 for 3 of 5 (60 %)" in said
    assert "spans it for 1 of 5 (20 %)" in said
    assert "below for 1 of 5 (20 %)" in said
    assert "2 of 5 (40 %) scores are above their null threshold" in said


def test_split_by_the_single_token_flag() -> None:
    """The means of the two kinds of feature, each with its own n."""
    found = [feature_score(i, 0.8 if i % 2 == 0 else 0.2) for i in range(20)]
    said = sentences({"sae": ("trained", found)})
    wanted = "0.80 [0.80, 0.80] on 10 features of a single token, 0.20 [0.20, 0.20] on 10 features of several tokens"
    assert f"sae: mean Spearman {wanted}." in said


@pytest.mark.parametrize(("gain", "spans"), [(0.2, False), (0.0, True)])
def test_refining_with_its_cost_and_its_interval(gain: float, spans: bool) -> None:
    """A gain whose interval spans zero must say so; the requests it cost stand beside it."""
    noise = np.random.default_rng(0).normal(0, 0.01, 20)
    noise -= noise.mean()
    found = [feature_score(i, 0.5, changes={"unrefined": plain(0.5 - gain + float(x))}) for i, x in enumerate(noise)]
    usage = Usage(calls=3, input_tokens=90, output_tokens=10)
    kept = Refinement(before="b", kept=True, select_before=0.1, select_after=0.2, usage=usage)
    said = sentences({"sae": ("trained", found)}, dict.fromkeys(range(20), kept))
    sentence = next(s for s in said if "revised" in s)
    assert sentence.startswith("sae: 20 of 20 revised explanations were better on the select part and kept")
    assert f"+{gain:.2f} [" in sentence
    assert ("spans zero" in sentence) == spans
    assert sentence.endswith("cost 60 requests, 2,000 tokens.")


def test_what_is_not_tested_and_what_was_saved() -> None:
    """A run that stopped early, or found no hard negatives, says so; one that did not keeps silent."""
    found = [feature_score(i, 0.5, changes={"specificity_untested": i < 3, "n_saved": 24}) for i in range(12)]
    said = sentences({"sae": ("trained", found)})
    assert any(s.startswith("Specificity is not tested for 3 of 12 (25 %) scored features") for s in said)
    assert any(
        s.startswith("Stopping where a score was clear left 288 of 576 (50 %) windows unasked: about 29") for s in said
    )
    quiet = sentences({"sae": ("trained", scores(0.5))})
    assert not any("Specificity" in s or "Stopping" in s for s in quiet)


@pytest.mark.parametrize("reason", ["no_pattern", "too_few_windows", "constant_prediction", "too_many_failures"])
def test_an_undefined_score_has_its_reason_in_words(reason: UndefinedReason) -> None:
    """A bare keyword in the report sends the reader to the source."""
    text = why_low(feature_score(0, None, reason, changes={"why": "undefined"}), None)
    assert text
    assert text != reason


def test_why_a_score_is_low_with_the_numbers_behind_it() -> None:
    """Each typed reason asks for another cure, so each has its own sentence and its own numbers."""
    recall = (0.0, 0.5, None, 0.0, 0.5, 1.0, 1.0, 0.5, 0.5, 1.0)
    alarms = {"random": 3.2, "hard": 410.0, "guided": None}
    among = (Score(metric="spearman_among_active", value=0.07, n_windows=20),)

    def low(why: str) -> str | None:
        known: dict[str, object] = {"recall_by_decile": recall, "false_positives": alarms, "more": among, "why": why}
        return why_low(feature_score(0, 0.1, changes=known), None)

    assert (
        low("misses_low")
        == "misses weak activations: predicts above 0 on 80 % of the stronger half, 25 % of the weaker"
    )
    assert (low("misses_high") or "").startswith("misses strong activations: predicts above 0 on 80 %")
    assert low("fires_too_broadly") == (
        "fires too broadly: of 1,000 silent tokens it predicts activation on 3 of random text, 410 of hard text"
    )
    assert low("wrong_order") == (
        "finds where the feature is active, but not how strongly: Spearman among active windows 0.07"
    )
    assert why_low(feature_score(0, 0.9), None) is None
    assert why_low(None, Skipped(reason="dead")) == "it is active on no token of this corpus"
    assert why_low(None, Failed(stage="explain", reason="refused", message="no")) == "explain failed: no"
