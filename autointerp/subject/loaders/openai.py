"""OpenAI's sparse_autoencoder: one `.pt` with `pre_bias` and `latent_bias`.

A checkpoint flows in, `SaeParts` flow out. The file does not say where it reads; the caller must.
"""

from collections.abc import Mapping

from autointerp.errors import UsageError
from autointerp.subject.activations import Activation, Identity, Relu, SignedTopK, TopK
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import TORCH_SUFFIXES, Weights
from autointerp.subject.scaling import NO_SCALING, LayerNormScaling


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the one torch file holds these tensors."""
    file = checkpoint.sole(*TORCH_SUFFIXES)
    return file is not None and {"pre_bias", "latent_bias"} <= set(checkpoint.tensor_names(file))


def read(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in the file; raises UsageError as every reader.

    Inputs are layer-normalised exactly when the activation is TopK.
    """
    weights = checkpoint.weights(checkpoint.require(*TORCH_SUFFIXES))
    d_in, d_sae = weights.length("pre_bias"), weights.length("latent_bias")
    name = weights.others.get("activation", "ReLU")
    return SaeParts(
        W_enc=weights.take("encoder.weight", d_sae, d_in).T,
        b_enc=weights.take("latent_bias", d_sae),
        W_dec=weights.take("decoder.weight", d_in, d_sae).T,
        b_dec=weights.take("pre_bias", d_in),
        activation=_activation(name, weights, d_sae),
        architecture=str(name),
        hook_point=None,
        scaling=LayerNormScaling() if name == "TopK" else NO_SCALING,
        subtract_b_dec=True,
        notes=("Its activations are those of the model as published, without centred writing weights.",),
    )


def _activation(name: object, weights: Weights, d_sae: int) -> Activation:
    if name == "ReLU":
        return Relu()
    if name == "Identity":
        return Identity()
    settings = weights.others.get("activation_state_dict")
    if name != "TopK" or not isinstance(settings, Mapping):
        raise UsageError(f"{weights.path}: activation is {name!r}, expected ReLU, Identity, or TopK with its settings")
    k, after = settings.get("k"), settings.get("postact_fn", "ReLU")
    if not isinstance(k, int) or k < 1 or after not in ("ReLU", "Identity"):
        raise UsageError(f"{weights.path}: TopK with k {k!r} and postact_fn {after!r} is not known")
    return TopK(min(k, d_sae)) if after == "ReLU" else SignedTopK(min(k, d_sae))
