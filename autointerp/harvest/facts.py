"""What a dictionary's weights alone say of each feature, computed once with the model at hand.

A subject and a dictionary flow in, `FactsArrays` flow out; everything later reads them without torch.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.harvest.events import FactsArrays
from autointerp.subject.dictionaries import Dictionary
from autointerp.subject.model import Subject

N_NEIGHBOUR = 20
N_OUTPUT = 20
CHUNK = 512


@torch.inference_mode()
def compute_facts(subject: Subject, dictionary: Dictionary) -> FactsArrays:
    """Decoder directions and norms, encoder/decoder cosines, nearest features, top and bottom output tokens.

    Neighbours are by cosine between decoder directions. Output tokens are the direct path: the direction times the
    final norm's gain (centred where the norm centres) times the unembedding ("logit lens", nostalgebraist 2020). A
    dictionary without a decoder (a neuron basis) has no neighbours; its output tokens come through the layer that
    writes its neurons to the residual stream.
    """
    decoder = dictionary.decoder_directions()
    encoder = dictionary.encoder_directions()
    empty = np.zeros(0, np.float32)
    table = np.zeros((0, N_NEIGHBOUR))
    top, bottom = _outputs(subject, dictionary, decoder)
    if decoder is None:
        return FactsArrays(
            np.zeros((0, 0), np.float16), empty, empty, table.astype(np.int32), table.astype(np.float32), *top, *bottom
        )
    norm = decoder.norm(dim=1)
    unit = decoder / norm.clamp_min(1e-12)[:, None]
    cosine = empty
    if encoder is not None and encoder.shape == decoder.shape:
        cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1).float().cpu().numpy()
    neighbour, neighbour_cosine = _neighbours(unit)
    return FactsArrays(
        unit.half().cpu().numpy(), norm.float().cpu().numpy(), cosine, neighbour, neighbour_cosine, *top, *bottom
    )


def _neighbours(unit: Float[Tensor, "d_sae d_out"]) -> tuple[np.ndarray, np.ndarray]:
    """The features of highest decoder cosine, itself left out, -1 where there are fewer."""
    n = len(unit)
    k = min(N_NEIGHBOUR, n - 1)
    index = np.full((n, N_NEIGHBOUR), -1, np.int32)
    cosine = np.zeros((n, N_NEIGHBOUR), np.float32)
    for low in range(0, n, CHUNK):
        similar = unit[low : low + CHUNK] @ unit.T
        rows = torch.arange(len(similar), device=unit.device)
        similar[rows, rows + low] = -2.0
        best = similar.topk(k, dim=1)
        index[low : low + CHUNK, :k] = best.indices.cpu().numpy()
        cosine[low : low + CHUNK, :k] = best.values.float().cpu().numpy()
    return index, cosine


Extremes = tuple[np.ndarray, np.ndarray]


def _outputs(subject: Subject, dictionary: Dictionary, decoder: Tensor | None) -> tuple[Extremes, Extremes]:
    """(ids, weights) of the output tokens raised and lowered most, one row a feature."""
    tops: list[Extremes] = []
    bottoms: list[Extremes] = []
    for low in range(0, dictionary.d_sae, CHUNK):
        high = min(low + CHUNK, dictionary.d_sae)
        directions = _one_hot(low, high, dictionary.d_sae) if decoder is None else decoder[low:high]
        logits = subject.output_tokens(directions, dictionary.hook_out)
        if logits is None:
            nothing = (np.zeros((0, N_OUTPUT), np.int32), np.zeros((0, N_OUTPUT), np.float32))
            return nothing, nothing
        for extremes, largest in ((tops, True), (bottoms, False)):
            best = logits.topk(min(N_OUTPUT, logits.shape[1]), dim=1, largest=largest)
            extremes.append((best.indices.int().cpu().numpy(), best.values.float().cpu().numpy()))
    return _stack(tops), _stack(bottoms)


def _one_hot(low: int, high: int, width: int) -> Float[Tensor, "n width"]:
    rows = torch.zeros(high - low, width)
    rows[torch.arange(high - low), torch.arange(low, high)] = 1.0
    return rows


def _stack(parts: list[Extremes]) -> Extremes:
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([weights for _, weights in parts])
