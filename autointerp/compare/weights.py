"""A dictionary's weights, loaded again from where its harvest found them: the one module of comparisons with torch.

A run's configuration and a dictionary's name flow in; arrays, or a sentence why there are none, flow out.
"""

from pathlib import Path

import numpy as np

from autointerp.compare.facts import Known, Weights
from autointerp.config import DictionaryConfig
from autointerp.errors import AutointerpError, UsageError
from autointerp.records import DictionarySpec
from autointerp.settings import NEURON_PREFIXES
from autointerp.subject.dictionaries import Dictionary, load_dictionary
from autointerp.subject.tails import BothTails


def load_weights(asked: DictionaryConfig, spec: DictionarySpec) -> Weights | str:
    """What a harvested dictionary's weights say beyond its harvest, or why they cannot be loaded."""
    if asked.like is not None:
        return "its directions are drawn while harvesting and its encoder is not kept"
    if asked.path.startswith(NEURON_PREFIXES):
        return "the neuron basis has no weights"
    try:
        loaded = load_dictionary(asked.path, hook_point=spec.hook_point, center_input=asked.center_input)
        dictionary: Dictionary = BothTails(loaded) if loaded.signed else loaded
    except AutointerpError as error:
        return f"its weights cannot be loaded any more: {error}"
    if dictionary.weights_digest != spec.weights_digest:
        return f"the weights at {Path(asked.path).name} are not those that were harvested"
    encoder = dictionary.encoder_directions()
    return Weights(None if encoder is None else encoder.float().cpu().numpy(), dictionary.hook_out)


def load_known(path: str, hook_point: str) -> Known:
    """A known dictionary's decoder.

    Raises:
        UsageError: it cannot be loaded, or has no decoder directions.
    """
    decoder = load_dictionary(path, default_hook_point=hook_point).decoder_directions()
    if decoder is None:
        raise UsageError(f"{path} has no decoder directions, so nothing can be found again of it")
    return Known(Path(path).name, np.asarray(decoder.float().cpu().numpy()))
