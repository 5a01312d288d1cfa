"""Neel Nanda's one-layer dictionaries and their hook_z relatives: `X.pt` with `X_cfg.json`.

A checkpoint flows in, `SaeParts` flow out.
"""

from pathlib import Path

from autointerp.subject.activations import Relu
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.config import CheckpointConfig
from autointerp.subject.loaders.hooks import is_heads
from autointerp.subject.loaders.parts import SaeParts
from autointerp.subject.loaders.tensors import TORCH_SUFFIXES

FIRST_RUNS_HOOK = "blocks.0.mlp.hook_post"
"""Where the two original runs read, whose configs have `d_mlp` and `dict_mult` but no name."""


def matches_hook_z(checkpoint: Checkpoint) -> bool:
    """Whether there is a `.pt` with its config, on attention outputs."""
    return matches(checkpoint) and is_heads(_config(checkpoint).text("act_name") or "")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether there is a `.pt` with its config."""
    file = checkpoint.sole(*TORCH_SUFFIXES)
    return file is not None and _config_file(file).is_file()


def read(checkpoint: Checkpoint) -> SaeParts:
    """The dictionary in the file; raises UsageError as every reader."""
    config = _config(checkpoint)
    weights = checkpoint.weights(checkpoint.require(*TORCH_SUFFIXES))
    d_in, d_sae = weights.length("b_dec"), weights.length("b_enc")
    named = config.text("act_name")
    return SaeParts(
        W_enc=weights.take("W_enc", d_in, d_sae),
        b_enc=weights.take("b_enc", d_sae),
        W_dec=weights.take("W_dec", d_sae, d_in),
        b_dec=weights.take("b_dec", d_in),
        activation=Relu(),
        architecture="standard",
        hook_point=FIRST_RUNS_HOOK if named is None and config.get("d_mlp") is not None else named,
        subtract_b_dec=True,
        notes=_notes(named or FIRST_RUNS_HOOK),
    )


def _notes(hook_point: str) -> tuple[str, ...]:
    if hook_point.endswith("mlp.hook_post"):
        return ()
    return (
        "Its training code loaded the model with folded and centred weights; away from mlp.hook_post its inputs may "
        "differ from the model's own by a constant.",
    )


def _config_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}_cfg.json")


def _config(checkpoint: Checkpoint) -> CheckpointConfig:
    return checkpoint.config(_config_file(checkpoint.require(*TORCH_SUFFIXES)).name)
