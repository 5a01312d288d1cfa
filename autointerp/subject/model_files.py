"""A model's folder, checked before anything loads it: config, safetensors and tokenizer.

A path flows in; a `UsageError` that names the missing or damaged file, or nothing, flows out. Knows no library that
loads models.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from autointerp.errors import UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
INDEX = "model.safetensors.index.json"


def check_model_folder(folder: Path) -> None:
    """All that would else fail late, silently, or with another library's traceback.

    Without a tokenizer file `transformers` hands out a one-token tokenizer and every text becomes zeros.

    Raises:
        UsageError: the folder, its config, weights or tokenizer is missing or unreadable.
    """
    if folder.name.endswith(".gguf"):
        raise UsageError(
            f"{folder} is a GGUF file; transformers reads it with from_pretrained(FOLDER, gguf_file=NAME), so save it "
            "with save_pretrained, and its tokenizer likewise, and give that folder"
        )
    if not folder.is_dir():
        raise UsageError(f"the model {folder} is no folder; give a Hugging Face folder or a name TransformerLens knows")
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError(f"the model folder {folder} has no config.json; save the model there with save_pretrained")
    values = read_json(config)
    n_tensors = sum(_count_tensors(file) for file in find_weights(folder))
    _check_depth(config, values, n_tensors)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UsageError(
            f"the model folder {folder} has no tokenizer ({', '.join(TOKENIZER_FILES[:3])}, ...), so text would become "
            "nonsense; save the model's tokenizer there with save_pretrained"
        )


def is_lens_config(folder: Path) -> bool:
    """Whether `config.json` is TransformerLens's own and not Hugging Face's."""
    config = read_json(folder / "config.json")
    return "model_type" not in config and {"n_layers", "d_model", "d_head", "n_ctx"} <= set(config)


def find_weights(folder: Path) -> list[Path]:
    """The safetensors files of a model's folder, in order.

    Raises:
        UsageError: there is none, or one of several is missing.
    """
    index = folder / INDEX
    if index.is_file():
        mapped = read_json(index).get("weight_map")
        if not isinstance(mapped, dict) or not all(isinstance(name, str) for name in mapped.values()):
            raise UsageError(f"{index} does not map tensors to files (weight_map); copy or download it again")
        files = [folder / name for name in sorted(set(mapped.values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UsageError(f"the model folder {folder} lacks {', '.join(missing)}; copy or download them again")
    if not files:
        raise UsageError(
            f"the model folder {folder} has no *.safetensors weights; pickled weights are not read, so save the model "
            "there again with save_pretrained"
        )
    return files


def _check_depth(file: Path, config: dict[str, object], n_tensors: int) -> None:
    """A config with more layers than the weights have tensors takes hours to build and then lacks most of them."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for key, depth in ((key, part.get(key)) for part in parts for key in DEPTH_KEYS):
        if isinstance(depth, int) and not 0 < depth <= n_tensors:
            raise UsageError(
                f"{file} says {key} = {depth:,}, but the weights beside it hold {n_tensors:,} tensors; they do not "
                "belong together, so get the model's files again"
            )


def _count_tensors(file: Path) -> int:
    """Tensors in one safetensors file."""
    try:
        with safe_open(file, framework="pt") as opened:
            return len(opened.keys())
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{file} cannot be read ({error}); it is truncated or no safetensors file, so copy or download it again"
        ) from error


def read_json(file: Path) -> dict[str, object]:
    """The JSON object in a file.

    Raises:
        UsageError: it is unreadable or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read as JSON ({error}); copy or download it again") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no JSON object; copy or download it again")
    return values
