"""Where a model under study comes from: a folder, a name, or an object in memory; always a `TransformerBridge` after.

A path, name or model flows in; a bridge, its tokenizer and the digest of its weights flow out. Knows no hook point.
"""

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformer_lens.model_bridge.sources.native  # noqa: F401 - makes `boot_native` known
from huggingface_hub import constants as hub_constants
from safetensors.torch import load_file
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.supported_models import MODEL_ALIASES
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers.utils import logging as transformers_logging

from autointerp.errors import UsageError
from autointerp.subject.devices import choose_device, choose_dtype
from autointerp.subject.model_files import check_model_folder, find_weights, is_lens_config, read_json
from autointerp.subject.rerandomise import rerandomise
from autointerp.subject.sae import digest_tensors
from autointerp.subject.vocabulary import HFTokenizer

try:
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint
except ImportError:  # before transformer_lens 4
    convert_tl_checkpoint = None

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
NATIVE = "TransformerLensNative"
_NOT_OURS = ("device", "dtype", "seed", "init_weights", "architecture", "n_devices")
"""Keys of a TransformerLens config that say how it was run, not what it is."""


class Opened(NamedTuple):
    """A model ready to run."""

    bridge: TransformerBridge
    tokenizer: HFTokenizer
    digest: str


def open_model(name: str, device: str, dtype: str, rerandomise_seed: int | None) -> Opened:
    """The model in a folder or of a name; raises UsageError as `subject.model.load_model` says."""
    folder = Path(name).expanduser()
    local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    target = choose_device(device)
    number = _pick_dtype(choose_dtype(dtype, target))
    if local:
        check_model_folder(folder)
    with _quiet(), _offline(local):
        if local and is_lens_config(folder):
            return _open_lens_folder(folder, target, number, rerandomise_seed)
        source = str(folder) if local else _official(name)
        model, tokenizer = _load_hf(source, local, number)
        digest = _check_weights(name, model)
        if rerandomise_seed is not None:
            rerandomise(model, rerandomise_seed)
            digest = _check_weights(name, model)
        return Opened(_bridge(name, model.to(target).eval(), tokenizer), tokenizer, digest)


def open_ready(model: torch.nn.Module, tokenizer: HFTokenizer | None, name: str) -> Opened:
    """The model in memory; raises UsageError as `subject.model.wrap_model` says."""
    bridge: Any = model if isinstance(model, TransformerBridge) else None
    fitting = bridge.tokenizer if tokenizer is None and bridge is not None else tokenizer
    if fitting is None:
        raise UsageError(f"the model {name} comes without a tokenizer; pass the one it was trained with")
    if bridge is not None:
        return Opened(bridge, fitting, _check_weights(name, bridge.original_model))
    digest = _check_weights(name, model)
    with _quiet(), _offline(True):
        return Opened(_bridge(name, model.eval(), fitting), fitting, digest)


def _bridge(name: str, model: torch.nn.Module, tokenizer: HFTokenizer) -> TransformerBridge:
    parameter = next(model.parameters())
    try:
        return TransformerBridge.boot_transformers(
            name, hf_model=model, tokenizer=copy.deepcopy(tokenizer), device=parameter.device, dtype=parameter.dtype
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UsageError(f"TransformerLens cannot take the model {name}: {_first_line(error)}") from error


def _load_hf(source: str, local: bool, dtype: torch.dtype) -> tuple[torch.nn.Module, HFTokenizer]:
    with _loading(f"the model {source}"):
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            local_files_only=local,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=False,
        )
    with _loading(f"the tokenizer of {source}"):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise UsageError(f"the model {source} lacks the weights {missing}; get its files again")
    return model, tokenizer


