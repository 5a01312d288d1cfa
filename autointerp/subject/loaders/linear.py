"""Three bare files with two linear layers: Goodfire, DeepSeek-R1 (qresearch) and Qwen Scope.

A checkpoint flows in, `SaeParts` flow out. None subtracts its decoder bias; the layer comes from the file's name.
"""

import re

from autointerp.errors import UsageError
from autointerp.subject.activations import Relu, TopK
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import TORCH_SUFFIXES

_PLAIN = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
_LAYER_OF_NAME = re.compile(r"(?:^|[-_])l(\d+)(?=[-_.]|$)", re.IGNORECASE)
_QWEN_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_QWEN_K = re.compile(r"-W\d+K-L0_(\d+)")


def matches_goodfire(checkpoint: Checkpoint) -> bool:
    """Whether the one torch file holds `encoder_linear`."""
    file = checkpoint.sole(*TORCH_SUFFIXES)
    return file is not None and "encoder_linear.weight" in checkpoint.tensor_names(file)


def read_goodfire(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in the file; raises UsageError as every reader."""
    return _two_layers(checkpoint, "encoder_linear", "decoder_linear")


def matches_deepseek_r1(checkpoint: Checkpoint) -> bool:
    """Whether the one torch file holds two linear layers with biases and nothing else."""
    file = checkpoint.sole(*TORCH_SUFFIXES)
    return file is not None and set(checkpoint.tensor_names(file)) == _PLAIN


def read_deepseek_r1(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in the file; raises UsageError as every reader."""
    return _two_layers(checkpoint, "encoder", "decoder")


def matches_qwen_scope(checkpoint: Checkpoint) -> bool:
    """Whether the one torch file is called `layerN.sae.pt`."""
    file = checkpoint.sole(*TORCH_SUFFIXES)
    return file is not None and _QWEN_FILE.fullmatch(file.name) is not None


def read_qwen_scope(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in the file, whose k is in its repository's name; raises UsageError as every reader."""
    file = checkpoint.require(*TORCH_SUFFIXES)
    weights = checkpoint.weights(file)
    d_in, d_sae = weights.length("b_dec"), weights.length("b_enc")
    named = next((match for match in map(_QWEN_K.search, reversed(file.resolve().parts)) if match), None)
    if named is None:
        raise UsageError(
            f"{file} does not say how many features it keeps per token; its repository's name does "
            "(...-W32K-L0_50), so put it in a folder of that name"
        )
    layer = _QWEN_FILE.fullmatch(file.name)
    return SaeParts(
        W_enc=weights.take("W_enc", d_sae, d_in).T,
        b_enc=weights.take("b_enc", d_sae),
        W_dec=weights.take("W_dec", d_in, d_sae).T,
        b_dec=weights.take("b_dec", d_in),
        activation=TopK(min(int(named.group(1)), d_sae)),
        architecture="topk",
        hook_point=f"blocks.{layer.group(1)}.hook_resid_post" if layer else None,
    )


def _two_layers(checkpoint: Checkpoint, encoder: str, decoder: str) -> SaeParts:
    file = checkpoint.require(*TORCH_SUFFIXES)
    weights = checkpoint.weights(file)
    d_in, d_sae = weights.length(f"{decoder}.bias"), weights.length(f"{encoder}.bias")
    layer = _LAYER_OF_NAME.search(file.stem)
    return SaeParts(
        W_enc=weights.take(f"{encoder}.weight", d_sae, d_in).T,
        b_enc=weights.take(f"{encoder}.bias", d_sae),
        W_dec=weights.take(f"{decoder}.weight", d_in, d_sae).T,
        b_dec=weights.take(f"{decoder}.bias", d_in),
        activation=Relu(),
        architecture="standard",
        hook_point=f"blocks.{layer.group(1)}.hook_resid_post" if layer else None,
    )
