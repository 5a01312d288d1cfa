"""Gemma Scope: `params.npz` without any config (1), and `params.safetensors` with `config.json` (2).

A checkpoint flows in, `SaeParts` flow out. Layer and site come from the folder's and the repository's names.
"""

import math
import re

from autointerp.subject.activations import JumpRelu
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import hook_named
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights

NPZ = "params.npz"
SAFETENSORS = "params.safetensors"
CONFIG = "config.json"
_SITE = re.compile(r"gemma-scope-[\w.-]*?-(res|mlp|att|transcoders)(?:-canonical)?$")
_LAYER = re.compile(r"layer_(\d+)")
_HOOKS = {
    "res": ("hook_resid_post", None),
    "mlp": ("hook_mlp_out", None),
    "att": ("attn.hook_z", None),
    "transcoders": ("ln2.hook_normalized", "hook_mlp_out"),
}
"""Site to where it reads and, for transcoders, writes; a transcoder reads the norm's output before its gain."""
_FOLDERS = {
    "resid_post": "hook_resid_post",
    "attn_out": "attn.hook_z",
    "mlp_out": "hook_mlp_out",
    "transcoder": "mlp.hook_in",
}
"""Site in a Gemma Scope 2 folder's name to where it reads."""


def matches(checkpoint: Checkpoint) -> bool:
    """Whether there is a `params.npz`."""
    return checkpoint.has(NPZ)


def read(checkpoint: Checkpoint) -> SaeParts:
    """The JumpReLU dictionary in `params.npz`; raises UsageError as every reader."""
    weights = checkpoint.weights(NPZ)
    parts = checkpoint.folder.resolve().parts
    embedding = "embedding" in parts
    site = next((match.group(1) for match in map(_SITE.search, reversed(parts)) if match), None)
    layer = _layer(parts)
    hook_point: str | None = None
    hook_out: str | None = None
    if embedding:
        hook_point = "hook_embed"
    elif site and layer:
        before, after = _HOOKS[site]
        hook_point = f"blocks.{layer}.{before}"
        hook_out = f"blocks.{layer}.{after}" if after else None
    notes = ("Trained on text that begins with BOS; its activations at BOS itself mean nothing.",)
    return _jumprelu(weights, hook_point, hook_out, math.sqrt(weights.length("b_dec")) if embedding else 1.0, notes)


def matches_2(checkpoint: Checkpoint) -> bool:
    """Whether there is a `params.safetensors`."""
    return checkpoint.has(SAFETENSORS)


def read_2(checkpoint: Checkpoint) -> SaeParts:
    """The JumpReLU dictionary in `params.safetensors`; raises UsageError as every reader."""
    parts = checkpoint.folder.resolve().parts
    config = checkpoint.config(CONFIG) if checkpoint.has(SAFETENSORS, CONFIG) else CheckpointConfig(checkpoint.path, {})
    if config.values and config.text("architecture") != "jump_relu":
        raise config.wrong("architecture", "jump_relu")
    named_in, named_out = config.text("hf_hook_point_in"), config.text("hf_hook_point_out")
    hook_point = hook_named(named_in) if named_in else None
    hook_out = hook_named(named_out) if named_out else None
    site = next((name for part in parts for name in _FOLDERS if part.startswith(name)), None)
    layer = _layer(parts)
    if hook_point is None and site and layer:
        hook_point = f"blocks.{layer}.{_FOLDERS[site]}"
        hook_out = f"blocks.{layer}.hook_mlp_out" if site == "transcoder" else None
    weights = checkpoint.weights(SAFETENSORS)
    notes: tuple[str, ...] = ()
    if not config.values:
        notes = ("It has no config.json; where it reads is taken from its folder's name.",)
    return _jumprelu(weights, hook_point, hook_out, 1.0, notes, transcoder=site == "transcoder")


def _layer(parts: tuple[str, ...]) -> str | None:
    return next((match.group(1) for match in map(_LAYER.search, reversed(parts)) if match), None)


def _jumprelu(
    weights: Weights,
    hook_point: str | None,
    hook_out: str | None,
    input_scale: float,
    notes: tuple[str, ...],
    transcoder: bool = False,
) -> SaeParts:
    d_sae, d_out = weights.length("b_enc"), weights.length("b_dec")
    w_enc = weights.take(weights.first("W_enc", "w_enc"), None, d_sae)
    w_dec = weights.take(weights.first("W_dec", "w_dec"), d_sae, d_out)
    is_transcoder = transcoder or hook_out is not None or len(w_enc) != d_out
    skip = "affine_skip_connection"
    return SaeParts(
        W_enc=w_enc / input_scale,
        b_enc=weights.take("b_enc", d_sae),
        W_dec=w_dec * input_scale,
        b_dec=weights.take("b_dec", d_out),
        activation=JumpRelu(weights.take("threshold", d_sae)),
        architecture="jumprelu_transcoder" if is_transcoder else "jumprelu",
        hook_point=hook_point,
        transcoder=is_transcoder,
        hook_out=hook_out,
        W_skip=weights.take(skip, len(w_enc), d_out).T if skip in weights else None,
        prepend_bos=True,
        notes=notes,
    )
