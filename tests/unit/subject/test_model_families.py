"""Four architectures against Hugging Face's own forward pass, and models that come otherwise than as a folder."""

import contextlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformer_lens.model_bridge.sources.native  # noqa: F401 - makes `boot_native` known
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from autointerp.errors import UsageError
from autointerp.subject.model import Subject, load_model, wrap_model
from tests.unit.subject.tiny import D_MODEL, N_CTX, N_LAYER, make_family, make_tokenizer, write_family

CONVERTS = importlib.util.find_spec("transformer_lens.utilities.tl_checkpoint_conversion") is not None
FAMILIES = ("gpt2", "gpt-neox", "llama", "gemma-2")
IDS = torch.tensor([[0, 5, 9, 70, 33], [0, 12, 13, 14, 15]])
BLOCK = {
    "gpt2": "transformer.h.1",
    "gpt-neox": "gpt_neox.layers.1",
    "llama": "model.layers.1",
    "gemma-2": "model.layers.1",
}
OUTPUTS = {
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt-neox": ("attention.dense", "mlp.dense_4h_to_h"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "gemma-2": ("self_attn.o_proj", "mlp.down_proj"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("families") / str(request.param), str(request.param))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Subject:
    return load_model(folder, "cpu")


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def inputs_of(model: Any, module: str) -> list[Tensor]:
    seen: list[Tensor] = []
    model.get_submodule(module).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


def test_residual_stream(folder: Path, loaded: Subject) -> None:
    with torch.no_grad():
        hidden = plain(folder)(IDS, output_hidden_states=True).hidden_states
    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]
    got = loaded.capture(IDS, names)
    torch.testing.assert_close(got[names[0]], hidden[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[names[1]], hidden[1], atol=1e-5, rtol=1e-5)


def test_inputs_of_output_layers(folder: Path, loaded: Subject) -> None:
    model = plain(folder)
    attention, mlp = OUTPUTS[folder.name]
    z, post = inputs_of(model, f"{BLOCK[folder.name]}.{attention}"), inputs_of(model, f"{BLOCK[folder.name]}.{mlp}")
    with torch.no_grad():
        model(IDS)
    got = loaded.capture(IDS, ["blocks.1.attn.hook_z", "blocks.1.mlp.hook_post"])
    torch.testing.assert_close(got["blocks.1.attn.hook_z"], z[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got["blocks.1.mlp.hook_post"], post[0], atol=1e-5, rtol=1e-5)


def test_block_outputs_add_up(loaded: Subject) -> None:
    """What attention and MLP write is what the stream gains, behind Gemma 2's post-norms too."""
    names = [f"blocks.1.hook_{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    pre, attention, mlp, post = (loaded.capture(IDS, names)[name] for name in names)
    torch.testing.assert_close(pre + attention + mlp, post, atol=1e-5, rtol=1e-5)


def test_mlp_input_is_after_the_gain_and_hook_normalized_before(loaded: Subject) -> None:
    after, before = "blocks.1.mlp.hook_in", "blocks.1.ln2.hook_normalized"
    got = loaded.capture(IDS, [after, before])
    assert not torch.allclose(got[after], got[before], atol=1e-2)


def test_right_padding_is_exact(loaded: Subject) -> None:
    hook = "blocks.1.hook_resid_post"
    short = loaded.capture(IDS[:, :3], [hook])[hook]
    torch.testing.assert_close(loaded.capture(IDS, [hook])[hook][:, :3], short, atol=1e-5, rtol=1e-5)


def test_output_weights(folder: Path, loaded: Subject) -> None:
    """Second route: move the last residual a little along d; the logits' change is their gradient times d.

    At a residual of norm sqrt(d_model), centred where the norm centres and orthogonal to d, the norm's own change
    vanishes, so what is left is the direct path; Gemma 2 squashes its logits after that.
    """
    model = plain(folder).double()
    final = {"gpt2": "transformer.ln_f", "gpt-neox": "gpt_neox.final_layer_norm"}.get(folder.name, "model.norm")
    norm, head = model.get_submodule(final), model.get_output_embeddings()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(D_MODEL, generator=generator).double()
    base = torch.randn(D_MODEL, generator=generator).double()
    centres = "bias" in dict(norm.named_parameters())
    centred, base = (vector - vector.mean() if centres else vector for vector in (direction, base))
    base = base - (base @ centred) / (centred @ centred) * centred
    base = base / base.pow(2).mean().sqrt()
    step = 1e-2  # some norms compute in single precision whatever they are given
    with torch.no_grad():
        change = (head(norm(base + step * direction)) - head(norm(base - step * direction))) / (2 * step)
    weights = loaded.output_tokens(direction.float()[None], "blocks.0.hook_resid_post")
    assert weights is not None
    torch.testing.assert_close(weights[0].double(), change.double(), atol=2e-3, rtol=2e-3)


def test_output_weights_of_neurons(folder: Path, loaded: Subject) -> None:
    """Through the output matrix, and in Gemma 2 through the gain of the norm behind it."""
    model = plain(folder)
    attention, mlp = OUTPUTS[folder.name]
    behind = {"mlp": "post_feedforward_layernorm", "attn": "post_attention_layernorm"}
    for hook, module, kind in (("mlp.hook_post", mlp, "mlp"), ("attn.hook_z", attention, "attn")):
        weight = model.get_submodule(f"{BLOCK[folder.name]}.{module}").weight.detach()
        rows = weight if folder.name == "gpt2" else weight.T
        if folder.name == "gemma-2":
            rows = rows * (1 + model.get_submodule(f"{BLOCK[folder.name]}.{behind[kind]}").weight.detach())
        through = loaded.output_tokens(torch.eye(len(rows))[2:4], f"blocks.1.{hook}")
        direct = loaded.output_tokens(rows[2:4], "blocks.1.hook_resid_post")
        assert through is not None
        assert direct is not None
        torch.testing.assert_close(through, direct, atol=1e-5, rtol=1e-5)


def test_ready_hugging_face_model(folder: Path, loaded: Subject) -> None:
    ready = wrap_model(plain(folder), AutoTokenizer.from_pretrained(folder), name="mine")
    hook = "blocks.1.hook_resid_post"
    assert ready.name == "mine"
    assert ready.digest == loaded.digest
    assert torch.equal(ready.capture(IDS, [hook])[hook], loaded.capture(IDS, [hook])[hook])


def test_ready_bridge_brings_its_tokenizer(folder: Path, loaded: Subject) -> None:
    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")
    ready = wrap_model(bridge)
    hook = "blocks.1.hook_resid_post"
    assert torch.equal(ready.capture(IDS, [hook])[hook], loaded.capture(IDS, [hook])[hook])
    assert ready.encode_text(["the cat"]) == loaded.encode_text(["the cat"])


def test_ready_model_without_tokenizer() -> None:
    with pytest.raises(UsageError, match="comes without a tokenizer"):
        wrap_model(make_family("llama", 20))


def test_ready_model_with_another_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    make_family("llama", 20).save_pretrained(folder)
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    subject = wrap_model(plain(folder), AutoTokenizer.from_pretrained(tmp_path / "tokenizer"))
    with pytest.raises(UsageError, match="do not belong together"):
        subject.encode_text(["the cat"])


def lens_config(n_vocab: int) -> dict[str, Any]:
    return {
        "n_layers": N_LAYER,
        "d_model": D_MODEL,
        "n_ctx": N_CTX,
        "d_head": 8,
        "n_heads": 2,
        "d_mlp": 24,
        "d_vocab": n_vocab,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
    }


def write_lens_folder(folder: Path, as_hooked_transformer: bool) -> tuple[Path, TransformerBridge]:
    tokenizer = make_tokenizer()
    values = lens_config(len(tokenizer))
    native = TransformerBridgeConfig(**values, seed=0, architecture="TransformerLensNative")
    bridge = TransformerBridge.boot_native(native, device="cpu")
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.copy_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    state = bridge.state_dict()
    folder.mkdir(exist_ok=True)
    tokenizer.save_pretrained(folder)
    state = hooked_transformer_state(state) if as_hooked_transformer else state
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values | {"dtype": "torch.float32", "device": "cuda", "seed": 3}))
    return folder, bridge.eval()


def hooked_transformer_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names and shapes of the old class, by hand."""
    old = {
        "embed.W_E": state["embed.weight"],
        "pos_embed.W_pos": state["pos_embed.weight"],
        "unembed.W_U": state["unembed.weight"].T,
        "unembed.b_U": state["unembed.bias"],
        "ln_final.w": state["ln_final.weight"],
        "ln_final.b": state["ln_final.bias"],
    }
    for layer in range(N_LAYER):
        here = f"blocks.{layer}"
        for part in ("q", "k", "v"):
            weight, bias = state[f"{here}.attn.{part}.weight"], state[f"{here}.attn.{part}.bias"]
            old[f"{here}.attn.W_{part.upper()}"] = weight.T.reshape(D_MODEL, 2, 8).transpose(0, 1)
            old[f"{here}.attn.b_{part.upper()}"] = bias.reshape(2, 8)
        old[f"{here}.attn.W_O"] = state[f"{here}.attn.o.weight"].T.reshape(2, 8, D_MODEL)
        old[f"{here}.attn.b_O"] = state[f"{here}.attn.o.bias"]
        old[f"{here}.attn.mask"] = torch.ones(N_CTX, N_CTX).tril().bool()
        old[f"{here}.attn.IGNORE"] = torch.tensor(-1e5)
        for part in ("in", "out"):
            old[f"{here}.mlp.W_{part}"] = state[f"{here}.mlp.{part}.weight"].T
            old[f"{here}.mlp.b_{part}"] = state[f"{here}.mlp.{part}.bias"]
        for part in ("ln1", "ln2"):
            old[f"{here}.{part}.w"], old[f"{here}.{part}.b"] = (
                state[f"{here}.{part}.weight"],
                state[f"{here}.{part}.bias"],
            )
    return old


@pytest.mark.parametrize("as_hooked_transformer", [False, True])
def test_transformer_lens_folder(tmp_path: Path, as_hooked_transformer: bool) -> None:
    if as_hooked_transformer and not CONVERTS:
        pytest.skip("needs transformer_lens 4")
    folder, bridge = write_lens_folder(tmp_path, as_hooked_transformer)
    subject = load_model(folder, "cpu")
    hook = "blocks.1.hook_resid_post"
    with torch.no_grad():
        _, cache = bridge.run_with_cache(IDS, names_filter=[hook])
    torch.testing.assert_close(subject.capture(IDS, [hook])[hook], cache[hook], atol=1e-5, rtol=1e-5)
    assert (subject.n_ctx, subject.bos_token_id) == (N_CTX, 0)
    assert subject.output_tokens(torch.eye(24)[:2], "blocks.0.mlp.hook_post") is not None
    redrawn = load_model(folder, "cpu", rerandomise_seed=1)
    assert redrawn.digest != subject.digest


def test_transformer_lens_folder_beyond_half_precision(tmp_path: Path) -> None:
    """Its weights were cast after they were checked."""
    folder, _ = write_lens_folder(tmp_path, as_hooked_transformer=False)
    tensors = load_file(folder / "model.safetensors")
    tensors["blocks.1.mlp.in.weight"][0, 0] = 70_000.0
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UsageError, match="largest of float16"):
        load_model(folder, "cpu", "float16")


def test_transformer_lens_folder_with_other_sizes(tmp_path: Path) -> None:
    folder, _ = write_lens_folder(tmp_path, as_hooked_transformer=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"d_mlp": 32}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_model(folder, "cpu")


def test_transformer_lens_folder_with_a_foreign_tokenizer(tmp_path: Path) -> None:
    """Its tokenizer was loaded outside of all guards: a traceback, or the folder's own code."""
    folder, _ = write_lens_folder(tmp_path, as_hooked_transformer=False)
    auto_map = {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto_map))
    (folder / "evil.py").write_text(f"open({str(folder / 'EXECUTED')!r}, 'w').close()\nclass T: pass\n")
    with contextlib.suppress(UsageError):
        load_model(folder, "cpu")
    assert not (folder / "EXECUTED").exists()
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").write_text("garbage")
    with pytest.raises(UsageError, match=r"the tokenizer of .* cannot be loaded"):
        load_model(folder, "cpu")


@pytest.mark.parametrize(("name", "official"), [("gpt2-small", "gpt2"), ("pythia-70m", "EleutherAI/pythia-70m")])
def test_names_that_transformer_lens_knows(monkeypatch: pytest.MonkeyPatch, name: str, official: str) -> None:
    asked: list[str] = []

    def refuse(source: str, **_: object) -> None:
        asked.append(source)
        raise OSError("no network here")

    loader: Callable[..., None] = refuse
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loader)
    with pytest.raises(UsageError, match="no network here"):
        load_model(name, "cpu")
    assert asked == [official]
