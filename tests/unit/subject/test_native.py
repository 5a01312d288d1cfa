"""Native attention and norms computed once: the same activations by fewer steps, at every hook point."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from autointerp.errors import UsageError
from autointerp.subject.model import Subject, load_model, wrap_model
from autointerp.subject.native import KERNEL, NativeParts
from autointerp.subject.packing import check_packing
from tests.unit.subject.tiny import D_MODEL, N_CTX, N_LAYER, make_family, make_tokenizer

IDS = torch.tensor([[0, 5, 9, 70, 33, 8, 8, 21], [0, 12, 13, 14, 15, 16, 17, 18]])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, -1], [0, 0, 1, 1, 1, 2, 2, 2]])
RESID = "blocks.1.hook_resid_post"
N_VOCAB = len(make_tokenizer()) + 3
SIZES: dict[str, Any] = {
    "vocab_size": N_VOCAB, "hidden_size": D_MODEL, "num_hidden_layers": N_LAYER, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": N_CTX, "initializer_range": 0.3, "bos_token_id": 0,
    "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 1}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: make_family("llama", N_VOCAB),
    "gpt2": lambda: make_family("gpt2", N_VOCAB),
    "gpt-neox": lambda: make_family("gpt-neox", N_VOCAB),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GROUPED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=8)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=5)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**GROUPED, head_dim=8)),
    "gemma-3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=5)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=N_VOCAB, hidden_size=D_MODEL, num_hidden_layers=N_LAYER, num_attention_heads=2, ffn_dim=24,
            max_position_embeddings=N_CTX, word_embed_proj_dim=D_MODEL, init_std=0.3,
        )
    ),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**GROUPED)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**GROUPED)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**GROUPED)),
}  # fmt: skip
PACKS = [name for name in MODELS if name not in ("opt", "mistral", "gemma-3")]
"""Hugging Face adds OPT's mask as it is, true and false; windows are shorter than a row in the others."""


def save(model: PreTrainedModel, folder: Path) -> Path:
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(MODELS[request.param]().eval(), tmp_path_factory.mktemp("native") / str(request.param))


class WrittenOut:
    """The bridge alone, every step of attention written out, nothing of ours between."""

    def __init__(self, folder: Path) -> None:
        self.bridge = TransformerBridge.boot_transformers(str(folder), device="cpu")

    def at(self, name: str, **inputs: Tensor) -> Tensor:
        seen: dict[str, Tensor] = {}

        def keep(activation: Tensor, hook: HookPoint) -> None:
            seen[name] = activation.clone()

        with torch.inference_mode():
            self.bridge.run_with_hooks(IDS, return_type=None, fwd_hooks=[(name, keep)], **inputs)
        return seen[name].flatten(2)


def test_every_hook_point_gives_what_it_gave(folder: Path) -> None:
    """A kernel skips steps: a hook point that it leaves out, or where it has another tensor, must be read as before."""
    subject, before = load_model(folder, "cpu"), WrittenOut(folder)
    read = []
    for name in subject._names:
        try:
            subject.check_hook_point(name)
        except UsageError:
            continue
        torch.testing.assert_close(subject.capture(IDS, [name])[name], before.at(name), atol=2e-5, rtol=1e-4)
        read.append(name)
    native = subject._native.passes(read)[0]
    assert native.is_native, "a family that has the kernel must be read with it"
    assert RESID in native.hook_points


def test_the_same_beside_any_other_hook_point(folder: Path) -> None:
    """A pass killed when one dictionary had its shard goes on with the others: theirs must not change by it."""
    subject = load_model(folder, "cpu")
    names = [RESID, "blocks.0.attn.hook_q", "blocks.1.attn.hook_z", "blocks.0.mlp.hook_out"]
    together = subject.capture(IDS, names)
    for name in names:
        assert torch.equal(together[name], subject.capture(IDS, [name])[name])


def test_documents_of_a_row_stay_apart(folder: Path) -> None:
    """Given a mask of its own the kernel must neither drop it nor take the row for one text."""
    if folder.name not in PACKS:
        pytest.skip("refused by the check, with the kernel and without")
    subject = load_model(folder, "cpu")
    check_packing(subject, [RESID, "blocks.0.attn.hook_z"], N_CTX)
    packed = subject.capture(IDS, [RESID], DOCUMENTS)[RESID]
    alone = subject.capture(IDS[:1, 3:7], [RESID])[RESID]
    torch.testing.assert_close(packed[0, 3:7], alone[0], atol=2e-5, rtol=1e-4)
    assert subject._native.passes([RESID], ("position_ids", "attention_mask"))[0].is_native


