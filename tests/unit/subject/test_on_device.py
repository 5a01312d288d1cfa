"""Objects that a notebook holds, on a pretended device: dictionaries, and inputs that are elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autointerp.compare.weights import load_known, load_weights
from autointerp.config import DictionaryConfig
from autointerp.errors import UsageError
from autointerp.records import DictionarySpec
from autointerp.subject import codes
from autointerp.subject.custom import wrap_dictionary
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.inspection import inspect_dictionary
from autointerp.subject.model import load_model
from autointerp.subject.tails import BothTails
from tests.device import pretended
from tests.every_dictionary import RESID, write_every_dictionary
from tests.small_run import D_MODEL, SmallRun

DEVICES = ["cuda", "cuda:1", "mps"]
HOOK = "blocks.0.hook_resid_post"


class Module(torch.nn.Module):
    """A user's own dictionary."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = torch.nn.Linear(4, 9), torch.nn.Linear(9, 4)

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(x))

    def decode(self, acts: Tensor) -> Tensor:
        out: Tensor = self.down(acts)
        return out


def over(weight: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Functions that hold a tensor."""

    def encode(x: Tensor) -> Tensor:
        return torch.relu(x @ weight)

    def decode(acts: Tensor) -> Tensor:
        return acts @ weight.T

    return encode, decode


@pytest.mark.parametrize("device", DEVICES)
def test_every_format_encodes_and_decodes_there(tmp_path: Path, device: str) -> None:
    """An operand that stays behind on the CPU shows only where there are two devices."""
    x = torch.randn(7, D_MODEL, generator=torch.Generator().manual_seed(0))
    for name, path in write_every_dictionary(tmp_path).items():
        here = load_dictionary(path)
        here = BothTails(here) if here.signed else here
        code, out, acts = here.encode_sparse(x), here.reconstruct(x), here.encode(x)
        with pretended(0 if device == "mps" else 2, mps=device == "mps"):
            there, moved = here.to(device), x.to(device)
            assert there.encode(moved).device.type == device[:4].strip(":")
            for one, other in zip(code, there.encode_sparse(moved), strict=True):
                torch.testing.assert_close(other.cpu(), one, msg=name)
            torch.testing.assert_close(there.reconstruct(moved).cpu(), out, msg=name)
            torch.testing.assert_close(there.decode(there.encode(moved), moved).cpu(), here.decode(acts, x), msg=name)
            half = here.to(device, torch.bfloat16)
            assert half.reconstruct(moved.bfloat16()).dtype == torch.bfloat16


def test_two_devices_are_one_sentence(tmp_path: Path) -> None:
    """It was torch's own error, without the name of what has to move."""
    dictionary = load_dictionary(write_every_dictionary(tmp_path)["relu"])
    x = torch.randn(3, D_MODEL)
    with pretended(2):
        moved = x.to("cuda:1")
        for use in (dictionary.encode, dictionary.encode_sparse, dictionary.reconstruct):
            with pytest.raises(UsageError, match=r"is on cpu and its input on cuda:1; .*\.to\(\"cuda:1\"\)"):
                use(moved)
        with pytest.raises(UsageError, match="is on cuda:0 and its input on cpu"):
            dictionary.to("cuda").encode(x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_function_over_tensors_anywhere(device: str, dtype: torch.dtype) -> None:
    """Tried with float32 on the CPU alone, it was torch's error at wrapping; moved, it was one at encoding."""
    weight = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    expected = torch.relu(x.to(dtype) @ weight).float()
    with pretended(0 if device == "mps" else 2, mps=device == "mps"):
        there = weight.to(device)
        for own in (weight, there):
            encode, decode = over(own)
            dictionary = wrap_dictionary(encode, HOOK, d_in=4, decode=decode).to(device)
            for given in (x, x.to(device)):
                assert dictionary.encode(given).device == given.device
                torch.testing.assert_close(dictionary.encode(given).cpu(), expected)
                assert dictionary.reconstruct(given).device == given.device
            code = dictionary.encode_sparse(x.to(device))
            torch.testing.assert_close(code.value.cpu(), expected[expected != 0])
            directions = dictionary.decoder_directions()
            assert directions is not None
            torch.testing.assert_close(directions.float().cpu(), weight.T.float(), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("device", ["cpu", *DEVICES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_module_anywhere_takes_inputs_from_anywhere(device: str, dtype: torch.dtype) -> None:
    """A bfloat16 module and a float32 input were an error until the module was moved."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    with pretended(0 if device == "mps" else 2, mps=device == "mps"):
        module = Module().to(device, dtype)
        dictionary = wrap_dictionary(module, HOOK, d_in=4)
        acts = dictionary.encode(x)
        assert (acts.device, acts.dtype) == (x.device, x.dtype)
        torch.testing.assert_close(acts, module.encode(x.to(device, dtype)).float().cpu())
        assert dictionary.reconstruct(x.to(device)).device.type == torch.device(device).type
        assert dictionary.decoder_directions() is not None


def test_a_function_that_takes_nothing_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"encode fails on activations \[64, 4\]: mat1 and mat2"):
        wrap_dictionary(lambda x: x @ torch.zeros(5, 9), HOOK, d_in=4)


def test_directions_of_many_features_are_found_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding the whole identity took 17 GB at 65k features."""
    monkeypatch.setattr(codes, "DENSE_LIMIT", 27)
    most = 0

    class Watched(Module):
        def decode(self, acts: Tensor) -> Tensor:
            nonlocal most
            if len(acts) != 64:
                most = max(most, len(acts))
            return super().decode(acts)

    module = Watched()
    directions = wrap_dictionary(module, HOOK, d_in=4).decoder_directions()
    assert most == 3
    assert directions is not None
    torch.testing.assert_close(directions, module.down.weight.detach().T, atol=1e-6, rtol=1e-5)


def test_weights_are_read_where_there_is_a_device(small: SmallRun, tmp_path: Path) -> None:
    """Comparisons and inspections need none, and must not mix with one."""
    path = write_every_dictionary(tmp_path)["abstopk"]
    with pretended(2):
        dictionary = BothTails(load_dictionary(path))
        spec = DictionarySpec(
            id="abstopk", role="trained", model="m", hook_point=RESID, d_in=D_MODEL, d_sae=dictionary.d_sae,
            kind=dictionary.kind, source="abstopk", weights_digest=dictionary.to("cuda:1").weights_digest,
        )  # fmt: skip
        asked = DictionaryConfig.model_validate({"id": "abstopk", "path": str(path)})
        weights = load_weights(asked, spec)
        assert not isinstance(weights, str)
        assert weights.encoder is not None
        assert load_known(str(path), RESID).decoder.shape == (dictionary.d_sae // 2, D_MODEL)
        assert inspect_dictionary(path).d_in == D_MODEL


def test_output_tokens_of_a_bfloat16_model_are_those_of_a_float32_product(small: SmallRun) -> None:
    """Rounded to bfloat16, the first output token was another one in up to 4 % of features."""
    model = load_model(small.model, "cpu", "bfloat16")
    directions = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(0))
    found = model.output_tokens(directions, RESID)
    assert found is not None
    gain = model._bridge.ln_final.original_component.weight.detach().double()
    centred = directions.double() - directions.double().mean(dim=1, keepdim=True)
    exact = (centred * gain) @ model._bridge.W_U.detach().double()
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-4)
