"""The demo dictionaries as tensors and as folders in SAELens' current format.

In and out: `cfg.json` and `sae_weights.safetensors`, the weights stored in half precision and used in single.
Only the two architectures made here: `topk`, and `standard`, which is a ReLU. SAELens itself is not needed.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file

SAE_LENS_VERSION = "6.54.12"
"""The release whose file format this is; it decides how readers take the fields."""
MODEL_NAME = "autointerp-demo"
HOOK_LAYER = 1
HOOK_NAME = f"blocks.{HOOK_LAYER}.hook_resid_post"


@dataclass
class Dictionary:
    """Encoder and decoder; `z = x - b_dec`, `pre = z @ W_enc + b_enc`, ReLU after the k largest or alone."""

    architecture: Literal["topk", "standard"]
    w_enc: torch.Tensor
    """[d_in, d_sae]"""
    b_enc: torch.Tensor
    w_dec: torch.Tensor
    """[d_sae, d_in]"""
    b_dec: torch.Tensor
    k: int | None = None

    def parameters(self) -> list[torch.Tensor]:
        return [self.w_enc, self.b_enc, self.w_dec, self.b_dec]

    def pre_activations(self, x: torch.Tensor) -> torch.Tensor:
        """Before top-k and ReLU; `b_dec` learns from the decoder alone."""
        return (x - self.b_dec.detach()) @ self.w_enc + self.b_enc

    def activate(self, pre: torch.Tensor) -> torch.Tensor:
        if self.k is None:
            return torch.relu(pre)
        top = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, top.indices, torch.relu(top.values))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Activations [.., d_sae] of inputs [.., d_in]."""
        return self.activate(self.pre_activations(x))

    def decode(self, activations: torch.Tensor) -> torch.Tensor:
        return activations @ self.w_dec + self.b_dec


def make_dictionary(x: torch.Tensor, d_sae: int, k: int | None, seed: int) -> Dictionary:
    """Unit decoder rows in random directions, the encoder their transpose, the decoder's bias the inputs' mean."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(d_sae, x.shape[1], generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    scale = 1.0 if k else 0.3
    made = Dictionary(
        "topk" if k else "standard", rows.T.clone() * scale, torch.zeros(d_sae), rows * scale, x.mean(0), k
    )
    for parameter in made.parameters():
        parameter.requires_grad_()
    return made


@torch.no_grad()
def normalise_decoder(made: Dictionary) -> None:
    """Give decoder rows unit norm; for a ReLU the encoder takes over the norms, so the map stays the same."""
    norms = made.w_dec.norm(dim=1, keepdim=True).clamp_min(1e-8)
    made.w_dec /= norms
    if made.k is None:
        made.w_enc *= norms.T
        made.b_enc *= norms[:, 0]


def save_dictionary(made: Dictionary, folder: Path, context: int, extra: dict[str, object]) -> None:
    """Write the folder; `extra` joins the metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    d_in, d_sae = made.w_enc.shape
    config: dict[str, object] = {
        "architecture": made.architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if made.k is not None:
        config |= {"k": made.k, "rescale_acts_by_decoder_norm": False}
    metadata: dict[str, object] = {
        "sae_lens_version": SAE_LENS_VERSION,
        "sae_lens_training_version": None,
        "model_name": MODEL_NAME,
        "model_class_name": "TransformerBridge",
        "model_from_pretrained_kwargs": {},
        "hook_name": HOOK_NAME,
        "hook_name_out": None,
        "hook_head_index": None,
        "hf_hook_name": None,
        "context_size": context,
        "prepend_bos": True,
        "seqpos_slice": [None],
        "exclude_special_tokens": True,
        "dataset_path": "python-docs",
        "neuronpedia_id": None,
        "training_architecture": made.architecture,
    }
    config["metadata"] = metadata | extra
    tensors = {"W_enc": made.w_enc, "b_enc": made.b_enc, "W_dec": made.w_dec, "b_dec": made.b_dec}
    halves = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(halves, folder / "sae_weights.safetensors")
    os.chmod(folder / "sae_weights.safetensors", 0o644)
    (folder / "cfg.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_dictionary(folder: Path) -> Dictionary:
    """Read a folder that `save_dictionary` wrote, in single precision."""
    config = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "sae_weights.safetensors").items()}
    return Dictionary(
        config["architecture"], tensors["W_enc"], tensors["b_enc"], tensors["W_dec"], tensors["b_dec"], config.get("k")
    )
