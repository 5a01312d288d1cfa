"""Redrawing a model's matrices, on small fresh models."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from autointerp.subject.rerandomise import rerandomise


def small_gpt2(seed: int = 0) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2))
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.mul_(3.0).add_(0.5)
        model.transformer.h[0].mlp.c_fc.bias.normal_()
    return model


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_matrices_change_and_embeddings_and_vectors_stay() -> None:
    """A tied output matrix or a position table that is redrawn would change what the control keeps."""
    model = small_gpt2()
    before = weights(model)
    rerandomise(model, seed=3)
    changed = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    blocks = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert changed == {f"transformer.h.{layer}.{name}.weight" for layer in (0, 1) for name in blocks}
    assert model.lm_head.weight is model.transformer.wte.weight


def test_each_matrix_keeps_its_own_mean_and_sd() -> None:
    """One mean and sd for all matrices would pass the test above."""
    model = small_gpt2()
    before = weights(model)
    rerandomise(model, seed=3)
    for name, value in weights(model).items():
        old = before[name]
        error = 5 * old.std().item() / old.numel() ** 0.5
        assert value.mean().item() == pytest.approx(old.mean().item(), abs=error + 1e-7), name
        assert value.std().item() == pytest.approx(old.std().item(), rel=0.15), name


def test_by_hand_the_first_matrix_is_the_generators_first_draw() -> None:
    """The order and the formula are a promise: the dictionary in the repository was trained on such a model."""
    model = small_gpt2()
    name = "transformer.h.0.attn.c_attn.weight"
    old = weights(model)[name].double()
    drawn = torch.randn(old.shape, generator=torch.Generator().manual_seed(7))
    rerandomise(model, seed=7)
    expected = drawn * old.std(correction=0).item() + old.mean().item()
    torch.testing.assert_close(weights(model)[name], expected)


def test_a_seed_gives_the_same_model_and_another_seed_another() -> None:
    first, second, third = small_gpt2(), small_gpt2(), small_gpt2()
    torch.rand(5)  # the global generator must not matter
    rerandomise(first, seed=1)
    torch.rand(5)
    rerandomise(second, seed=1)
    rerandomise(third, seed=2)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    other = [torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)]
    assert all(same)
    assert not all(other)


def test_another_family_with_an_untied_output_layer() -> None:
    """The output layer of an untied model is a matrix like any other; the input table is kept."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        tie_word_embeddings=False, max_position_embeddings=16,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    table = model.get_input_embeddings().weight.detach().clone()
    output = model.get_output_embeddings().weight.detach().clone()
    rerandomise(model, seed=0)
    assert torch.equal(model.get_input_embeddings().weight, table)
    assert not torch.equal(model.get_output_embeddings().weight, output)


def test_half_precision_weights_stay_half() -> None:
    model = small_gpt2().to(torch.float16)
    rerandomise(model, seed=0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
