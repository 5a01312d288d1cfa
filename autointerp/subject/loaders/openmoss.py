"""OpenMOSS's three layouts: Llama Scope (2024), its successor of 2025, and llamascopium (2026).

A checkpoint flows in, `SaeParts` flow out. All folding is in float32: the 2024 files are bfloat16, and folding there
would move activations by a percent.
"""

import math

import torch
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.activations import Activation, JumpRelu, Relu, Rescaled, TopK
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import hook_named
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights
from autointerp.subject.scaling import NO_SCALING, ConstantNormScaling

CONFIG_2024 = "hyperparams.json"
WEIGHTS_2024 = ("checkpoints/final.safetensors", "checkpoints/pruned.safetensors", "sae_weights.safetensors")
CONFIG = "config.json"
WEIGHTS = "sae_weights.safetensors"
_HOOK_KEYS = ("hook_point_in", "hook_point_out")
_NORM = "dataset_average_activation_norm"


def matches_2024(checkpoint: Checkpoint) -> bool:
    """Whether there is a `hyperparams.json` with weights."""
    return any(checkpoint.has(CONFIG_2024, name) for name in WEIGHTS_2024)


def matches_2025(checkpoint: Checkpoint) -> bool:
    """Whether there are `config.json` and weights called `encoder.weight` and so on."""
    return _has(checkpoint, "encoder.weight")


def matches_2026(checkpoint: Checkpoint) -> bool:
    """Whether there are `config.json` and weights called `W_E` and so on."""
    return _has(checkpoint, "W_E")


