"""Step 7: the figures of the stored dictionaries on all of `python-docs`.

In: model, dictionaries and `tokens.npz`. Out: JSON on standard output. All means run over tokens that are not
BOS and not padding; losses over those whose next token is in the same document. The dictionary, zero or the
mean activation replaces the hook point at every such token; BOS keeps its own activation.
"""

import argparse
import json
from pathlib import Path

import torch
from activations import capture, load_model, log_probs, next_tokens, residuals
from dictionary import Dictionary, load_dictionary
from kneser_ney import BOS_ID
from prepare_tokens import Tokens, load_pieces
from train_model import pad_documents
from transformers import GPT2LMHeadModel

Figures = dict[str, float]


def mean_activation(model: GPT2LMHeadModel, documents: list[Tokens]) -> torch.Tensor:
    """The mean [d_in] over all tokens."""
    total, count = torch.zeros(model.config.n_embd, dtype=torch.float64), 0
    for x in capture(model, documents):
        total += x.double().sum(0)
        count += len(x)
    return (total / count).float()


class Reconstruction:
    """Sums over tokens that give explained variance, L0 and densities of one dictionary."""

    def __init__(self, made: Dictionary, mean: torch.Tensor) -> None:
        self.made, self.mean = made, mean
        self.fired = torch.zeros(made.w_enc.shape[1], dtype=torch.int64)
        self.tokens, self.error, self.variance = 0, 0.0, 0.0

    def add(self, x: torch.Tensor) -> torch.Tensor:
        """Count the tokens [tok, d_in] in; return their reconstruction."""
        activations = self.made.encode(x)
        reconstructed = self.made.decode(activations)
        self.fired += (activations > 0).sum(0)
        self.tokens += len(x)
        self.error += float((x - reconstructed).double().square().sum())
        self.variance += float((x - self.mean).double().square().sum())
        return reconstructed

    def figures(self) -> Figures:
        densities = self.fired.double() / self.tokens
        return {
            "tokens": self.tokens,
            "explained_variance": 1 - self.error / self.variance,
            "mean_l0": float(densities.sum()),
            "dead_share": float((self.fired == 0).double().mean()),
            "median_density": float(densities.median()),
            "max_density": float(densities.max()),
        }


@torch.inference_mode()
def measure(model: GPT2LMHeadModel, dictionaries: dict[str, Dictionary], documents: list[Tokens]) -> dict[str, Figures]:
    """All figures of dictionaries on one model, in one pass after the pass for the mean."""
    mean = mean_activation(model, documents)
    sums = {name: Reconstruction(made, mean) for name, made in dictionaries.items()}
    losses = dict.fromkeys(["original", "zero", "mean", *dictionaries], 0.0)
    kl = dict.fromkeys(dictionaries, 0.0)
    count = 0
    for ids in pad_documents(documents, 8):
        told, wanted = ids != BOS_ID, next_tokens(ids)[:, None]
        at_hook = residuals(model, ids)
        original = log_probs(model, ids, at_hook)
        count += len(wanted)
        losses["original"] -= float(original.gather(1, wanted).double().sum())
        replaced = {name: one.add(at_hook[told]) for name, one in sums.items()}
        replaced |= {"zero": torch.zeros_like(at_hook[told]), "mean": mean.expand_as(at_hook[told])}
        for name, values in replaced.items():
            spliced_in = at_hook.clone()
            spliced_in[told] = values
            spliced = log_probs(model, ids, spliced_in)
            losses[name] -= float(spliced.gather(1, wanted).double().sum())
            if name in kl:
                kl[name] += float((original.exp() * (original - spliced)).sum(-1).double().sum())
    loss = {name: value / count for name, value in losses.items()}
    return {name: one.figures() | _recovered(loss, name) | {"kl_nats": kl[name] / count} for name, one in sums.items()}


def _recovered(loss: dict[str, float], name: str) -> Figures:
    """Losses in nats a token, and the share of what ablation loses that the dictionary keeps."""
    return {
        "loss_original_nats": loss["original"],
        "loss_spliced_nats": loss[name],
        "loss_zero_nats": loss["zero"],
        "loss_mean_nats": loss["mean"],
        "recovered_against_zero": (loss["zero"] - loss[name]) / (loss["zero"] - loss["original"]),
        "recovered_against_mean": (loss["mean"] - loss[name]) / (loss["mean"] - loss["original"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the demo model")
    parser.add_argument("--dictionaries", type=Path, nargs="+", required=True, help="folders of dictionaries")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder with the output of step 2")
    parser.add_argument("--every", type=int, default=1, help="measure on one document in so many")
    args = parser.parse_args()
    documents = load_pieces(args.work, "all_documents")[:: args.every]
    by_model: dict[int | None, dict[str, Dictionary]] = {}
    for folder in args.dictionaries:
        metadata = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))["metadata"]
        by_model.setdefault(metadata.get("rerandomise_seed"), {})[folder.name] = load_dictionary(folder)
    figures: dict[str, Figures] = {}
    for seed, dictionaries in by_model.items():
        figures |= measure(load_model(args.model, seed), dictionaries, documents)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
