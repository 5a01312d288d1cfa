"""SAELens' folder, current layout (6.x): `cfg.json` and `sae_weights.safetensors`.

A folder flows in, an `Sae` flows out. Knows nothing of how SAELens itself is written; the formulas are those its
files stand for.
"""

from pathlib import Path

from autointerp.errors import UsageError
from autointerp.subject.activations import Activation, JumpRelu, Relu, TopK
from autointerp.subject.loaders.config import CheckpointConfig, read_config
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import Weights, read_safetensors
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
"""The last two are folded into the weights before saving; unfolded, the library runs them as identity."""


def matches(path: Path) -> bool:
    """Whether the folder holds these two files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path) -> SaeParts:
    """The dictionary in a folder.

    Raises:
        UsageError: a file or tensor is missing, misshapen or NaN, or the architecture is unknown.
    """
    config = read_config(path / CONFIG)
    weights = read_safetensors(path / WEIGHTS)
    architecture = config.text("architecture") or "standard"
    d_in, d_sae = config.whole("d_in"), config.whole("d_sae")
    w_enc, w_dec = weights.take("W_enc", d_in, d_sae), weights.take("W_dec", d_sae, d_in)
    b_enc = weights.take("b_enc", d_sae)
    if config.flag("rescale_acts_by_decoder_norm", default=False):
        norm = w_dec.norm(dim=1)
        w_enc, b_enc, w_dec = w_enc * norm, b_enc * norm, w_dec / norm[:, None]
    metadata = config.section("metadata")
    return SaeParts(
        W_enc=w_enc,
        b_enc=b_enc,
        W_dec=w_dec,
        b_dec=weights.take("b_dec", d_in),
        activation=_activation(architecture, config, weights, d_sae),
        architecture=architecture,
        hook_point=metadata.text("hook_name"),
        scaling=_scaling(config),
        subtract_b_dec=config.flag("apply_b_dec_to_input", default=True),
        prepend_bos=metadata.flag("prepend_bos", default=True) if metadata.values else None,
    )


def _activation(architecture: str, config: CheckpointConfig, weights: Weights, d_sae: int) -> Activation:
    if architecture == "standard":
        return Relu()
    if architecture == "jumprelu":
        return JumpRelu(weights.take("threshold", d_sae))
    if architecture == "topk":
        return TopK(min(config.whole("k"), d_sae))
    raise UsageError(f"{config.path}: architecture {architecture!r} is not known; known are standard, jumprelu, topk")


def _scaling(config: CheckpointConfig) -> Scaling:
    name = config.text("normalize_activations", default="none") or "none"
    if name not in SCALINGS:
        raise UsageError(f"{config.path}: normalize_activations {name!r} is not known; known are {', '.join(SCALINGS)}")
    return SCALINGS[name]
