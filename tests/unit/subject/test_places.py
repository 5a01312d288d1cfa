"""What a module of Hugging Face's gives against what is captured at the hook point that its name stands for.

Second route: forward hooks on the plain model, before anything of TransformerLens's touches it.
"""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.dictionaries import load_dictionary
from autointerp.subject.fit import place
from autointerp.subject.loaders.hooks import hook_named, hooks_of_module
from autointerp.subject.model import Subject, load_model
from tests.unit.subject.families import make_any
from tests.unit.subject.tiny import make_tokenizer, random_weights, write_saelens

FAMILIES = (
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "bloom", "opt", "mpt", "falcon", "phi", "phi3",
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo", "olmo2",
    "olmo3", "olmoe", "granite", "granitemoe", "stablelm", "starcoder2", "cohere", "cohere2", "glm4", "exaone4",
    "nemotron", "smollm3", "gpt_oss", "ernie4_5", "apertus", "arcee", "seed_oss",
)  # fmt: skip
BEHIND = ("gemma2", "gemma3_text", "olmo2", "olmo3", "granite", "glm4", "exaone4", "granitemoe", "cohere", "cohere2")
IDS = torch.tensor([[1, 5, 9, 70, 33, 40, 8, 12]])
NAMED = (
    "", "mlp", "ffn", "block_sparse_moe", "attn", "self_attn", "attention", "self_attention", "mlp.act",
    "mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "self_attn.o_proj", "attn.c_proj", "attention.dense",
    "self_attention.dense", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
"""Modules that have their hook points by name alone."""
PLACED = ("input_layernorm", "post_attention_layernorm", "ln_1", "ln_2", "post_self_attn_layernorm", "fc1", "fc2")
"""Modules that only the model itself can place."""


class Family(NamedTuple):
    name: str
    block: str
    """Path of the second block."""
    seen: dict[str, tuple[Tensor, Tensor]]
    """Input and output of every module in it, by path inside it."""
    subject: Subject


def first(value: object) -> Tensor | None:
    tensor = value[0] if isinstance(value, tuple | list) and value else value
    return tensor.detach().clone() if isinstance(tensor, Tensor) else None


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    tokenizer = make_tokenizer()
    model = make_any(str(request.param), len(tokenizer))
    lists = [name for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)]
    block = min((name for name in lists if len(model.get_submodule(name)) == 2), key=len) + ".1"
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for path, module in model.get_submodule(block).named_modules():

        def keep(_: object, args: tuple[object, ...], kwargs: dict[str, object], out: object, path: str = path) -> None:
            before = first(args) if args else first(kwargs.get("hidden_states"))
            after = first(out)
            if before is not None and after is not None:
                seen[path] = before, after

        handles.append(module.register_forward_hook(keep, with_kwargs=True))
    with torch.no_grad():
        model(IDS)
    for handle in handles:
        handle.remove()
    folder = tmp_path_factory.mktemp("places") / str(request.param)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Family(str(request.param), block, seen, load_model(folder, "cpu"))


def captured(subject: Subject, hook_point: str) -> Tensor:
    return subject.capture(IDS, [hook_point])[hook_point]


def agrees(subject: Subject, hook_point: str, tensor: Tensor) -> bool:
    got = captured(subject, hook_point)
    return got.numel() == tensor.numel() and torch.allclose(got.flatten(), tensor.flatten(), atol=1e-4, rtol=1e-4)


def test_modules_known_by_name(family: Family) -> None:
    """sparsify and dictionary_learning read modules; behind post-norms a block's writes are another place."""
    checked = [path for path in NAMED if path in family.seen]
    assert "" in checked
    assert len(checked) > 2 or family.name == "opt"
    for path in checked:
        module = f"{family.block}.{path}".rstrip(".")
        sides = hooks_of_module(module)
        assert sides is not None, module
        for hook_point, tensor in zip(sides, family.seen[path], strict=True):
            assert agrees(family.subject, family.subject.place(hook_point), tensor), (module, hook_point)
        assert hook_named(module) == sides.output


def test_modules_that_the_model_places(family: Family) -> None:
    """`post_attention_layernorm` stands before the MLP in Llama and behind attention in Gemma 2."""
    base = family.block.split(".", 1)[1]
    for path in (*NAMED, *PLACED):
        if path not in family.seen or path.endswith(".act"):
            continue
        for prefix in (family.block, base):
            module = f"{prefix}.{path}".rstrip(".")
            for side, tensor in zip((".input", ".output"), family.seen[path], strict=True):
                found = family.subject.place(hook_named(module + side))
                assert agrees(family.subject, found, tensor), (module, side)


def test_published_names_of_what_a_block_writes(family: Family) -> None:
    """Where a module's output is what the block adds, it keeps the name that published dictionaries have for it."""
    for part, modules in (("mlp", ("mlp",)), ("attn", ("attn", "self_attn", "attention"))):
        module = next((name for name in modules if name in family.seen), None)
        if module is None:
            continue
        added = f"blocks.1.hook_{part}_out"
        found = family.subject.place(f"blocks.1.{part}.hook_out")
        if found != added:
            assert family.name in (*BEHIND, "bloom"), (found, family.name)
            assert not agrees(family.subject, added, family.seen[module][1]), family.name


def test_a_modules_name_is_answered_with_its_hook_points(subject: Subject) -> None:
    """`neurons@model.layers.1.mlp` was answered with the hook points of the embedding."""
    with pytest.raises(UsageError, match=r"near ones are blocks\.1\.mlp\.hook_post, blocks\.1\.mlp\.hook_out"):
        subject.width_at("model.layers.1.mlp")
    with pytest.raises(UsageError, match=r"near ones are blocks\.1\.hook_out, .*blocks\.1\.hook_resid_post"):
        subject.width_at("transformer.h.1")
    with pytest.raises(UsageError, match=r"no hook point 'transformer\.h\.7\.mlp'"):
        subject.place("transformer.h.7.mlp")


def test_a_dictionary_is_put_where_its_modules_are(subject: Subject, tmp_path: Path) -> None:
    """A name that only the model can place is placed; one that it cannot is answered with what to do."""
    for name, place_ in (("transformer.h.1.ln_2", "blocks.1.ln2.hook_out"), ("h.1.mlp", "blocks.1.hook_mlp_out")):
        metadata = {"sae_lens_version": "6.10.0", "hook_name": name}
        dictionary = load_dictionary(write_saelens(tmp_path, random_weights(), metadata=metadata))
        assert place(subject, dictionary).hook_point == place_
    nowhere = load_dictionary(tmp_path, hook_point="transformer.h.1.none")
    with pytest.raises(UsageError, match=r"no hook point 'transformer\.h\.1\.none'.* name the right one as hook_point"):
        place(subject, nowhere)
