"""SAELens' folder, current (6.x) and legacy (1.x to 5.x): `cfg.json` and `sae_weights.safetensors`.

A checkpoint flows in, `SaeParts` flow out. A legacy config is first written as a current one. The formulas are those
that the files stand for, also where SAELens 6 itself reads a legacy file differently (tanh-relu, scaling factors).
"""

import re
from dataclasses import replace

import torch
from torch import Tensor

from autointerp.errors import UsageError
from autointerp.subject.activations import (
    AbsTopK,
    Activation,
    Gated,
    JumpRelu,
    MatchingPursuit,
    Relu,
    TanhRelu,
    TopK,
)
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import hook_named, is_residual
from autointerp.subject.loaders.known import has_centred_weights
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights
from autointerp.subject.scaling import NO_SCALING, ConstantNormScaling, LayerNormScaling, Scaling

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SCALINGS: dict[str, Scaling] = {
    "none": NO_SCALING,
    "layer_norm": LayerNormScaling(),
    "constant_norm_rescale": ConstantNormScaling(),
    "expected_average_only_in": NO_SCALING,
    "covariance_whitening": NO_SCALING,
}
"""The last two are folded into the weights before saving; where they were not, the library runs them as identity."""
BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
ARCHITECTURES = (
    "standard", "jumprelu", "topk", "abstopk", "gated", "matching_pursuit", *BATCH_TOPK, *TRANSCODERS,
)  # fmt: skip


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the folder holds the two files, with a version from 6.0 on, or none and the nested layout of 6.0."""
    return checkpoint.has(CONFIG, WEIGHTS) and _is_current(checkpoint.config(CONFIG))


def matches_legacy(checkpoint: Checkpoint) -> bool:
    """Whether the folder holds the two files."""
    return checkpoint.has(CONFIG, WEIGHTS)


def read(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in a folder of the current layout.

    Raises:
        UsageError: a file, key or tensor is missing, misshapen or NaN, or the architecture is unknown.
    """
    return _read(checkpoint.config(CONFIG), checkpoint.weights(WEIGHTS))