def test_logits_with_activations_replaced(folder: Path) -> None:
    """Losses splice into the same passes; half a pass one way and half the other would be another model."""
    subject, before = load_model(folder, "cpu"), WrittenOut(folder)
    new = subject.capture(IDS, ["blocks.0.hook_resid_post"])["blocks.0.hook_resid_post"] * 1.5
    with torch.inference_mode():
        wanted = before.bridge.run_with_hooks(
            IDS, return_type="logits", fwd_hooks=[("blocks.0.hook_resid_post", lambda activation, hook: new)]
        )
    got = subject.logits(IDS, {"blocks.0.hook_resid_post": new})
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(subject.logits(IDS, {}), before.bridge(IDS, return_type="logits"), atol=1e-4, rtol=1e-4)


def subject_of(model: PreTrainedModel, folder: Path) -> Subject:
    return load_model(save(model.eval(), folder), "cpu")


def is_native(subject: Subject) -> bool:
    return subject._native.passes([RESID])[0].is_native


def test_a_soft_cap_stays_written_out(tmp_path: Path) -> None:
    """The kernel has no cap, and small scores in a trial would not show that one is missing."""
    subject = subject_of(make_family("gemma-2", N_VOCAB), tmp_path / "gemma-2")
    assert not is_native(subject)
    capped = subject_of(make_family("llama", N_VOCAB), tmp_path / "llama")
    attention = capped._native._attentions[0].original_component
    attention.attn_logit_softcapping = 50.0
    assert not is_native(Subject("capped", capped._bridge, capped._tokenizer, "none"))


def test_what_is_not_known_stays_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge class that nobody here has looked at may do anything in between."""
    monkeypatch.setattr("autointerp.subject.native.KNOWN", ())
    assert not is_native(subject_of(make_family("llama", N_VOCAB), tmp_path / "llama"))


def test_a_difference_in_the_trial_is_seen(tmp_path: Path) -> None:
    """Processed weights stand in the bridge's own copies: there Hugging Face's modules compute something else."""
    subject = subject_of(make_family("gpt2", N_VOCAB), tmp_path / "gpt2")
    linear = subject._native._attentions[1].q.original_component
    linear.weight = torch.nn.Parameter(2 * linear.weight)
    before = subject._bridge.run_with_cache(IDS)[1][RESID]
    assert torch.equal(subject.capture(IDS, [RESID])[RESID], before)
    assert not is_native(subject)


def test_a_users_own_hook_goes_on_working(tmp_path: Path) -> None:
    """In a notebook the bridge may carry hooks: one on the attention pattern must act, and on a norm's scale too."""
    bridge = TransformerBridge.boot_transformers(
        str(save(make_family("llama", N_VOCAB), tmp_path / "llama")), device="cpu"
    )
    subject = wrap_model(bridge)
    plain = subject.capture(IDS, [RESID])[RESID]
    for name in ("blocks.1.attn.hook_pattern", "blocks.1.ln2.hook_scale"):
        bridge.add_hook(name, lambda value, hook: value * 0.5)
        changed = subject.capture(IDS, [RESID])[RESID]
        bridge.reset_hooks()
        assert not torch.allclose(changed, plain, atol=1e-2), name
    torch.testing.assert_close(subject.capture(IDS, [RESID])[RESID], plain)


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func.name()))
        return func(*args, **(kwargs or {}))


def test_what_nobody_reads_is_not_computed(tmp_path: Path) -> None:
    """The cause of the speed: no scores and pattern, no cache of keys and values, each norm's mean square once."""
    subject = subject_of(make_family("llama", N_VOCAB), tmp_path / "llama")
    subject.capture(IDS, [RESID])
    with Counted() as native:
        subject.capture(IDS, [RESID])
    subject._native._can = False
    with Counted() as written_out:
        subject.capture(IDS, [RESID])

    def times(counted: Counted, *words: str) -> int:
        return sum(any(word in name for word in words) for name in counted.names)

    assert (times(native, "softmax"), times(written_out, "softmax")) == (0, N_LAYER)
    assert times(native, "scaled_dot_product") == N_LAYER
    assert times(native, "aten::rsqrt") == 2 * N_LAYER
    assert times(native, "aten::cat") == times(written_out, "aten::cat")  # no cache in either, rotation in both
    assert len(native.names) < len(written_out.names)


def test_how_attention_is_computed_is_put_back(tmp_path: Path) -> None:
    """A hook point inside attention read after one outside: the kernel of the pass before must be gone."""
    subject = subject_of(make_family("llama", N_VOCAB), tmp_path / "llama")
    config = subject._bridge.original_model.config
    scores = "blocks.1.attn.hook_rot_q"
    subject.capture(IDS, [RESID])
    assert config._attn_implementation == KERNEL
    assert subject.capture(IDS, [scores])[scores].isfinite().all()
    assert config._attn_implementation == "eager"
    parts: NativeParts = subject._native
    assert all("forward" not in attention.__dict__ for attention in parts._attentions)
