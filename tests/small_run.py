"""A tiny random GPT-2 folder, text it never saw, and dictionaries whose features are known, for whole runs in seconds.

The model's position table is zero and its embeddings are orthogonal, so at `blocks.0.hook_resid_pre` a planted
feature fires on exactly the tokens it names.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

D_MODEL = 128
CONTEXT = 64
BOS = "<|endoftext|>"
HOOK = "blocks.0.hook_resid_pre"
WORDS = ("import", "lamb", "river", "stone", "cloud", "paper", "glass", "wheel", "night", "honey", "tiger", "piano",
         "candle", "forest", "silver", "window", "garden", "market", "bridge", "engine")  # fmt: skip
N_DOCUMENT = 160
RARE = "zebra"


class PlantedFeature(NamedTuple):
    """What one planted feature does."""

    strengths: Mapping[str, float]
    """Token text to the activation there."""
    bias: float = 0.0
    """Added on every token before the ReLU."""


PLANTED: tuple[PlantedFeature, ...] = (
    *(PlantedFeature({f" {word}": 1.0}) for word in WORDS),
    PlantedFeature({" lamb": 3.0, " river": 1.0}),
    PlantedFeature({}, bias=5.0),
    PlantedFeature({}, bias=-5.0),
    PlantedFeature({f" {RARE}": 2.0}),
)
DENSE, DEAD, RARELY = len(PLANTED) - 3, len(PLANTED) - 2, len(PLANTED) - 1


class SmallRun(NamedTuple):
    """Paths to everything a run takes."""

    model: Path
    corpus: Path
    planted: Path
    topk: Path

    def flags(self, out: Path, *dictionaries: str) -> list[str]:
        """Options of `autointerp run`."""
        specs = dictionaries or (f"planted={self.planted}", f"topk={self.topk}")
        named = [word for spec in specs for word in ("--dictionary", spec)]
        return ["--model", str(self.model), "--corpus", str(self.corpus), *named, "--out", str(out)]


def make_small_run(folder: Path) -> SmallRun:
    """Write model, corpus and dictionaries under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run = SmallRun(folder / "model", folder / "text.jsonl", folder / "planted", folder / "Random TopK")
    texts = make_texts()
    run.corpus.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in texts.items()), encoding="utf-8")
    vectors = write_model(run.model, list(texts.values()))
    write_planted(run.planted, vectors, PLANTED)
    write_topk(run.topk)
    return run


def make_texts(n: int = N_DOCUMENT, seed: int = 0) -> dict[str, str]:
    """Sources of seeded words; the rare word stands in a few of them."""
    rng = np.random.default_rng(seed)
    chance = np.linspace(2, 1, len(WORDS))
    texts = {}
    for i in range(n):
        words = rng.choice(WORDS, 80, p=chance / chance.sum()).tolist()
        if i % 50 == 7:
            words[10] = RARE
        texts[f"page-{i}"] = "A " + " ".join(words) + ".\n"
    return texts


def write_model(folder: Path, texts: Sequence[str], d_model: int = D_MODEL) -> dict[str, torch.Tensor]:
    """A random GPT-2 with orthogonal embeddings; returns the embedding of each token that stands for a known word."""
    words = ByteLevelBPETokenizer()
    shown = [*texts] * 3 + [f" {RARE}"] * 40
    words.train_from_iterator(shown, vocab_size=420, special_tokens=[BOS], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, bos_token=BOS, eos_token=BOS, unk_token=BOS)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=d_model, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    known = {f" {word}": tokenizer.encode(f" {word}") for word in (*WORDS, RARE)}
    assert all(len(ids) == 1 for ids in known.values()), "every planted word is one token"
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        frame = torch.linalg.qr(torch.randn(d_model, d_model))[0]
        model.transformer.wte.weight[:, :] = frame[-1]
        for direction, ids in zip(frame, known.values(), strict=False):
            model.transformer.wte.weight[ids[0]] = direction
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weight = model.transformer.wte.weight.detach()
    return {word: weight[ids[0]].clone() for word, ids in known.items()}


def write_planted(folder: Path, vectors: Mapping[str, torch.Tensor], features: Sequence[PlantedFeature]) -> None:
    """A ReLU dictionary in SAELens' folder format that does what `features` say at `HOOK`."""
    d_in = len(next(iter(vectors.values())))
    encoder = torch.zeros(d_in, len(features))
    for j, feature in enumerate(features):
        for word, strength in feature.strengths.items():
            encoder[:, j] += (strength + 0.5) * vectors[word]
    bias = torch.tensor([f.bias or -0.5 for f in features])
    decoder = torch.nn.functional.normalize(encoder.T + 1e-3 * torch.randn(len(features), d_in), dim=1)
    write_saelens(folder, {"W_enc": encoder, "b_enc": bias, "W_dec": decoder, "b_dec": torch.zeros(d_in)}, "standard")


def write_topk(folder: Path, d_in: int = D_MODEL, d_sae: int = 40, k: int = 4) -> None:
    """A random TopK dictionary in SAELens' folder format at the second block's output."""
    torch.manual_seed(1)
    weight = torch.nn.functional.normalize(torch.randn(d_sae, d_in), dim=1)
    tensors = {"W_enc": weight.T.contiguous(), "b_enc": torch.zeros(d_sae), "W_dec": weight, "b_dec": torch.zeros(d_in)}
    write_saelens(folder, tensors, "topk", hook="blocks.1.hook_resid_post", k=k)


def write_saelens(
    folder: Path, tensors: Mapping[str, torch.Tensor], architecture: str, hook: str = HOOK, **more: object
) -> None:
    """`cfg.json` and `sae_weights.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    d_in, d_sae = tensors["W_enc"].shape
    config = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": False,
        "metadata": {"hook_name": hook, "prepend_bos": True},
        **more,
    }
    (folder / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(whole, folder / "sae_weights.safetensors")
