"""Names of places in a model: from module paths and other libraries' words to hook points.

Text flows in and out. Knows no model; `Subject.check_hook_point` says whether a name exists.
"""

import re

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.(.+))?$")
_EMBEDDINGS = ("embed_tokens", "embed_in", "wte")
_MODULES: dict[str, tuple[str, str]] = {
    "": ("hook_resid_pre", "hook_resid_post"),
    "mlp": ("mlp.hook_in", "hook_mlp_out"),
    "attn": ("attn.hook_in", "hook_attn_out"),
    "self_attn": ("attn.hook_in", "hook_attn_out"),
    "attention": ("attn.hook_in", "hook_attn_out"),
    "mlp.act": ("mlp.hook_pre", "mlp.hook_post"),
}
"""Module inside a block to the hook points of its input and its output."""
_TENSORS: dict[str, str] = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
}


def hooks_of_module(module: str) -> tuple[str, str] | None:
    """Hook points of the input and the output of a module named by its path under the base model."""
    if module.rsplit(".", 1)[-1] in _EMBEDDINGS:
        return "hook_embed", "hook_embed"
    match = _LAYER.search(module)
    if not match or (match.group(2) or "") not in _MODULES:
        return None
    before, after = _MODULES[match.group(2) or ""]
    return f"blocks.{match.group(1)}.{before}", f"blocks.{match.group(1)}.{after}"


def hook_of_tensor(tensor: str | None) -> str | None:
    """The hook point of `model.layers.3.output` and the like, as Gemma Scope 2 names them."""
    match = _LAYER.search(tensor or "")
    name = _TENSORS.get(match.group(2) or "") if match else None
    return f"blocks.{match.group(1)}.{name}" if match and name else None


def is_residual(hook_point: str) -> bool:
    """Whether what is read there is written to the residual stream, or is the stream itself."""
    return bool(re.search(r"hook_(embed|resid_(pre|mid|post)|attn_out|mlp_out)$", hook_point))


def is_heads(hook_point: str) -> bool:
    """Whether what is read there has a head axis."""
    return hook_point.endswith("attn.hook_z")
