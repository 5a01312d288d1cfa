"""What a direction at a hook point adds to each output token's logit on the direct path to the unembedding.

A bridge and directions flow in, logit weights flow out. Knows no dictionary.
"""

import re

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

_RESIDUAL = re.compile(r"hook_(pos_)?embed|blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
_WRITTEN = re.compile(r"blocks\.(\d+)\.(mlp|attn)\.(hook_post|hook_z|hook_out)")


TOKENS_AT_ONCE = 2**14
"""Columns of the unembedding in float32 at once: a product in bfloat16 would change which tokens are first."""


def output_weights(
    bridge: TransformerBridge, names: frozenset[str], directions: Float[Tensor, "n width"]
) -> Float[Tensor, "n d_vocab"] | None:
    """Logit weights of directions at the hook point called `names`, or None where they have no direct path.

    The direction is centred where the final norm is a LayerNorm, multiplied by its gain and by the unembedding; the
    norm's division, common to all tokens, is left out. Neurons and attention outputs go through their output matrix
    first and, where the block has one, the gain of the norm behind it.
    """
    residual = _to_residual(bridge, names, directions)
    if residual is None:
        return None
    if not bridge.cfg.uses_rms_norm:
        residual = residual - residual.mean(dim=-1, keepdim=True)
    unembedding: Tensor = bridge.W_U.detach()
    gained = residual * _gain(bridge, bridge.ln_final)
    weights = gained.new_empty(len(gained), unembedding.shape[1])
    for low in range(0, unembedding.shape[1], TOKENS_AT_ONCE):
        part = slice(low, low + TOKENS_AT_ONCE)
        weights[:, part] = gained @ unembedding[:, part].float()
    return weights


def _to_residual(bridge: TransformerBridge, names: frozenset[str], directions: Tensor) -> Tensor | None:
    d_model = bridge.cfg.d_model
    moved = directions.to(bridge.W_U.device, torch.float32)
    if any(_RESIDUAL.fullmatch(name) for name in names):
        return moved if moved.shape[-1] == d_model else None
    written = next((match for match in map(_WRITTEN.fullmatch, names) if match), None)
    if written is None:
        return None
    block = bridge.blocks[int(written.group(1))]
    through_mlp = written.group(2) == "mlp"
    if written.group(3) != "hook_out":
        matrix = getattr(block.mlp, "W_out", None) if through_mlp else block.attn.W_O.flatten(0, 1)
        if matrix is None or matrix.shape[0] != moved.shape[-1]:
            return None
        moved = moved @ matrix.detach().float()
    if moved.shape[-1] != d_model:
        return None
    norm_behind = getattr(block, "ln2_post" if through_mlp else "ln1_post", None)
    return moved if norm_behind is None else moved * _gain(bridge, norm_behind)


def _gain(bridge: TransformerBridge, norm: torch.nn.Module) -> Tensor:
    weight: Tensor = norm.original_component.weight.detach().float()  # type: ignore[union-attr,operator]
    return weight + 1 if bridge.cfg.rmsnorm_uses_offset else weight
