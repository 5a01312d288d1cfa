"""What is known of published dictionaries that their own files do not say.

A path or a release's name flows in, a fact flows out. Looks at names only.
"""

from pathlib import Path

_CENTRED = {
    "gpt2-small-res-jb": "GPT2-Small-SAEs-Reformatted",
    "gpt2-small-res-jb-feature-splitting": "GPT2-Small-Feature-Splitting-Experiment-Layer-8",
    "gpt2-small-mlp-tm": "gpt2-small-mlp-out-saes",
}
"""Releases in SAELens' registry, and their repositories, whose model had centred writing weights."""


def has_centred_weights(place: str | Path) -> bool:
    """Whether a release, or the repository that a path lies in, is one of those whose model had centred weights.

    A repository is known by its own name, as a cloned folder or in the hub's cache (`models--ORG--NAME`).
    """
    parts = {part.rsplit("--", 1)[-1] for part in (*Path(place).parts, *Path(place).resolve().parts)}
    return not parts.isdisjoint([*_CENTRED, *_CENTRED.values()])
