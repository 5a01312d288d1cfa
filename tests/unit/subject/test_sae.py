"""The canonical dictionary against hand computations and its own two routes."""

from dataclasses import replace

import pytest
import torch

from autointerp.errors import UsageError
from autointerp.subject import codes
from autointerp.subject.activations import JumpRelu, Relu, TopK
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.sae import Sae
from autointerp.subject.scaling import NO_SCALING, ConstantNormScaling, LayerNormScaling, Scaling
from tests.unit.subject.tiny import random_weights

HOOK = "blocks.0.hook_resid_post"


def small() -> SaeParts:
    """Two inputs, three features."""
    return SaeParts(
        W_enc=torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
        b_enc=torch.tensor([0.0, -1.0, 0.5]),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]),
        b_dec=torch.tensor([1.0, 1.0]),
        activation=Relu(),
        architecture="relu",
        hook_point=HOOK,
        subtract_b_dec=True,
    )


def random_sae(scaling: Scaling = NO_SCALING, center: bool = False, seed: int = 0) -> Sae:
    w = random_weights(seed=seed)
    return SaeParts(
        W_enc=w["W_enc"],
        b_enc=w["b_enc"],
        W_dec=w["W_dec"],
        b_dec=w["b_dec"],
        activation=TopK(5),
        architecture="topk",
        hook_point=HOOK,
        scaling=scaling,
        subtract_b_dec=True,
        center_input=center,
    ).build(HOOK)


def test_encode_and_decode_by_hand() -> None:
    """x - b_dec = (2, 1): pre = (2, 0, 3.5); the feature at exactly 0 stays off."""
    sae = small().build(HOOK)
    x = torch.tensor([[3.0, 2.0]])
    assert sae.encode(x).tolist() == [[2.0, 0.0, 3.5]]
    code = sae.encode_sparse(x)
    assert (code.feature.tolist(), code.value.tolist()) == ([0, 2], [2.0, 3.5])
    assert sae.decode(sae.encode(x)).tolist() == [[2.0 + 3.5 + 1.0, 3.5 + 1.0]]


@pytest.mark.parametrize("scaling", [NO_SCALING, LayerNormScaling(), ConstantNormScaling()])
@pytest.mark.parametrize("center", [False, True])
def test_two_routes_to_a_reconstruction(scaling: Scaling, center: bool) -> None:
    sae = random_sae(scaling, center)
    x = torch.randn(3, 4, 16)
    assert sae.encode(x).shape == (3, 4, 64)
    torch.testing.assert_close(sae.reconstruct(x), sae.decode(sae.encode(x), x), atol=1e-5, rtol=1e-5)


def test_centred_input_ignores_a_shift_and_gives_it_back() -> None:
    """A model with centred writing weights has the plain model's residual less its mean."""
    sae, x = random_sae(center=True), torch.randn(5, 16)
    torch.testing.assert_close(sae.encode(x + 3.0), sae.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.reconstruct(x + 3.0), sae.reconstruct(x) + 3.0, atol=1e-5, rtol=1e-5)


def test_layer_norm_ignores_scale_and_shift_of_the_input() -> None:
    sae, x = random_sae(LayerNormScaling()), 10 * torch.randn(5, 16)
    torch.testing.assert_close(sae.encode(3 * x + 2), sae.encode(x), atol=1e-4, rtol=1e-4)


def test_decoding_without_the_input_it_needs_is_refused() -> None:
    with pytest.raises(UsageError, match=r"decode\(acts, x\)"):
        random_sae(LayerNormScaling()).decode(torch.zeros(1, 64))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = random_sae(), torch.randn(7, 16)
    whole = sae.encode_sparse(x)
    monkeypatch.setattr(codes, "DENSE_LIMIT", 2 * 64)
    for one, other in zip(sae.encode_sparse(x), whole, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(sae.encode(x), codes.densify(whole, 7, 64))


def test_no_rows_and_rows_without_an_active_feature() -> None:
    sae = small().build(HOOK)
    assert len(sae.encode_sparse(torch.zeros(0, 2)).row) == 0
    assert sae.reconstruct(torch.zeros(0, 2)).shape == (0, 2)
    silent = torch.tensor([[-9.0, -9.0], [3.0, 2.0], [-9.0, -9.0]])
    active = sae.encode(silent).sum(dim=1) > 0
    assert sae.reconstruct(silent)[~active].tolist() == [[1.0, 1.0]] * int((~active).sum())


def test_heads_are_flattened_head_by_head() -> None:
    sae, x = random_sae(), torch.randn(3, 2, 8)
    assert torch.equal(sae.encode(x), sae.encode(x.reshape(3, 16)))


def test_wrong_width_is_an_error_with_both_widths() -> None:
    with pytest.raises(UsageError, match="width 16, not 15"):
        random_sae().encode(torch.zeros(1, 15))


def test_digest_is_of_weights_and_rules() -> None:
    one = random_sae()
    assert one.weights_digest == random_sae().weights_digest
    assert one.to("cpu", torch.float32).weights_digest == one.weights_digest
    others = [random_sae(seed=1), random_sae(center=True), random_sae(LayerNormScaling())]
    assert len({one.weights_digest, *(other.weights_digest for other in others)}) == 4


def test_kind_names_what_the_architecture_alone_does_not() -> None:
    assert random_sae().kind == "topk k=5"
    assert small().build(HOOK).kind == "relu"


def test_lower_precision_moves_every_tensor() -> None:
    sae = replace(random_sae(), activation=JumpRelu(torch.ones(64)))
    half = sae.to("cpu", torch.bfloat16)
    assert half.encode(torch.randn(2, 16)).dtype == torch.bfloat16
    assert half.encode_sparse(torch.randn(2, 16)).value.dtype == torch.float32
