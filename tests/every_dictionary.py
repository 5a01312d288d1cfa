"""A dictionary of every kind at the small run's model, in files that autointerp reads, and a run's table of them."""

from pathlib import Path
from typing import Any

import torch

from tests.small_run import D_MODEL, SmallRun, write_saelens, write_topk

RESID = "blocks.1.hook_resid_post"
MLP_IN, MLP_OUT = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
D_SAE = 48


def write_every_dictionary(root: Path, d_in: int = D_MODEL, d_sae: int = D_SAE) -> dict[str, Path]:
    """Folders by name; weights are random, biases such that a few features are active on a token."""
    draw = torch.Generator().manual_seed(3)
    unit = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=draw), dim=1)
    plain = {"W_enc": unit.T, "b_enc": torch.full((d_sae,), -0.1), "W_dec": unit, "b_dec": torch.zeros(d_in)}
    long = {"W_dec": unit * (1 + torch.rand(d_sae, 1, generator=draw))}
    other = {"W_dec": 0.1 * torch.randn(d_sae, d_in, generator=draw), "b_dec": torch.randn(d_in, generator=draw)}
    skip = {"W_skip": 0.1 * torch.randn(d_in, d_in, generator=draw)}
    threshold = {"threshold": 0.1 * torch.rand(d_sae, generator=draw)}
    gates = {"b_gate": plain["b_enc"], "b_mag": torch.zeros(d_sae), "r_mag": torch.zeros(d_sae)}
    gated = {"W_enc": unit.T, "W_dec": unit, "b_dec": plain["b_dec"], **gates}
    out: dict[str, Any] = {
        "metadata": {"hook_name": MLP_IN, "hook_name_out": MLP_OUT, "prepend_bos": True},
        "d_out": d_in,
    }
    write_saelens(root / "relu", plain, "standard", RESID)
    write_topk(root / "topk", d_in, d_sae)
    write_saelens(root / "rescaled", plain | long, "topk", RESID, k=4, rescale_acts_by_decoder_norm=True)
    write_saelens(root / "abstopk", plain, "abstopk", RESID, k=4, rescale_acts_by_decoder_norm=False)
    write_saelens(root / "jump", plain | threshold, "jumprelu", RESID)
    write_saelens(root / "gated", gated, "gated", RESID)
    write_saelens(root / "layernorm", plain, "standard", RESID, normalize_activations="layer_norm")
    write_saelens(root / "constant", plain, "standard", RESID, normalize_activations="constant_norm_rescale")
    pursuit: dict[str, Any] = {"residual_threshold": 0.5, "max_iterations": 5, "stop_on_duplicate_support": True}
    tied = {"W_dec": unit, "b_dec": plain["b_dec"], "W_enc": unit.T}
    write_saelens(root / "pursuit", tied, "matching_pursuit", RESID, **pursuit)
    write_saelens(root / "transcoder", plain | other, "transcoder", **out)
    write_saelens(root / "skip", plain | other | skip, "skip_transcoder", **out)
    write_saelens(root / "jumpskip", plain | other | skip | threshold, "jumprelu_skip_transcoder", **out)
    return {folder.name: folder for folder in sorted(root.iterdir())}


def every_dictionary(small: SmallRun, root: Path) -> list[dict[str, object]]:
    """A run's `[[dictionary]]` tables: every kind of file, neurons, random directions, and a redrawn control."""
    paths = {name: str(path) for name, path in write_every_dictionary(root).items()}
    paths["planted"] = str(small.planted)
    paths |= {"neurons": "neurons@blocks.1.mlp.hook_post", "heads": "neurons@blocks.1.attn.hook_z"}
    paths |= {"tails": f"neurons-both@{RESID}", "random": "random@topk", "randomjump": "random@jumpskip"}
    control: dict[str, object] = {"id": "redrawn", "path": paths["topk"], "role": "control", "rerandomise_seed": 0}
    tables: list[dict[str, object]] = [{"id": name, "path": path} for name, path in paths.items()]
    return [*tables, control]
