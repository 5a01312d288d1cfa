"""Dictionaries that are objects: modules, functions, neurons with both tails, and directions."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.custom import wrap_dictionary
from autointerp.subject.dictionaries import NEURON_K, NeuronBasis, load_dictionary
from autointerp.subject.model import Subject
from autointerp.subject.sae import Sae
from tests.unit.subject.test_agreement import FIXTURES

HOOK = "blocks.0.hook_resid_post"
HAS_SAELENS = importlib.util.find_spec("sae_lens") is not None


class Module(torch.nn.Module):
    """A user's own dictionary."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.power = torch.nn.Linear(4, 9), torch.nn.Linear(9, 4), power

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(x))

    def decode(self, acts: Tensor) -> Tensor:
        out: Tensor = self.down(acts**self.power)
        return out


def test_module_with_encode_and_decode() -> None:
    module = Module()
    dictionary = wrap_dictionary(module, HOOK, d_in=4)
    x = torch.randn(6, 4)
    acts = module.encode(x)
    assert (dictionary.d_in, dictionary.d_sae, dictionary.kind) == (4, 9, "Module")
    code = dictionary.encode_sparse(x)
    rows, features = acts.nonzero(as_tuple=True)
    assert torch.equal(code.row, rows)
    assert torch.equal(code.feature, features)
    assert torch.equal(code.value, acts[rows, features])
    assert torch.equal(dictionary.reconstruct(x), module.decode(acts))
    assert not dictionary.encode(x).requires_grad


def test_directions_of_an_affine_decoder_are_found_by_trying_it() -> None:
    module = Module()
    directions = wrap_dictionary(module, HOOK, d_in=4).decoder_directions()
    assert directions is not None
    torch.testing.assert_close(directions, module.down.weight.detach().T, atol=1e-6, rtol=1e-5)
    assert wrap_dictionary(Module(power=2.0), HOOK, d_in=4).decoder_directions() is None


def test_plain_function() -> None:
    dictionary = wrap_dictionary(lambda x: x.clamp(min=0)[:, :3], HOOK, d_in=4)
    assert (dictionary.d_sae, dictionary.kind, dictionary.signed) == (3, "function", False)
    with pytest.raises(UsageError, match="only encodes"):
        dictionary.decode(torch.zeros(1, 3))
    assert wrap_dictionary(lambda x: x, HOOK, d_in=4).signed


def test_function_with_a_decode_of_its_own() -> None:
    dictionary = wrap_dictionary(torch.relu, HOOK, d_in=4, decode=lambda acts: 2 * acts)
    assert dictionary.reconstruct(torch.ones(1, 4)).tolist() == [[2.0] * 4]


def test_digests_tell_weights_and_functions_apart() -> None:
    other = Module()
    with torch.no_grad():
        other.up.weight.add_(0.1)
    modules = [wrap_dictionary(m, HOOK, d_in=4).weights_digest for m in (Module(), Module(), other)]
    assert modules[0] == modules[1] != modules[2]
    functions = [wrap_dictionary(f, HOOK, d_in=4).weights_digest for f in (torch.relu, torch.abs)]
    assert functions[0] != functions[1]


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (3, "not callable"),
        (lambda x: x[:, 0], r"expected \[64, d_sae\]"),
        (lambda x: x.mean(), r"expected \[64, d_sae\]"),
        (lambda x: None, "gives NoneType"),
    ],
)
def test_what_is_no_dictionary(thing: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wrap_dictionary(thing, HOOK, d_in=4)


def test_an_object_of_ones_own_needs_its_place() -> None:
    with pytest.raises(UsageError, match="needs hook_point and d_in"):
        wrap_dictionary(Module())


@pytest.mark.skipif(not HAS_SAELENS, reason="needs sae-lens, which needs transformer-lens 3.9")
@pytest.mark.parametrize("name", ["standard", "topk", "jumprelu", "gated", "matching_pursuit"])
def test_saelens_object_is_its_folder(name: str) -> None:
    library: Any = importlib.import_module("sae_lens")
    folder = FIXTURES / "saelens" / name / "checkpoint"
    dictionary = wrap_dictionary(library.SAE.load_from_disk(folder))
    assert isinstance(dictionary, Sae)
    assert dictionary.weights_digest == load_dictionary(folder).weights_digest


def test_both_tails_of_neurons(subject: Subject) -> None:
    basis = load_dictionary("neurons-both@blocks.0.hook_resid_post", width_at=subject.width_at)
    assert (basis.d_in, basis.d_sae, basis.signed) == (16, 32, False)
    x = torch.zeros(1, 16)
    x[0, 2], x[0, 5] = 3.0, -4.0
    code = basis.encode_sparse(x)
    assert (code.feature.tolist(), code.value.tolist()) == ([2, 16 + 5], [3.0, 4.0])
    assert torch.equal(basis.reconstruct(x), x)
    directions = basis.decoder_directions()
    assert directions is not None
    assert torch.equal(basis.encode(x) @ directions, x)


def test_both_tails_keep_the_largest_magnitudes() -> None:
    basis = NeuronBasis(HOOK, 40, both_tails=True)
    x = torch.arange(40.0)[None] - 19.5
    kept = basis.reconstruct(x)[0]
    assert int((kept != 0).sum()) == NEURON_K
    assert kept.abs().max() == 20.5 - 1.0
    assert bool((kept[:8] < 0).all())
    assert bool((kept[-8:] > 0).all())


def test_directions_with_both_tails(tmp_path: Path) -> None:
    file = tmp_path / "probes.safetensors"
    save_file({"probes": torch.eye(4)[:2]}, file, metadata={"tails": "both"})
    dictionary = load_dictionary(file, hook_point=HOOK)
    assert dictionary.encode(torch.tensor([[2.0, -3.0, 1.0, 1.0]])).tolist() == [[2.0, 0.0, 0.0, 3.0]]
    save_file({"probes": torch.eye(4)}, file, metadata={"tails": "left"})
    with pytest.raises(UsageError, match="expected positive or both"):
        load_dictionary(file, hook_point=HOOK)
