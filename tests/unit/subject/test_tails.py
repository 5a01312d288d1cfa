"""Signed dictionaries split into two tails: nothing lost, nothing negative."""

from pathlib import Path

import pytest
import torch

from autointerp.subject.codes import densify
from autointerp.subject.dictionaries import Dictionary, load_dictionary
from autointerp.subject.tails import without_signs
from tests.unit.subject.test_agreement import FIXTURES, read_case

SIGNED = [FIXTURES / "saelens" / "abstopk", FIXTURES / "sparsify" / "2024-signed", FIXTURES / "openai" / "identity"]


def load(folder: Path) -> tuple[Dictionary, torch.Tensor]:
    case = read_case(folder)
    return load_dictionary(case.path, hook_point="blocks.0.hook_resid_pre"), case.x


@pytest.mark.parametrize("folder", SIGNED, ids=[folder.name for folder in SIGNED])
def test_split(folder: Path) -> None:
    inner, x = load(folder)
    split = without_signs(inner)
    assert inner.signed
    assert (split.signed, split.d_sae) == (False, 2 * inner.d_sae)
    code = split.encode_sparse(x)
    assert bool((code.value > 0).all())
    keys = (code.row * split.d_sae + code.feature).tolist()
    assert keys == sorted(set(keys)), "sorted by row, then feature"
    assert torch.equal(densify(code, len(x), split.d_sae), split.encode(x))
    acts = split.encode(x)
    assert torch.equal(acts[:, : inner.d_sae] - acts[:, inner.d_sae :], inner.encode(x))
    assert torch.equal(split.decode(acts, x), inner.decode(inner.encode(x), x))
    assert split.weights_digest != inner.weights_digest
    assert split.notes[-1].startswith("Its activations have signs")


def test_directions_of_the_negative_side() -> None:
    inner, _ = load(SIGNED[0])
    directions, both = inner.decoder_directions(), without_signs(inner).decoder_directions()
    assert directions is not None
    assert both is not None
    assert torch.equal(both[inner.d_sae :], -directions)


def test_what_has_no_signs_stays_itself() -> None:
    dictionary, _ = load(FIXTURES / "saelens" / "topk")
    assert without_signs(dictionary) is dictionary
