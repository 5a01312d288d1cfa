"""The one table of checkpoint formats: how each is recognised from files alone and read.

A path flows in, the reader's `SaeParts` flow out. A new format is a module here and a line in the table.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autointerp.errors import UsageError
from autointerp.subject.loaders import (
    circuit_tracer,
    dictionary_learning,
    directions,
    gemma_scope,
    keys,
    linear,
    neel,
    openai,
    openmoss,
    saelens,
    sparsify,
)
from autointerp.subject.loaders.checkpoint import Checkpoint
from autointerp.subject.loaders.keys import Keys, check_left
from autointerp.subject.loaders.parts import SaeParts


class Loader(NamedTuple):
    """One checkpoint family."""

    matches: Callable[[Checkpoint], bool]
    """Whether the files look like this format."""
    read: Callable[[Checkpoint], SaeParts]
    keys: Keys = keys.NONE
    """What the reader may leave aside of its files."""


LOADERS: dict[str, Loader] = {
    "saelens": Loader(saelens.matches, saelens.read, keys.SAELENS),
    "saelens-legacy": Loader(saelens.matches_legacy, saelens.read_legacy, keys.SAELENS),
    "sparsify": Loader(sparsify.matches, sparsify.read, keys.SPARSIFY),
    "openmoss-2025": Loader(openmoss.matches_2025, openmoss.read_2025, keys.OPENMOSS),
    "openmoss-2026": Loader(openmoss.matches_2026, openmoss.read_2026, keys.OPENMOSS),
    "llama-scope": Loader(openmoss.matches_2024, openmoss.read_2024, keys.OPENMOSS),
    "dictionary-learning": Loader(dictionary_learning.matches, dictionary_learning.read, keys.LEARNING),
    "dictionary-learning-stored": Loader(
        dictionary_learning.never_matches, dictionary_learning.read_as_stored, keys.LEARNING
    ),
    "gemma-scope": Loader(gemma_scope.matches, gemma_scope.read),
    "gemma-scope-2": Loader(gemma_scope.matches_2, gemma_scope.read_2, keys.GEMMA_SCOPE_2),
    "hook-z": Loader(neel.matches_hook_z, neel.read, keys.NEEL),
    "neel-1l": Loader(neel.matches, neel.read, keys.NEEL),
    "openai": Loader(openai.matches, openai.read, keys.OPENAI),
    "goodfire": Loader(linear.matches_goodfire, linear.read_goodfire),
    "qwen-scope": Loader(linear.matches_qwen_scope, linear.read_qwen_scope),
    "deepseek-r1": Loader(linear.matches_deepseek_r1, linear.read_deepseek_r1),
    "circuit-tracer": Loader(circuit_tracer.matches, circuit_tracer.read, keys.CIRCUIT_TRACER),
    "directions": Loader(directions.matches, directions.read),
}
"""In the order in which formats are tried; several share file names and differ inside."""
MOST_SHOWN, MOST_LOOKED_AT = 4, 64
"""Of the folders inside a folder that is no dictionary itself."""
PICKLES = (".pkl", ".pickle", ".pkl.gz", ".gz")


def find_format(checkpoint: Checkpoint) -> str:
    """The name of the format of a checkpoint.

    Raises:
        UsageError: nothing there, nothing that is known, or a pickle.
    """
    path = checkpoint.path
    if not path.exists():
        raise UsageError(f"{path} does not exist; a dictionary is a folder or file with weights, or neurons@HOOK")
    if path.name.endswith(PICKLES) or checkpoint.sole(".pkl", ".pickle", ".gz"):
        raise UsageError(
            f"{path} is a pickle, and reading one can run any code, so it is refused; convert it with the tool that "
            "wrote it to plain tensors (safetensors)"
        )
    for name, loader in LOADERS.items():
        if loader.matches(checkpoint):
            return name
    inside = _dictionaries_in(path)
    if inside:
        shown = ", ".join(f"{name}/" for name in inside[:MOST_SHOWN]) + (", …" if len(inside) > MOST_SHOWN else "")
        raise UsageError(f"{path} holds dictionaries, {shown}, and is none itself; name one, as {path / inside[0]}")
    raise UsageError(
        f"{path} is no dictionary in a known format ({', '.join(LOADERS)}); give the path of its folder or file, or "
        "its format"
    )


def _dictionaries_in(path: Path) -> list[str]:
    """The folders inside a folder that hold a dictionary, as paths below it; releases are one or two levels deep."""
    if not path.is_dir():
        return []
    below = [sub for sub in sorted(path.glob("*"))[:MOST_LOOKED_AT] if sub.is_dir() and not sub.is_symlink()]
    here = [sub for sub in below if _is_dictionary(sub)]
    if here:
        return [sub.name for sub in here]
    deeper = [inner for sub in below for inner in sorted(sub.glob("*"))[:MOST_LOOKED_AT] if inner.is_dir()]
    found = (sub for sub in deeper if _is_dictionary(sub))
    return [str(sub.relative_to(path)) for sub in islice(found, MOST_SHOWN + 1)]


def _is_dictionary(path: Path) -> bool:
    try:
        return any(loader.matches(Checkpoint(path)) for loader in LOADERS.values())
    except UsageError:
        return False


def read_parts(path: Path, name: str | None) -> tuple[str, SaeParts]:
    """The name of the format and the dictionary at `path`; the format is found out where it is not given."""
    if name is not None and name not in LOADERS:
        raise UsageError(f"no dictionary format {name!r}; choose from {', '.join(LOADERS)}")
    checkpoint = Checkpoint(path)
    found = find_format(checkpoint) if name is None else name
    return found, read_checkpoint(checkpoint, found)


def read_checkpoint(checkpoint: Checkpoint, name: str) -> SaeParts:
    """The dictionary in a checkpoint of a known format, with notes on what of its files is left aside.

    Raises:
        UsageError: as every reader, or a switch that no reader knows is on.
    """
    loader = LOADERS[name]
    parts = loader.read(checkpoint)
    return replace(parts, notes=parts.notes + check_left(checkpoint, loader.keys))
