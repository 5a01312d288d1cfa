"""The two tails of a signed dictionary are two features."""

from pathlib import Path

import torch

from autointerp.subject.codes import densify
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.tails import BothTails

SIGNED = Path(__file__).resolve().parents[2] / "fixtures" / "saelens" / "abstopk" / "checkpoint"


def test_tails_are_apart_and_none_is_negative() -> None:
    """A negative activation would count as silent, and half of a signed dictionary would never be seen."""
    signed = load_dictionary(SIGNED, hook_point="blocks.0.hook_resid_post")
    both = BothTails(signed)
    x = torch.randn(32, signed.d_in, generator=torch.Generator().manual_seed(0)) * 3
    acts = signed.encode(x)
    assert (acts < 0).any()
    assert (both.d_sae, both.signed) == (2 * signed.d_sae, False)
    code = both.encode_sparse(x)
    dense = densify(code, len(x), both.d_sae)
    assert (code.value > 0).all()
    assert torch.equal(dense, both.encode(x))
    assert torch.equal(dense[:, : signed.d_sae] - dense[:, signed.d_sae :], acts)
    assert torch.allclose(both.decode(dense, x), signed.decode(acts, x))
    directions = both.decoder_directions()
    assert directions is not None
    assert torch.equal(directions[: signed.d_sae], -directions[signed.d_sae :])
