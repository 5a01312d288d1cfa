"""Redrawing a model's matrices: the control that keeps the sizes of the weights and drops what they learned.

In: a Hugging Face causal language model and a seed. Out: the same model, changed in place. A dictionary trained
on such a model shows how much of a score comes from the architecture and the text alone, after Heap, Lawson,
Farnik and Aitchison, "Sparse Autoencoders Can Interpret Randomly Initialized Transformers" (2025,
arXiv:2501.17727). Knows nothing of dictionaries.
"""

from collections.abc import Iterator

import torch


def rerandomise(model: torch.nn.Module, seed: int) -> None:
    """Redraw every matrix of a causal language model from a normal with that matrix's own mean and sd, in place.

    The idea is Heap et al.'s (2025, arXiv:2501.17727). Kept: input and position embeddings, output embeddings
    tied to the input's, and everything of fewer than two dimensions (biases, gains of norms). The draws come
    from one CPU generator, in the order of the parameters' names, so a seed gives the same model on any device.
    The sd is the population's; mean and sd are taken in double precision. A tied matrix is drawn once.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    kept = {id(parameter) for parameter in _embeddings(model)}
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            if parameter.ndim < 2 or id(parameter) in kept:
                continue
            exact = parameter.detach().to(device="cpu", dtype=torch.float64)
            mean, sd = exact.mean().item(), exact.std(correction=0).item()
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.copy_(drawn.mul_(sd).add_(mean))


def _embeddings(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """The parameters of all embedding tables; an output layer that is not tied to one is not among them."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            yield module.weight
    find_input = getattr(model, "get_input_embeddings", None)
    if callable(find_input):
        table = find_input()
        if isinstance(table, torch.nn.Module):
            yield from table.parameters()
