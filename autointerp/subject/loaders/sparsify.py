"""EleutherAI sparsify's folder for one hook point: `cfg.json` and `sae.safetensors`.

A checkpoint flows in, `SaeParts` flow out. The folder is named after a module under the base model.
"""

import torch

from autointerp.subject.activations import AbsTopK, Activation, GroupMax, TopK
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import Sides, hooks_of_module, is_module_of_a_block
from autointerp.subject.loaders.parts import SaeParts

CONFIG = "cfg.json"
WEIGHTS = "sae.safetensors"


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the folder holds the two files."""
    return checkpoint.has(CONFIG, WEIGHTS)


def read(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in a folder; raises UsageError as every reader."""
    config, weights = checkpoint.config(CONFIG), checkpoint.weights(WEIGHTS)
    d_in = config.whole("d_in")
    d_sae = config.whole("num_latents") if config.get("num_latents") else d_in * config.whole("expansion_factor")
    transcoder = config.flag("transcode", default=False)
    hooks = _hooks(checkpoint.folder.resolve().name)
    place = (None, None) if hooks is None else hooks
    skip = config.flag("skip_connection", default=False)
    bias = "encoder.bias"
    return SaeParts(
        W_enc=weights.take("encoder.weight", d_sae, d_in).T,
        b_enc=weights.take(bias, d_sae) if bias in weights else torch.zeros(d_sae),
        W_dec=weights.take("W_dec", d_sae, d_in),
        b_dec=weights.take("b_dec", d_in),
        activation=_activation(config, d_sae),
        architecture=f"{'skip ' if skip else ''}{'transcoder' if transcoder else 'sae'}",
        hook_point=place[0] if transcoder else place[1],
        transcoder=transcoder,
        hook_out=place[1] if transcoder else None,
        W_skip=weights.take("W_skip", d_in, d_in) if skip else None,
        subtract_b_dec=not transcoder,
    )


def _hooks(module: str) -> Sides | None:
    if is_module_of_a_block(module):
        return hooks_of_module(module) or Sides(f"{module}.input", f"{module}.output")
    return hooks_of_module(module)


def _activation(config: CheckpointConfig, d_sae: int) -> Activation:
    k = config.whole("k")
    name = config.text("activation") or "topk"
    if name == "groupmax" and d_sae % k == 0:
        return GroupMax(k)
    if name != "topk":
        raise config.wrong("activation", "topk, or groupmax with groups of equal size")
    return AbsTopK(min(k, d_sae)) if config.flag("signed", default=False) else TopK(min(k, d_sae))
