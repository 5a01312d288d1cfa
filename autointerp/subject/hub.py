"""Dictionaries that are elsewhere: a path in a Hugging Face repository, or an id in SAELens' registry.

A name flows in; a local folder or file, or a SAELens object, flows out. Knows no format.
"""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from autointerp.errors import UsageError
from autointerp.subject.loaders.known import has_centred_weights

PREFIX = "hf://"
_REPOSITORY = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)(?:/(.+?))?/?")
_REGISTRY = re.compile(r"([\w.-]+):([^/\\:][^\\:]*)")
WEIGHT_SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")


def is_registry_id(name: str) -> bool:
    """Whether a name looks like `RELEASE:SAE_ID`."""
    return not name.startswith(PREFIX) and _REGISTRY.fullmatch(name) is not None


def is_repository_path(name: str) -> bool:
    """Whether a name that is no local path can be `ORG/REPOSITORY` with a path inside, rather than a misspelt path."""
    if name.startswith(PREFIX):
        return True
    return _REPOSITORY.fullmatch(name) is not None and not Path(name.split("/")[0]).exists()


def localise(name: str | Path) -> Path:
    """The local path itself where it exists or can be nothing else, or what the hub gives for it.

    Raises:
        UsageError: as `fetch_dictionary`.
    """
    path = Path(name).expanduser()
    return fetch_dictionary(str(name)) if not path.exists() and is_repository_path(str(name)) else path


def fetch_dictionary(name: str) -> Path:
    """Download a folder's (or one file's) checkpoint of a repository, or find it in the hub's cache.

    Raises:
        UsageError: no such repository or path, no permission, or no network.
    """
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UsageError(f"{name} is no repository path; write hf://ORG/REPOSITORY/PATH")
    repository, inside = match.group(1), match.group(2) or ""
    try:
        files = _files_of(HfApi().list_repo_files(repository), inside)
        if not files:
            raise UsageError(f"{repository} on the hub has nothing with weights at {inside or 'its top'}")
        local = [Path(hf_hub_download(repository, file)) for file in files]
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(
            f"{name} is no local path, and the hub does not give it ({reason}); give a local folder, or check name, "
            "network and access"
        ) from error
    top = local[0].parents[len(Path(files[0]).parts) - 1]
    return top / inside


def load_registered(name: str) -> tuple[Any, bool]:
    """The SAELens object of `RELEASE:SAE_ID`, and whether its model had centred writing weights.

    Raises:
        UsageError: sae-lens is not installed, or does not give it.
    """
    release, sae_id = name.split(":", 1)
    if importlib.util.find_spec("sae_lens") is None:
        raise UsageError(
            f"{name} looks like a SAELens registry id, but sae-lens is not installed (it needs an environment of its "
            "own with transformer-lens 3.9); install it there, or give a local folder or a Hugging Face repository path"
        )
    library = importlib.import_module("sae_lens")  # takes ten seconds to import and is no dependency
    try:
        sae = library.SAE.from_pretrained(release, sae_id)
    except (ValueError, KeyError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UsageError(f"SAELens does not give {name}: {reason}") from error
    return sae, has_centred_weights(release)


def _files_of(listed: list[str], inside: str) -> list[str]:
    """The files of one checkpoint: a file with the small files beside it, or a folder with its `checkpoints/`."""
    as_file = inside.endswith(WEIGHT_SUFFIXES)
    folder = str(Path(inside).parent) if as_file else inside
    folder = "" if folder == "." else folder.rstrip("/")
    beside = [file for file in listed if _parent(file) == folder]
    small = [file for file in beside if file.endswith((".json", ".yaml"))]
    if as_file:
        return sorted({inside, *small}) if inside in listed else []
    under = f"{folder}/checkpoints".lstrip("/")
    weights = [file for file in listed if file.endswith(WEIGHT_SUFFIXES) and _parent(file) in (folder, under)]
    return sorted({*small, *weights}) if weights else []


def _parent(file: str) -> str:
    parent = str(Path(file).parent)
    return "" if parent == "." else parent
