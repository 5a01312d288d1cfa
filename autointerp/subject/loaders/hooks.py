"""Names of places in a model: from module paths and other libraries' words to hook points.

Text flows in and out. Knows no model; `Subject.place` says what a name is called there, and whether it exists.
"""

import re
from typing import Literal, NamedTuple

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks)\.(\d+)(?:\.(.+))?$")
_EMBEDDINGS = ("embed_tokens", "embed_in", "wte", "word_embeddings")


class Sides(NamedTuple):
    """Hook points of a module's input and output."""

    input: str
    output: str


_ATTENTION = Sides("attn.hook_in", "attn.hook_out")
_MLP = Sides("mlp.hook_in", "mlp.hook_out")
_MODULES: dict[str, Sides] = {
    "": Sides("hook_resid_pre", "hook_resid_post"),
    "mlp": _MLP,
    "ffn": _MLP,
    "feed_forward": _MLP,
    "block_sparse_moe": _MLP,
    "attn": _ATTENTION,
    "self_attn": _ATTENTION,
    "attention": _ATTENTION,
    "self_attention": _ATTENTION,
    "mlp.act": Sides("mlp.hook_pre", "mlp.hook_post"),
    "mlp.down_proj": Sides("mlp.hook_post", "mlp.out.hook_out"),
    "mlp.c_proj": Sides("mlp.hook_post", "mlp.out.hook_out"),
    "mlp.dense_4h_to_h": Sides("mlp.hook_post", "mlp.out.hook_out"),
    "self_attn.o_proj": Sides("attn.hook_z", "attn.o.hook_out"),
    "attn.c_proj": Sides("attn.hook_z", "attn.o.hook_out"),
    "attention.dense": Sides("attn.hook_z", "attn.o.hook_out"),
    "self_attention.dense": Sides("attn.hook_z", "attn.o.hook_out"),
    "pre_feedforward_layernorm": Sides("ln2.hook_in", "mlp.hook_in"),
    "post_feedforward_layernorm": Sides("ln2_post.hook_in", "hook_mlp_out"),
}
"""Modules inside a block that are the same place in every family; others, such as `post_attention_layernorm`, are not.

`hook_mlp_out` and `hook_attn_out` are what a block adds to the residual stream, which Gemma 2, OLMo 2 and others pass
through a norm, and Granite multiplies: not the output of the module called so.
"""


def hooks_of_module(module: str) -> Sides | None:
    """Hook points of the input and the output of a module named by its path, such as `model.layers.3.mlp`."""
    if module.rsplit(".", 1)[-1] in _EMBEDDINGS:
        return Sides("hook_embed", "hook_embed")
    match = _LAYER.search(module)
    if not match or (match.group(2) or "") not in _MODULES:
        return None
    before, after = _MODULES[match.group(2) or ""]
    return Sides(f"blocks.{match.group(1)}.{before}", f"blocks.{match.group(1)}.{after}")


def hook_named(name: str) -> str:
    """The hook point of a name in a checkpoint or from a user.

    A name of TransformerLens stays; a module of Hugging Face's stands for its output, or with `.input` behind it for
    its input. A module that only the model can place keeps its name.
    """
    if is_hook_name(name):
        return name
    module, side = split_side(name)
    sides = hooks_of_module(module)
    return name if sides is None else getattr(sides, side)


def split_side(name: str) -> tuple[str, Literal["input", "output"]]:
    """A module's path and the side that is read, from a path with `.input` or `.output` behind it, or nothing."""
    if name.endswith(".input"):
        return name.removesuffix(".input"), "input"
    return name.removesuffix(".output"), "output"


def is_hook_name(name: str) -> bool:
    """Whether a name is written as TransformerLens writes them."""
    return name.rsplit(".", 1)[-1].startswith("hook_")


def is_module_of_a_block(name: str) -> bool:
    """Whether a name is written as the path of a module in one of a model's blocks."""
    return not is_hook_name(name) and _LAYER.search(name) is not None


def is_residual(hook_point: str) -> bool:
    """Whether what is read there is written to the residual stream, or is the stream itself."""
    return bool(re.search(r"hook_(embed|resid_(pre|mid|post)|attn_out|mlp_out)$|(attn|mlp)\.hook_out$", hook_point))


def is_heads(hook_point: str) -> bool:
    """Whether what is read there has a head axis."""
    return hook_point.endswith("attn.hook_z")
