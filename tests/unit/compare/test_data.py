"""The records of a comparison: what they refuse, and the example that stands for the file."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from autointerp.compare.data import Comparison

EXAMPLE = Path(__file__).with_name("example.json")


def test_the_example_is_a_comparison_and_says_so_again() -> None:
    """Guards against a field that cannot be written and read back."""
    comparison = Comparison.model_validate_json(EXAMPLE.read_text(encoding="utf-8"))
    assert Comparison.model_validate(json.loads(comparison.model_dump_json())) == comparison


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "above", "contrasts": []}, "at least 1"),
        ({"verdict": "not_comparable"}, "that of the first contrast"),
        ({"arms": []}, "no arm is called"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], message: str) -> None:
    """Guards against a verdict that belongs to no contrast, and a contrast between arms that are not there."""
    values = {**json.loads(EXAMPLE.read_text(encoding="utf-8")), **change}
    with pytest.raises(ValidationError, match=message):
        Comparison.model_validate(values)


def test_an_arm_that_loses_features_is_refused() -> None:
    """Guards against a denominator from which features vanish."""
    values = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    values["arms"][0]["denominators"]["asked"] += 1
    with pytest.raises(ValidationError, match="do not add up"):
        Comparison.model_validate(values)
