"""circuit-tracer's transcoders: one `layer_N.safetensors` a layer, or `W_enc_N` and `W_dec_N` of a cross-layer one.

A checkpoint flows in, `SaeParts` flow out. Hook names come from `config.yaml` beside it, where there is one.
"""

import re
from pathlib import Path

from autointerp.errors import UsageError
from autointerp.subject.activations import Activation, JumpRelu, Relu
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights

SUFFIX = ".safetensors"
CONFIG = "config.yaml"
_FILE = re.compile(r"layer_(\d+)\.safetensors")
_CROSS_LAYER = re.compile(r"W_(?:enc|dec)_(\d+)\.safetensors")
_THRESHOLD = "activation_function.threshold"


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the file is called so and holds an encoder."""
    file = _find(checkpoint)
    return file is not None and any(name.startswith("W_enc") for name in checkpoint.tensor_names(file))


def read(checkpoint: Checkpoint) -> SaeParts:
    """The transcoder in the file; raises UsageError as every reader.

    A cross-layer transcoder writes at every later layer, so it encodes but does not decode; its decoder directions are
    those of its own layer.
    """
    file = _find(checkpoint)
    if file is None:
        raise UsageError(f"{checkpoint.path} is no layer_N.safetensors; give the path of one layer's file")
    match = _FILE.fullmatch(file.name)
    if match:
        return _single_layer(checkpoint, file, match.group(1))
    cross = _CROSS_LAYER.fullmatch(file.name)
    if cross is None:
        raise UsageError(f"{file} is not called layer_N.safetensors, so its layer is unknown; name it so")
    return _cross_layer(checkpoint, file, cross.group(1))


def _find(checkpoint: Checkpoint) -> Path | None:
    file = checkpoint.sole(SUFFIX)
    if file is None and checkpoint.path == checkpoint.folder:
        encoders = list(checkpoint.folder.glob("W_enc_*.safetensors"))
        file = encoders[0] if len(encoders) == 1 else None
    if file is None or not (_FILE.fullmatch(file.name) or _CROSS_LAYER.fullmatch(file.name)):
        return None
    return file


def _single_layer(checkpoint: Checkpoint, file: Path, layer: str) -> SaeParts:
    weights = checkpoint.weights(file)
    d_sae, d_out = weights.length("b_enc"), weights.length("b_dec")
    d_in = weights.take("W_enc", None, None).numel() // d_sae
    hook_point, hook_out = _hooks(checkpoint, layer)
    skip = "W_skip" in weights
    return SaeParts(
        W_enc=weights.take_either_way("W_enc", d_in, d_sae),
        b_enc=weights.take("b_enc", d_sae),
        W_dec=weights.take_either_way("W_dec", d_sae, d_out),
        b_dec=weights.take("b_dec", d_out),
        activation=_activation(weights, _THRESHOLD, d_sae),
        architecture="skip transcoder" if skip else "transcoder",
        hook_point=hook_point,
        transcoder=True,
        hook_out=hook_out,
        W_skip=weights.take("W_skip", d_out, d_in) if skip else None,
    )


def _cross_layer(checkpoint: Checkpoint, file: Path, layer: str) -> SaeParts:
    encoder = checkpoint.weights(file.with_name(f"W_enc_{layer}{SUFFIX}"))
    decoder = checkpoint.weights(file.with_name(f"W_dec_{layer}{SUFFIX}"))
    d_sae, d_model = encoder.length(f"b_enc_{layer}"), encoder.length(f"b_dec_{layer}")
    hook_point, hook_out = _hooks(checkpoint, layer)
    return SaeParts(
        W_enc=encoder.take_either_way(f"W_enc_{layer}", d_model, d_sae),
        b_enc=encoder.take(f"b_enc_{layer}", d_sae),
        W_dec=decoder.take(f"W_dec_{layer}", d_sae, None, d_model)[:, 0],
        b_dec=encoder.take(f"b_dec_{layer}", d_model),
        activation=_activation(encoder, f"threshold_{layer}", d_sae),
        architecture="cross-layer transcoder",
        hook_point=hook_point,
        transcoder=True,
        hook_out=hook_out,
        cannot_decode=(
            "this is one layer of a cross-layer transcoder, whose outputs need the features of every earlier layer, so "
            "it encodes but does not decode"
        ),
        notes=("One layer of a cross-layer transcoder: it encodes, but decoding needs every layer.",),
    )


def _activation(weights: Weights, threshold: str, d_sae: int) -> Activation:
    if threshold not in weights:
        return Relu()
    return JumpRelu(weights.take_spread(threshold, d_sae))


def _hooks(checkpoint: Checkpoint, layer: str) -> tuple[str | None, str | None]:
    """Where it reads and writes, from two plain lines of `config.yaml`; None where it does not say."""
    if not (checkpoint.folder / CONFIG).is_file():
        return None, None
    config = checkpoint.config(CONFIG)
    read, write = (config.text(key) for key in ("feature_input_hook", "feature_output_hook"))
    return f"blocks.{layer}.{read}" if read else None, f"blocks.{layer}.{write}" if write else None
