"""dictionary_learning's folder: `ae.pt`, usually with `config.json`.

A checkpoint flows in, `SaeParts` flow out. The class comes from the config, else from the tensors' names.
"""

import re

import torch
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.activations import Activation, Gated, JumpRelu, Relu, TopK
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import hook_named, is_module_of_a_block
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights

WEIGHTS = "ae.pt"
CONFIG = "config.json"
CLASSES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
    "GatedAutoEncoder",
)
BATCH_TOPK = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
_SITES = {
    "resid_post": "hook_resid_post",
    "resid_out": "hook_resid_post",
    "mlp_out": "mlp.hook_out",
    "attn_out": "attn.hook_out",
    "attention_out": "attn.hook_out",
}
"""What the library calls a submodule to the hook point of that module's output."""
_PLACE = re.compile(r"(resid_post|resid_out|mlp_out|attn_out|attention_out)_layer_?(\d+)")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether there is an `ae.pt`."""
    return checkpoint.has(WEIGHTS)


def read(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in `ae.pt`; raises UsageError as every reader.

    An `AutoEncoder` is brought to unit decoder norms, as its own library does on loading: activations carry the norm.
    """
    return _read(checkpoint, unit_decoder=True)


def read_as_stored(checkpoint: Checkpoint) -> SaeParts:
    """As `read`, but an `AutoEncoder` keeps the scale it was stored with, as SAELens reads it."""
    return _read(checkpoint, unit_decoder=False)


def never_matches(checkpoint: Checkpoint) -> bool:
    """The same files in another convention: only asked for by name."""
    return False


def _read(checkpoint: Checkpoint, unit_decoder: bool) -> SaeParts:
    weights = checkpoint.weights(WEIGHTS)
    has_config = (checkpoint.folder / CONFIG).is_file()
    config = checkpoint.config(CONFIG) if has_config else CheckpointConfig(checkpoint.path, {})
    trainer = config.section("trainer")
    name = trainer.text("dict_class") or _guess(weights, trainer.text("trainer_class") or "")
    if name not in CLASSES:
        raise UsageError(f"{config.path}: dict_class {name!r} is not supported; supported are {', '.join(CLASSES)}")
    w_enc, b_enc, w_dec, b_dec = _linear(name, weights)
    notes: tuple[str, ...] = ()
    if name == "AutoEncoder" and unit_decoder:
        norm = w_dec.norm(dim=1)
        w_enc, b_enc, w_dec = w_enc * norm, b_enc * norm, w_dec / norm[:, None]
        notes = ("Its activations carry the norms of its decoder directions, as its library has them.",)
    if not trainer.text("dict_class"):
        notes += (f"Its files do not name its class; by its tensors and trainer it is {name}.",)
    if name in BATCH_TOPK and weights.scalar("threshold") < 0:
        notes += ("Its threshold was never set, so every positive pre-activation stays.",)
    return SaeParts(
        W_enc=w_enc,
        b_enc=b_enc,
        W_dec=w_dec,
        b_dec=b_dec,
        activation=_activation(name, trainer, weights, len(w_dec)),
        architecture=name,
        hook_point=_hook_point(checkpoint, trainer, config.section("buffer")),
        subtract_b_dec=name not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        notes=notes,
    )


def _guess(weights: Weights, trainer_class: str) -> str:
    if "TopK" in trainer_class and "encoder.weight" in weights:
        return "BatchTopKSAE" if "Batch" in trainer_class else "AutoEncoderTopK"
    if "group_sizes" in weights:
        return "MatryoshkaBatchTopKSAE"
    if "W_enc" in weights:
        return "JumpReluAutoEncoder"
    if "gate_bias" in weights:
        return "GatedAutoEncoder"
    if "bias" in weights:
        return "AutoEncoder"
    if "decoder.bias" in weights:
        return "AutoEncoderNew"
    raise UsageError(
        f"{weights.path}: top-k and batch top-k dictionaries hold the same tensors, and no config.json says which this "
        "is; put its config.json beside it"
    )


def _linear(name: str, weights: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`W_enc [d_in, d_sae]`, `b_enc`, `W_dec [d_sae, d_in]`, `b_dec`."""
    if name in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        d_sae, d_in = weights.length("b_enc"), weights.length("b_dec")
        w_enc, w_dec = weights.take("W_enc", d_in, d_sae), weights.take("W_dec", d_sae, d_in)
        return w_enc, weights.take("b_enc", d_sae), w_dec, weights.take("b_dec", d_in)
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}.get(
        name, "b_dec"
    )
    gated = name == "GatedAutoEncoder"
    d_in, d_sae = weights.length(bias), weights.length("gate_bias" if gated else "encoder.bias")
    b_enc = torch.zeros(d_sae) if gated else weights.take("encoder.bias", d_sae)
    w_enc = weights.take("encoder.weight", d_sae, d_in).T
    return w_enc, b_enc, weights.take("decoder.weight", d_in, d_sae).T, weights.take(bias, d_in)


def _activation(name: str, trainer: CheckpointConfig, weights: Weights, d_sae: int) -> Activation:
    if name == "AutoEncoderTopK":
        k = int(weights.scalar("k")) if "k" in weights else trainer.whole("k")
        return TopK(min(k, d_sae))
    if name in BATCH_TOPK:
        return JumpRelu(torch.full((d_sae,), weights.scalar("threshold")))
    if name == "JumpReluAutoEncoder":
        return JumpRelu(weights.take("threshold", d_sae))
    if name == "GatedAutoEncoder":
        return Gated(*(weights.take(part, d_sae) for part in ("gate_bias", "r_mag", "mag_bias")))
    return Relu()


def _hook_point(checkpoint: Checkpoint, trainer: CheckpointConfig, buffer: CheckpointConfig) -> str | None:
    """From the submodule's name, else the layer, else the folder's name; None where the input side was read."""
    if buffer.text("io") == "in":
        return None
    submodule = trainer.text("submodule_name") or ""
    if is_module_of_a_block(submodule):
        return hook_named(submodule)
    named = [submodule, *reversed(checkpoint.folder.resolve().parts)]
    match = next((found for found in map(_PLACE.search, named) if found), None)
    if match:
        return f"blocks.{match.group(2)}.{_SITES[match.group(1)]}"
    layer = trainer.get("layer")
    if isinstance(layer, int) and not isinstance(layer, bool):
        return f"blocks.{layer}.hook_resid_post"
    return "hook_embed" if "embed" in checkpoint.folder.resolve().parts else None
