"""What a dictionary's weights alone say of each feature, computed once with the model at hand.

A subject and a dictionary flow in, `FactsArrays` flow out; everything later reads them without torch. Results are
written into arrays made beforehand: one small array kept of every chunk would hold the chunk's own memory apart.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autointerp.harvest.events import FactsArrays
from autointerp.subject.codes import rows_a_chunk
from autointerp.subject.devices import in_chunks, room_for
from autointerp.subject.dictionaries import Dictionary
from autointerp.subject.model import Subject

N_NEIGHBOUR = 20
N_OUTPUT = 20
CHUNK = 512
"""Features whose output tokens are looked for at once."""
WHAT = "the facts of a dictionary's weights"
ADVICE = "what is finished stays, so free some and start it again, or harvest fewer dictionaries at once"


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
    with room_for(WHAT, ADVICE):
        norm = decoder.norm(dim=1)
        unit = decoder / norm.clamp_min(1e-12)[:, None]
    cosine = empty
    if encoder is not None and encoder.shape == decoder.shape:
        cosine = _cosine(encoder, decoder)
    neighbour, neighbour_cosine = _neighbours(unit)
    return FactsArrays(
        unit.half().cpu().numpy(), norm.float().cpu().numpy(), cosine, neighbour, neighbour_cosine, *top, *bottom
    )


def _cosine(encoder: Float[Tensor, "d_sae d"], decoder: Float[Tensor, "d_sae d"]) -> Float[np.ndarray, " d_sae"]:
    cosine = np.empty(len(decoder), np.float32)

    def compare(part: slice) -> None:
        one = torch.nn.functional.cosine_similarity(encoder[part], decoder[part], dim=1)
        cosine[part] = one.float().cpu().numpy()

    _by_chunks(len(decoder), rows_a_chunk(decoder.shape[1], decoder.device), compare, decoder.device)
    return cosine


def _neighbours(unit: Float[Tensor, "d_sae d_out"]) -> tuple[np.ndarray, np.ndarray]:
    """The features of highest decoder cosine, itself left out, -1 where there are fewer."""
    n = len(unit)
    k = min(N_NEIGHBOUR, n - 1)
    index = np.full((n, N_NEIGHBOUR), -1, np.int32)
    cosine = np.zeros((n, N_NEIGHBOUR), np.float32)

    def look(part: slice) -> None:
        similar = unit[part] @ unit.T
        rows = torch.arange(len(similar), device=unit.device)
        similar[rows, rows + part.start] = -2.0
        best = similar.topk(k, dim=1)
        index[part, :k] = best.indices.cpu().numpy()
        cosine[part, :k] = best.values.float().cpu().numpy()

    _by_chunks(n, rows_a_chunk(n, unit.device), look, unit.device)
    return index, cosine


def _by_chunks(n: int, size: int, work: Callable[[slice], None], device: torch.device) -> None:
    in_chunks(n, size, work, device, WHAT, ADVICE)


Extremes = tuple[np.ndarray, np.ndarray]


def _outputs(subject: Subject, dictionary: Dictionary, decoder: Tensor | None) -> tuple[Extremes, Extremes]:
    """(ids, weights) of the output tokens raised and lowered most, one row a feature."""

    def outputs(part: slice) -> Tensor | None:
        directions = _one_hot(part, dictionary.d_sae) if decoder is None else decoder[part]
        return subject.output_tokens(directions, dictionary.hook_out)

    with room_for(WHAT, ADVICE):
        if outputs(slice(0, 1)) is None:
            return _no_extremes(0, N_OUTPUT), _no_extremes(0, N_OUTPUT)
    k = min(N_OUTPUT, subject.d_vocab)
    top, bottom = _no_extremes(dictionary.d_sae, k), _no_extremes(dictionary.d_sae, k)

    def look(part: slice) -> None:
        logits = outputs(part)
        assert logits is not None
        for (ids, weights), largest in ((top, True), (bottom, False)):
            best = logits.topk(k, dim=1, largest=largest)
            ids[part], weights[part] = best.indices.cpu().numpy(), best.values.float().cpu().numpy()

    _by_chunks(dictionary.d_sae, CHUNK, look, subject.device)
    return top, bottom


def _no_extremes(n: int, k: int) -> Extremes:
    return np.empty((n, k), np.int32), np.empty((n, k), np.float32)


def _one_hot(part: slice, width: int) -> Float[Tensor, "n width"]:
    rows = torch.zeros(part.stop - part.start, width)
    rows[torch.arange(len(rows)), torch.arange(part.start, part.stop)] = 1.0
    return rows
