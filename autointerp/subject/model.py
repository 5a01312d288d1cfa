"""The model under study: loading it, checking hook points, capturing activations there.

A folder or a name flows in, a `Subject` flows out; token ids flow in, activations flow out. Knows no dictionary, corpus
or feature.
"""

import copy
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants as hub_constants
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from autointerp.errors import UsageError, near_matches
from autointerp.subject.model_files import check_model_folder
from autointerp.subject.readout import output_weights
from autointerp.subject.rerandomise import rerandomise
from autointerp.subject.sae import digest_tensors
from autointerp.subject.vocabulary import HFTokenizer, encode_texts, escaped_vocabulary

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class _Captured(Exception):  # noqa: N818 - a signal, not an error
    """Leaves the forward pass once every wanted activation is there."""


class Subject:
    """A loaded model with its tokenizer. Forward passes take turns: hooks are state on the module."""

    def __init__(self, name: str, bridge: TransformerBridge, tokenizer: HFTokenizer, digest: str) -> None:
        self.name = name
        self.digest = digest
        """Tagged digest of all weights, as loaded."""
        self.bos_token_id = tokenizer.bos_token_id
        """None where the tokenizer has none."""
        self.n_ctx = int(bridge.cfg.n_ctx)
        self.d_vocab = int(bridge.W_U.shape[1])
        self._bridge = bridge
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._names: dict[str, frozenset[str]] = _names_by_hook(bridge)
        self._widths: dict[str, int] = {}

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._bridge.W_U.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights and activations."""
        return self._bridge.W_U.dtype  # type: ignore[no-any-return]

    def vocabulary(self) -> list[str]:
        """Escaped token text by id; length `d_vocab`."""
        return escaped_vocabulary(self._tokenizer, self.d_vocab)

    def encode_text(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return encode_texts(self._tokenizer, texts)

    def check_hook_point(self, name: str) -> None:
        """Nothing, where activations of one width per token can be captured at `name`.

        Raises:
            UsageError: the model has no such hook point, or it gives nothing, or nothing per token.
        """
        self.width_at(name)

    def width_at(self, hook_point: str) -> int:
        """Activation width at a hook point, heads flattened; found by running two or three tokens.

        Raises:
            UsageError: as `check_hook_point`.
        """
        if hook_point not in self._widths:
            self._widths[hook_point] = self._probe(hook_point)
        return self._widths[hook_point]

    @torch.inference_mode()
    def capture(
        self, token_ids: Int[Tensor, "batch pos"], hook_points: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch pos width"]]:
        """Activations at each hook point, heads flattened; the forward pass stops at the last one.

        Rows are right-padded with any token: attention is causal, so padding changes nothing before it.

        Raises:
            UsageError: a hook point does not exist or gives nothing.
        """
        raw = self._run(token_ids.to(self.device), hook_points)
        return {name: raw[name].flatten(2) for name in hook_points}

    @torch.inference_mode()
    def output_tokens(self, directions: Float[Tensor, "n width"], hook_point: str) -> Float[Tensor, "n d_vocab"] | None:
        """Weights of directions at `hook_point` on the output tokens' logits; None where there is no direct path."""
        return output_weights(self._bridge, self._names_of(hook_point), directions)

    def _names_of(self, hook_point: str) -> frozenset[str]:
        if hook_point not in self._names:
            near = near_matches(hook_point, self._names)
            raise UsageError(f"{self.name} has no hook point {hook_point!r}; near ones are {near}")
        return self._names[hook_point]

    def _run(self, token_ids: Tensor, hook_points: Sequence[str]) -> dict[str, Tensor]:
        wanted = set(hook_points)
        for name in wanted:
            self._names_of(name)
        captured: dict[str, Tensor] = {}

        def keeper(name: str) -> Callable[..., None]:
            def keep(activation: Tensor, hook: object) -> None:
                captured[name] = activation
                if len(captured) == len(wanted):
                    raise _Captured

            return keep

        with self._lock:
            try:
                hooks = [(name, keeper(name)) for name in sorted(wanted)]
                self._bridge.run_with_hooks(token_ids, return_type=None, fwd_hooks=hooks)
            except _Captured:
                return captured
        silent = sorted(wanted - set(captured))
        raise UsageError(f"the hook point {silent[0]} of {self.name} gives no activation; choose another")

    def _probe(self, hook_point: str) -> int:
        n_head = int(self._bridge.cfg.n_heads)
        shape = (1, 3 if n_head == 2 else 2)
        try:
            with torch.inference_mode():
                tokens = torch.zeros(shape, dtype=torch.long, device=self.device)
                activation = self._run(tokens, [hook_point])[hook_point]
        except ValueError as error:
            raise UsageError(f"the hook point {hook_point} of {self.name} cannot be used: {error}") from error
        if activation.ndim < 3 or activation.shape[:2] != shape or not activation.is_floating_point():
            raise UsageError(
                f"the hook point {hook_point} of {self.name} gives shape {list(activation.shape)} for {shape[1]} "
                "tokens, not one vector per token; choose a residual, MLP or attention-output hook point"
            )
        return activation.shape[2:].numel()


