"""Any set of directions: one safetensors file with one matrix, rows as directions (probes, steering vectors, PCA).

A checkpoint flows in, `SaeParts` flow out. A feature is the positive part of the dot product with its direction.
"""

import torch
from safetensors import safe_open

from autointerp.errors import UsageError
from autointerp.subject.activations import Relu
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.parts import SaeParts

SUFFIX = ".safetensors"


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the one safetensors file holds one tensor."""
    file = checkpoint.sole(SUFFIX)
    return file is not None and len(checkpoint.tensor_names(file)) == 1


def read(checkpoint: Checkpoint) -> SaeParts:
    """The directions in the file; raises UsageError as every reader.

    The file's own metadata may hold `hook_point`, and `tails = both`, which adds every direction's negative as a
    feature of its own.
    """
    file = checkpoint.require(SUFFIX)
    weights = checkpoint.weights(file)
    if len(weights.names) != 1:
        raise UsageError(f"{file} holds {len(weights.names)} tensors; directions are one matrix, a row each")
    matrix = weights.take(weights.names[0], None, None)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    tails = metadata.get("tails", "positive")
    if tails not in ("positive", "both"):
        raise UsageError(f"{file}: tails is {tails!r} in its metadata, expected positive or both")
    if tails == "both":
        matrix = torch.cat([matrix, -matrix])
    return SaeParts(
        W_enc=matrix.T,
        b_enc=torch.zeros(len(matrix)),
        W_dec=matrix,
        b_dec=torch.zeros(matrix.shape[1]),
        activation=Relu(),
        architecture="directions",
        hook_point=metadata.get("hook_point"),
        cannot_decode="a set of directions only encodes; it has no decoder",
        notes=("Directions without a decoder: an activation is the positive part of the dot product.",),
    )