def read_legacy(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in a legacy folder; raises as `read`."""
    config = checkpoint.config(CONFIG)
    parts = _read(_as_current(config), checkpoint.weights(WEIGHTS))
    if config.get("model_from_pretrained_kwargs") is not None or not is_residual(parts.hook_point or ""):
        return parts
    if has_centred_weights(checkpoint.path):
        return parts.centred(True)
    return replace(parts, centring_unsaid=True)


def _is_current(config: CheckpointConfig) -> bool:
    version = config.text("sae_lens_version") or config.section("metadata").text("sae_lens_version")
    if version is None:
        return bool(config.section("metadata").values)
    match = re.match(r"(\d+)\.", version)
    return bool(match) and int(match.group(1)) >= 6  # type: ignore[union-attr]


def _as_current(config: CheckpointConfig) -> CheckpointConfig:
    """A flat config in the current layout's words."""
    values = dict(config.values)
    metadata: dict[str, object] = {
        "hook_name": config.text("hook_name", "hook_point"),
        "hook_head_index": config.get("hook_head_index", "hook_point_head_index"),
        "prepend_bos": config.flag("prepend_bos", default=True),
        "model_from_pretrained_kwargs": config.get("model_from_pretrained_kwargs"),
    }
    normalise = values.get("normalize_activations")
    if isinstance(normalise, bool) or normalise is None:
        values["normalize_activations"] = "expected_average_only_in" if normalise else "none"
    function = config.text("activation_fn_str", "activation_fn") or "relu"
    if function == "topk":
        values["architecture"] = "topk"
        values["k"] = config.section("activation_fn_kwargs").get("k")
    elif function not in ("relu", "tanh-relu"):
        raise config.wrong("activation_fn_str", "relu, tanh-relu or topk")
    values["tanh_relu"] = function == "tanh-relu"
    return CheckpointConfig(config.path, values | {"metadata": metadata}, config.asked)


def _read(config: CheckpointConfig, weights: Weights) -> SaeParts:
    architecture = config.text("architecture") or "standard"
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UsageError(f"{config.path}: architecture {architecture!r} is not supported; supported are {known}")
    metadata = config.section("metadata")
    if metadata.get("hook_head_index") is not None:
        raise UsageError(f"{config.path}: it reads one attention head, which is not supported; use one on all heads")
    d_in, d_sae = config.whole("d_in"), config.whole("d_sae")
    transcoder = architecture in TRANSCODERS
    d_out = config.whole("d_out") if transcoder else d_in
    w_dec, b_dec = weights.take("W_dec", d_sae, d_out), weights.take("b_dec", d_out)
    w_enc, b_enc = _encoder(architecture, weights, w_dec, d_in, d_sae)
    subtract = config.flag("apply_b_dec_to_input", default=True) and not transcoder
    if config.flag("rescale_acts_by_decoder_norm", default=architecture in BATCH_TOPK):
        norm = w_dec.norm(dim=1).clamp_min(1e-8)
        w_enc, b_enc, w_dec = w_enc * norm, b_enc * norm, w_dec / norm[:, None]
    if "scaling_factor" in weights and config.flag("finetuning_scaling_factor", default=False):
        w_dec = w_dec * weights.take("scaling_factor", d_sae)[:, None]
    hook_point, hook_out = metadata.text("hook_name"), metadata.text("hook_name_out")
    hook_point = hook_named(hook_point) if hook_point else None
    scaling, notes = _scaling(config)
    notes += _positions(metadata.get("seqpos_slice") or config.get("seqpos_slice"))
    center = _is_centred(metadata) and is_residual(hook_point or "")
    return SaeParts(
        W_enc=w_enc,
        b_enc=b_enc,
        W_dec=w_dec,
        b_dec=torch.zeros(d_out) if architecture == "matching_pursuit" and not subtract else b_dec,
        activation=_activation(architecture, config, weights, w_dec),
        architecture=architecture,
        hook_point=hook_point,
        transcoder=transcoder,
        hook_out=hook_named(hook_out) if hook_out and transcoder else None,
        W_skip=weights.take("W_skip", d_out, d_in) if "skip" in architecture else None,
        scaling=scaling,
        subtract_b_dec=subtract,
        center_input=center,
        prepend_bos=metadata.flag("prepend_bos", default=True) if "prepend_bos" in metadata.values else None,
        notes=notes,
    )


def _encoder(architecture: str, weights: Weights, w_dec: Tensor, d_in: int, d_sae: int) -> tuple[Tensor, Tensor]:
    if architecture == "matching_pursuit":
        return w_dec.T, torch.zeros(d_sae)
    bias = torch.zeros(d_sae) if architecture == "gated" else weights.take("b_enc", d_sae)
    return weights.take("W_enc", d_in, d_sae), bias


def _activation(architecture: str, config: CheckpointConfig, weights: Weights, w_dec: Tensor) -> Activation:
    d_sae, d_in = len(w_dec), config.whole("d_in")
    if architecture in ("topk", "abstopk"):
        k = min(config.whole("k"), d_sae)
        return TopK(k) if architecture == "topk" else AbsTopK(k)
    if architecture in BATCH_TOPK:
        return JumpRelu(torch.full((d_sae,), weights.scalar("topk_threshold")))
    if architecture.startswith("jumprelu"):
        return JumpRelu(weights.take("threshold", d_sae))
    if architecture == "gated":
        return Gated(*(weights.take(name, d_sae) for name in ("b_gate", "r_mag", "b_mag")))
    if architecture == "matching_pursuit":
        given = config.get("residual_threshold")
        threshold = 0.01 if given is None else config.number("residual_threshold")
        steps = d_in if config.get("max_iterations") is None else config.whole("max_iterations")
        return MatchingPursuit(w_dec, threshold, steps, config.flag("stop_on_duplicate_support", default=True))
    return TanhRelu() if config.flag("tanh_relu", default=False) else Relu()


def _scaling(config: CheckpointConfig) -> tuple[Scaling, tuple[str, ...]]:
    name = config.text("normalize_activations") or "none"
    if name not in SCALINGS:
        raise UsageError(f"{config.path}: normalize_activations {name!r} is not known; known are {', '.join(SCALINGS)}")
    notes: tuple[str, ...] = ()
    if name in ("expected_average_only_in", "covariance_whitening"):
        notes = (
            f"Its inputs were rescaled in training ({name}) by figures that its files lack; it runs unscaled, as "
            "SAELens runs it, which is right only if they were folded into the weights.",
        )
    return SCALINGS[name], notes


def _positions(trained_on: object) -> tuple[str, ...]:
    if not isinstance(trained_on, list) or not any(trained_on):
        return ()
    note = f"It was trained on positions {trained_on} of each context only; elsewhere its activations are guesses."
    return (note,)


def _is_centred(metadata: CheckpointConfig) -> bool:
    return metadata.section("model_from_pretrained_kwargs").flag("center_writing_weights", default=False)