def _open_lens_folder(folder: Path, device: str, dtype: torch.dtype, rerandomise_seed: int | None) -> Opened:
    """A folder with a TransformerLens config: weights are those of a native bridge, or of a HookedTransformer."""
    files = find_weights(folder)
    state = {key: tensor for file in files for key, tensor in load_file(file).items()}
    with _loading(f"the tokenizer of {folder}"):
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, config=PretrainedConfig(), trust_remote_code=False
        )
    with _loading(f"the model {folder}"):
        config = _lens_config(read_json(folder / "config.json"))
        bridge = TransformerBridge.boot_native(config, device="cpu")
        if "embed.W_E" in state:
            state = _from_hooked_transformer(folder, state, config)
        bridge.load_state_dict(state)
    model = bridge.original_model
    digest = _check_weights(str(folder), model)
    if rerandomise_seed is not None:
        rerandomise(model, rerandomise_seed)
        digest = _check_weights(str(folder), model)
    bridge = bridge.to(dtype=dtype)
    _check_finite(str(folder), bridge.original_model)
    return Opened(bridge.to(device=device).eval(), tokenizer, digest)


@contextmanager
def _loading(what: str) -> Iterator[None]:
    """Turns whatever a library says of files that it cannot load into one sentence."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # a foreign folder can make these libraries raise anything
        if "trust_remote_code" in str(error):
            raise UsageError(
                f"{what} wants to run Python code of its own (auto_map in its config), which is never done here; take "
                "a version whose architecture and tokenizer transformers itself knows"
            ) from error
        reason = _first_line(error)
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other shapes than its config.json says; get both again"
        raise UsageError(f"{what} cannot be loaded: {reason}") from error


def _lens_config(values: Mapping[str, Any]) -> TransformerBridgeConfig:
    known = set(TransformerBridgeConfig(d_model=1, d_head=1, n_layers=1, n_ctx=1).to_dict()) - set(_NOT_OURS)
    return TransformerBridgeConfig(**{key: value for key, value in values.items() if key in known}, architecture=NATIVE)


def _from_hooked_transformer(
    folder: Path, state: dict[str, torch.Tensor], config: TransformerBridgeConfig
) -> dict[str, torch.Tensor]:
    if convert_tl_checkpoint is None:
        raise UsageError(f"{folder} holds a HookedTransformer's weights, which need transformer_lens 4 or newer")
    buffers = ("mask", "IGNORE", "rotary_sin", "rotary_cos")
    kept = {key: tensor for key, tensor in state.items() if not key.endswith(buffers)}
    converted: dict[str, torch.Tensor] = convert_tl_checkpoint(kept, config)
    return converted


def _official(name: str) -> str:
    return next((official for official, aliases in MODEL_ALIASES.items() if name in aliases), name)


def _check_finite(name: str, model: torch.nn.Module) -> None:
    """Nothing, where every weight is a finite number.

    Raises:
        UsageError: a tensor holds NaN or infinity, be it that its precision has no such large numbers.
    """
    for key, parameter in model.named_parameters():
        if bool(torch.isfinite(parameter).all()):
            continue
        if parameter.dtype == torch.float16 and not bool(torch.isnan(parameter).any()):
            raise UsageError(
                f"the model {name}: {key} holds values beyond 65,504, the largest of float16; take dtype = "
                '"bfloat16" or "float32" in [harvest]'
            )
        raise UsageError(f"the model {name}: {key} holds NaN or infinite values; get its weights again")


def _check_weights(name: str, model: torch.nn.Module) -> str:
    """The digest of all weights; raises as `_check_finite`."""
    _check_finite(name, model)
    tensors = {key: parameter.detach() for key, parameter in model.named_parameters()}
    return digest_tensors({"class": type(model).__name__}, tensors)


def _pick_dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise UsageError(f"no model dtype {dtype!r}; choose from {', '.join(DTYPES)}, auto")
    return DTYPES[dtype]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars, logs and warnings off the terminal while a model loads."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    lens_log = logging.getLogger("transformer_lens")
    level = lens_log.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    lens_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        lens_log.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """No hub look-ups while a local folder loads."""
    before = os.environ.get("HF_HUB_OFFLINE"), hub_constants.HF_HUB_OFFLINE
    if wanted:
        os.environ["HF_HUB_OFFLINE"], hub_constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        hub_constants.HF_HUB_OFFLINE = before[1]
        if before[0] is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
        else:
            os.environ["HF_HUB_OFFLINE"] = before[0]
