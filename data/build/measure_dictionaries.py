"""Step 6: the figures of the stored dictionaries on all of `python-docs`.

In: model, dictionaries and `tokens.npz`. Out: JSON on standard output. All means run over tokens that are not
BOS and not padding; losses over those whose next token is in the same document. The dictionary, zero or the
mean activation replaces the hook point at every such token; BOS keeps its own activation.
"""

import argparse
import json
from pathlib import Path

import torch
from activations import capture, load_model, log_probs, next_tokens
from dictionary import Dictionary, load_dictionary
from prepare_tokens import Tokens, load_pieces
from train_model import pad_documents
from transformers import GPT2LMHeadModel


def measure(model: GPT2LMHeadModel, made: Dictionary, documents: list[Tokens]) -> dict[str, float]:
    """All figures of one dictionary on one model."""
    mean = _mean(model, documents)
    figures = _reconstruction(model, made, documents, mean)
    return figures | _losses(model, made, documents, mean)


def _mean(model: GPT2LMHeadModel, documents: list[Tokens]) -> torch.Tensor:
    total, count = torch.zeros(model.config.n_embd, dtype=torch.float64), 0
    for _, x in capture(model, documents):
        total += x.double().sum(0)
        count += len(x)
    return (total / count).float()


@torch.inference_mode()
def _reconstruction(
    model: GPT2LMHeadModel, made: Dictionary, documents: list[Tokens], mean: torch.Tensor
) -> dict[str, float]:
    fired = torch.zeros(made.w_enc.shape[1], dtype=torch.int64)
    tokens, active, error, variance = 0, 0, 0.0, 0.0
    for _, x in capture(model, documents):
        activations = made.encode(x)
        firing = (activations > 0).sum(0)
        fired += firing
        active += int(firing.sum())
        tokens += len(x)
        error += float((x - made.decode(activations)).double().square().sum())
        variance += float((x - mean).double().square().sum())
    return {
        "tokens": tokens,
        "explained_variance": 1 - error / variance,
        "mean_l0": active / tokens,
        "dead_share": float((fired == 0).double().mean()),
        "median_density": float((fired.double() / tokens).median()),
        "max_density": float((fired.double() / tokens).max()),
    }


@torch.inference_mode()
def _losses(
    model: GPT2LMHeadModel, made: Dictionary, documents: list[Tokens], mean: torch.Tensor
) -> dict[str, float]:
    sums = {"original": 0.0, "spliced": 0.0, "zero": 0.0, "mean": 0.0, "kl": 0.0}
    count = 0
    for ids in pad_documents(documents, 8):
        wanted = next_tokens(ids)[:, None]
        count += len(wanted)
        original = log_probs(model, ids)
        spliced = log_probs(model, ids, lambda x: made.decode(made.encode(x)))
        sums["kl"] += float((original.exp() * (original - spliced)).sum(-1).double().sum())
        sums["original"] -= float(original.gather(1, wanted).double().sum())
        sums["spliced"] -= float(spliced.gather(1, wanted).double().sum())
        del original, spliced
        sums["zero"] -= float(log_probs(model, ids, torch.zeros_like).gather(1, wanted).double().sum())
        sums["mean"] -= float(log_probs(model, ids, mean.expand_as).gather(1, wanted).double().sum())
    loss = {name: value / count for name, value in sums.items()}
    return {
        "loss_original_nats": loss["original"],
        "loss_spliced_nats": loss["spliced"],
        "loss_zero_nats": loss["zero"],
        "loss_mean_nats": loss["mean"],
        "recovered_against_zero": (loss["zero"] - loss["spliced"]) / (loss["zero"] - loss["original"]),
        "recovered_against_mean": (loss["mean"] - loss["spliced"]) / (loss["mean"] - loss["original"]),
        "kl_nats": loss["kl"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the demo model")
    parser.add_argument("--dictionaries", type=Path, nargs="+", required=True, help="folders of dictionaries")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder with the output of step 2")
    parser.add_argument("--every", type=int, default=1, help="measure on one document in so many")
    args = parser.parse_args()
    documents = load_pieces(args.work, "all_documents")[:: args.every]
    figures = {}
    for folder in args.dictionaries:
        metadata = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))["metadata"]
        model = load_model(args.model, metadata.get("rerandomise_seed"))
        figures[folder.name] = measure(model, load_dictionary(folder), documents)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
