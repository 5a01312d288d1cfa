"""Controls without an explanation: what they may know, and what they say."""

from autointerp.interpret.controls import control_levels, position_levels
from autointerp.records import Example, PositionTable, TokenTable
from tests.unit.interpret.planted import make_example, make_record


def at(start: int, target: int | None = None) -> Example:
    example = make_example(["a", "b", "a"], [0.0, 0.0, 1.0], "d")
    record = example.record.model_copy(update={"start": start})
    return example.model_copy(update={"record": record, "target": target})


def test_position_levels_follow_the_place_in_the_row_and_not_in_the_window() -> None:
    """A window cut at place 3 begins in the third bin; reading it from 0 would score another predictor."""
    table = PositionTable(starts=(1, 2, 4), levels=(10, 5, 1))
    assert position_levels(table, [at(1), at(3), at(3, 2), at(900, 0)]) == ((10, 5, 5), (5, 1, 1), (1,), (1,))


def test_a_record_without_tables_has_the_constant_control_alone() -> None:
    """A control that could not be measured must be missing and not a row of zeros."""
    examples = [at(0), at(0, 1)]
    assert control_levels(make_record(score=examples), examples) == {"constant": ((0, 0, 0), (0,))}


def test_controls_answer_for_the_scored_tokens_alone() -> None:
    """A control of another length than the explanation's answer would be scored on other tokens."""
    table = TokenTable(
        tokens=("a", "b"), counts=(1, 1), level_sums=(4, 0), pairs=(("b", "a"),), pair_counts=(20,),
        pair_level_sums=(200,), mean_level=2,
    )  # fmt: skip
    examples = [at(0), at(0, 2)]
    record = make_record(score=examples, table=table)
    levels = control_levels(record, examples)
    assert levels["lookup"] == ((4, 0, 4), (4,))
    assert levels["bigram"] == ((4, 0, 9), (9,))
