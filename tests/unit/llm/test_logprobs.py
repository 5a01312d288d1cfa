"""Probabilities by text: equal texts are added up, one token in two spellings counts once, and odd lists are seen."""

import math

import pytest

from autointerp.llm.base import TokenLogprob
from autointerp.llm.logprobs import are_real, begins_at, chances, fully_listed, lost_some


def entry(token: str, chance: float, *listed: tuple[str, float]) -> TokenLogprob:
    """A position from probabilities."""
    return TokenLogprob(token, math.log(chance), tuple((text, math.log(p)) for text, p in listed))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        # Two token ids with one text: the later, least likely one replaced the first.
        (entry("j", 0.97, ("j", 0.97), ("a", 0.02), ("j", 1e-5)), {"j": 0.97001, "a": 0.02}),
        (entry("j", 0.5, ("j", 0.5), ("a", 0.3), (" a", 0.15)), {"j": 0.5, "a": 0.45}),
        (entry("9", 0.6, ("▁9", 0.6), ("Ġ9", 0.2), ("1", 0.1)), {"9": 0.8, "1": 0.1}),
        # The generated token keeps its space, its own entry has lost it: counted twice.
        (entry(" j", 0.5, ("j", 0.5), ("a", 0.45)), {"j": 0.5, "a": 0.45}),
        (entry("j", 0.5, (" j", 0.5), (" a", 0.45)), {"j": 0.5, "a": 0.45}),
        (entry(" j", 0.4, (" j", 0.4), ("j", 0.4), ("a", 0.1)), {"j": 0.4, "a": 0.1}),
        # Not among the likeliest: it counts as itself.
        (entry("j", 0.03, ("a", 0.6), ("b", 0.3)), {"a": 0.6, "b": 0.3, "j": 0.03}),
        (entry(" j", 0.03, ("j", 0.6), ("b", 0.3)), {"j": 0.63, "b": 0.3}),
        # Two ids that are equally likely are two.
        (entry("j", 0.4, ("j", 0.4), ("j", 0.4), ("a", 0.1)), {"j": 0.8, "a": 0.1}),
    ],
)
def test_chances_by_hand(position: TokenLogprob, expected: dict[str, float]) -> None:
    assert chances(position) == pytest.approx(expected)


def test_pieces_that_lost_their_spaces_do_not_spell_the_text() -> None:
    """A server that decodes each token alone drops the spaces: every answer was lost, and the probe saw nothing."""
    whole = [entry(token, 0.9, (token, 0.9)) for token in ("1", ":", " ", "j")]
    stripped = [entry(token, 0.9, (token, 0.9)) for token in ("1", ":", "", "j")]
    assert begins_at(whole, "1: j") == 0
    assert are_real(whole, "1: j")
    assert begins_at(stripped, "1: j") is None
    assert not are_real(stripped, "1: j")


def test_what_adds_up_to_more_than_one_is_no_distribution() -> None:
    assert not are_real([entry("j", 0.9, ("j", 0.9), ("a", 0.4))], "j")
    assert not are_real([entry("j", 0.9)], "j")
    assert are_real([entry("j", 0.9, ("j", 0.9), ("a", 0.1))], "j")


def test_a_list_keyed_by_text_that_lost_a_double_is_shorter() -> None:
    """Completions with echo give a dictionary per place, so a server itself drops one of two equal texts."""
    full = entry("x", 0.5, ("x", 0.5), ("a", 0.3), ("j", 0.1))
    extra = entry("x", 0.001, ("a", 0.5), ("b", 0.3), ("j", 0.1), ("x", 0.001))
    assert fully_listed([full, extra]) == 3
    assert not lost_some(full, 3)
    assert not lost_some(extra, 3)
    assert lost_some(entry("x", 0.5, ("x", 0.5), ("j", 1e-5)), 3)
    assert lost_some(entry("x", 0.001, ("a", 0.02), ("j", 1e-5), ("x", 0.001)), 4)
    assert lost_some(entry("x", 1e-6, ("a", 0.02), ("j", 1e-5), ("x", 1e-6)), 3)
    assert not lost_some(entry("x", 0.5, ("x", 0.5), ("a", 0.5)), 3), "it is whole, however short"