def read_2024(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary as its authors run it: on raw inputs, with the dataset norms folded in; raises as every reader."""
    config = checkpoint.config(CONFIG_2024)
    weights = checkpoint.weights(next((name for name in WEIGHTS_2024 if checkpoint.has(CONFIG_2024, name)), WEIGHTS))
    if config.flag("use_glu_encoder", default=False):
        raise UsageError(f"{config.path}: use_glu_encoder is not supported in this layout")
    w_enc, b_enc, w_dec, b_dec = _linear(config, weights)
    f_in, f_out = _factors_2024(config)
    b_enc, b_dec, w_dec = b_enc / f_in, b_dec / f_out, w_dec * (f_in / f_out)
    if config.flag("sparsity_include_decoder_norm", default=True):
        norm = w_dec.norm(dim=1)
        w_enc, b_enc, w_dec = w_enc * norm, b_enc * norm, w_dec / norm[:, None]
    return _parts(config, w_enc, b_enc, w_dec, b_dec, _activation_2024(config, len(b_enc)))


def read_2025(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in its own, normalised units; raises as every reader."""
    config, weights = checkpoint.config(CONFIG), checkpoint.weights(WEIGHTS)
    _check_type(config)
    linear = _linear(config, weights)
    glu = None
    if config.flag("use_glu_encoder", default=False):
        d_in, d_sae = linear[0].shape
        glu = weights.take("encoder_glu.weight", d_sae, d_in).T, weights.take("encoder_glu.bias", d_sae)
    return _normalised(config, weights, linear, glu, "log_jumprelu_threshold")


def read_2026(checkpoint: Checkpoint) -> SaeParts:
    """As `read_2025` with other names."""
    config, weights = checkpoint.config(CONFIG), checkpoint.weights(WEIGHTS)
    _check_type(config)
    d_sae = weights.length("b_E")
    w_enc = weights.take("W_E", None, d_sae)
    d_in = len(w_enc)
    b_dec = weights.take("b_D", d_in) if config.flag("use_decoder_bias", default=True) else torch.zeros(d_in)
    linear = w_enc, weights.take("b_E", d_sae), weights.take("W_D", d_sae, d_in), b_dec
    glu = None
    if config.flag("use_glu_encoder", default=False):
        glu = weights.take("W_E_glu", d_in, d_sae), weights.take("b_E_glu", d_sae)
    return _normalised(config, weights, linear, glu, "activation_function.log_jumprelu_threshold")


def _check_type(config: CheckpointConfig) -> None:
    if (config.text("sae_type") or "sae") != "sae":
        raise config.wrong("sae_type", "sae")


def _has(checkpoint: Checkpoint, name: str) -> bool:
    return checkpoint.has(CONFIG, WEIGHTS) and name in checkpoint.tensor_names(checkpoint.folder / WEIGHTS)


def _linear(config: CheckpointConfig, weights: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`W_enc [d_in, d_sae]`, `b_enc`, `W_dec [d_sae, d_out]`, `b_dec`."""
    d_sae, d_in = weights.length("encoder.bias"), config.whole("d_model")
    biased = config.flag("use_decoder_bias", default=True)
    return (
        weights.take("encoder.weight", d_sae, d_in).T,
        weights.take("encoder.bias", d_sae),
        weights.take("decoder.weight", d_in, d_sae).T,
        weights.take("decoder.bias", d_in) if biased else torch.zeros(d_in),
    )


def _factors_2024(config: CheckpointConfig) -> tuple[float, float]:
    if config.text("norm_activation") in ("inference", None):
        return 1.0, 1.0
    if config.text("norm_activation") != "dataset-wise":
        raise config.wrong("norm_activation", "dataset-wise or inference")
    norms, root = config.section(_NORM), math.sqrt(config.whole("d_model"))
    return root / norms.norm("in"), root / norms.norm("out")


def _activation_2024(config: CheckpointConfig, d_sae: int) -> Activation:
    """One threshold for all features; a `topk` with a positive one was turned into it after training."""
    name = (config.text("act_fn") or "relu").lower()
    threshold = 0.0 if config.get("jump_relu_threshold") is None else config.number("jump_relu_threshold")
    if name == "jumprelu" or (name == "topk" and threshold > 0):
        return JumpRelu(torch.full((d_sae,), threshold))
    if name == "topk":
        return TopK(min(config.whole("top_k"), d_sae))
    if name == "relu":
        return Relu()
    raise config.wrong("act_fn", "relu, topk or jumprelu")


def _normalised(
    config: CheckpointConfig,
    weights: Weights,
    linear: tuple[Tensor, Tensor, Tensor, Tensor],
    glu: tuple[Tensor, Tensor] | None,
    threshold: str,
) -> SaeParts:
    w_enc, b_enc, w_dec, b_dec = linear
    gain = w_dec.norm(dim=1) if config.flag("sparsity_include_decoder_norm", default=True) else torch.ones(len(w_dec))
    activation = _activation(config, weights, gain, threshold)
    rule = config.text("norm_activation") or "dataset-wise"
    if rule not in ("dataset-wise", "inference", "token-wise"):
        raise config.wrong("norm_activation", "dataset-wise, token-wise or inference")
    f_in = f_out = 1.0
    if rule == "dataset-wise":
        f_in = math.sqrt(len(w_enc)) / weights.scalar(f"{_NORM}.{config.text('hook_point_in')}")
        f_out = math.sqrt(len(w_enc)) / weights.scalar(f"{_NORM}.{config.text('hook_point_out')}")
    parts = _parts(config, w_enc * f_in, b_enc, w_dec / f_out, b_dec / f_out, activation, rule == "token-wise")
    if glu is None:
        return parts
    return parts.with_glu(glu[0] * f_in, glu[1])


def _activation(config: CheckpointConfig, weights: Weights, gain: Tensor, threshold: str) -> Activation:
    name = (config.text("act_fn") or "relu").lower()
    if name == "jumprelu":
        return JumpRelu(weights.take(threshold, len(gain)).exp() / gain)
    if name == "relu":
        return Relu()
    if name == "topk":
        return Rescaled(TopK(min(config.whole("top_k"), len(gain))), gain)
    raise config.wrong("act_fn", "relu, jumprelu or topk")


def _parts(
    config: CheckpointConfig,
    w_enc: Tensor,
    b_enc: Tensor,
    w_dec: Tensor,
    b_dec: Tensor,
    activation: Activation,
    per_token: bool = False,
) -> SaeParts:
    hook_point, hook_out = (hook_named(name) if name else None for name in map(config.text, _HOOK_KEYS))
    transcoder = hook_out is not None and hook_out != hook_point
    if per_token and transcoder:
        raise UsageError(
            f"{config.path}: a transcoder with norm_activation token-wise cannot be decoded from its input"
        )
    return SaeParts(
        W_enc=w_enc,
        b_enc=b_enc,
        W_dec=w_dec,
        b_dec=b_dec,
        activation=activation,
        architecture=(config.text("act_fn") or "relu").lower(),
        hook_point=hook_point,
        transcoder=transcoder,
        hook_out=hook_out if transcoder else None,
        scaling=ConstantNormScaling() if per_token else NO_SCALING,
        subtract_b_dec=config.flag("apply_decoder_bias_to_pre_encoder", default=False),
    )
