"""Special tokens of bare records: what a harvest leaves out is left out of records too."""

from autointerp.bare import BareRecord
from autointerp.interop.special_tokens import leave_out_special


def record(tokens: list[str], activations: list[float]) -> BareRecord:
    return BareRecord(feature=1, tokens=tuple(tokens), activations=tuple(activations), document="d")


def test_declared_special_tokens_are_left_out_with_their_activations() -> None:
    """BOS's huge activation took a right judge from .986 to .121."""
    given = [record(["\\s{<bos>}", "the", "\\s{x}", " cat"], [900.0, 0.0, 3.0, 2.0]), record(["\\s{<pad>}"], [0.0])]
    kept, notes = leave_out_special(given)
    assert kept == [record(["the", " cat"], [0.0, 2.0])]
    assert len(notes) == 1
    assert notes[0].startswith("3 special tokens (\\s{<bos>}, \\s{<pad>}, \\s{x}) are left out")
    assert "largest activation was 900" in notes[0]


def test_marks_as_plain_text_stay_and_are_pointed_at() -> None:
    given = [record(["<|endoftext|>", "the", " cat"], [50.0, 0.0, 2.0]), record(["the", " cat", "</s>"], [0, 1, 0])]
    kept, notes = leave_out_special(given)
    assert kept == given
    assert notes[0].startswith("2 records begin or end with a mark such as '<|endoftext|>' as plain text")
    assert "activations up to 50" in notes[0]
    assert 'write it as {"special": "<|endoftext|>"} in JSON or \\s{<|endoftext|>} in a table' in notes[0]


def test_text_alone_is_as_it_was_and_needs_no_note() -> None:
    given = [record(["the", "<b>", " s", "[1]"], [0.0, 1.0, 2.0, 0.0])]
    assert leave_out_special(given) == (given, ())