def load_model(
    path_or_name: str | Path, device: str = "auto", dtype: str = "float32", rerandomise_seed: int | None = None
) -> Subject:
    """A model from a local Hugging Face folder, without network, or by a name that TransformerLens knows.

    With `rerandomise_seed` its matrices are redrawn from that seed (`subject.rerandomise`). `auto` takes CUDA where it
    is there, else the CPU.

    Raises:
        UsageError: a file is missing or damaged, weights hold NaN, or the tokenizer does not fit the model.
    """
    name = str(path_or_name)
    folder = Path(path_or_name).expanduser()
    local = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    if local:
        check_model_folder(folder)
    source = str(folder) if local else name
    with _quiet(), _offline(local):
        model, tokenizer = _load_hf(source, local, DTYPES[dtype])
        digest = _check_weights(name, model)
        _check_tokenizer(name, model, tokenizer)
        if rerandomise_seed is not None:
            rerandomise(model, rerandomise_seed)
            digest = _check_weights(name, model)
        model = model.to(_pick_device(device)).eval()
        bridge = TransformerBridge.boot_transformers(
            source, hf_model=model, tokenizer=copy.deepcopy(tokenizer), device=model.device, dtype=DTYPES[dtype]
        )
    return Subject(name, bridge, tokenizer, digest)


def _load_hf(source: str, local: bool, dtype: torch.dtype) -> tuple[torch.nn.Module, HFTokenizer]:
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            source, local_files_only=local, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"the model {source} cannot be loaded: {first_line}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise UsageError(f"the model {source} lacks the weights {missing}; get its files again")
    return model, tokenizer


def _check_weights(name: str, model: torch.nn.Module) -> str:
    """The digest of all weights.

    Raises:
        UsageError: a tensor holds NaN or infinity.
    """
    tensors = {key: parameter.detach() for key, parameter in model.named_parameters()}
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"the model {name}: {key} holds NaN or infinite values; get its weights again")
    return digest_tensors({"class": type(model).__name__}, tensors)


def _check_tokenizer(name: str, model: torch.nn.Module, tokenizer: HFTokenizer) -> None:
    n_embedding = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= n_embedding:
        raise UsageError(
            f"the tokenizer of {name} has token ids up to {highest}, the model only {n_embedding} embeddings; they do "
            "not belong together, so save the model's own tokenizer in its folder"
        )


def _names_by_hook(bridge: TransformerBridge) -> dict[str, frozenset[str]]:
    """Every hook point's name to all names of the same hook point."""
    same: dict[int, set[str]] = {}
    for name, hook in bridge.hook_dict.items():
        same.setdefault(id(hook), set()).add(name)
    return {name: frozenset(same[id(hook)]) for name, hook in bridge.hook_dict.items()}


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"the device {device} is not there; torch sees no CUDA device, so use cpu")
    return device


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
