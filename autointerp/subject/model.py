"""The model under study: loading it, checking hook points, capturing activations there.

A folder or a name flows in, a `Subject` flows out; token ids flow in, activations flow out. Knows no dictionary, corpus
or feature.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from autointerp.errors import UsageError, near_matches
from autointerp.subject.devices import room_for
from autointerp.subject.loaders.hooks import is_hook_name, split_side
from autointerp.subject.model_sources import open_model, open_ready
from autointerp.subject.native import NativeParts
from autointerp.subject.packing import packed_inputs
from autointerp.subject.places import module_sides, names_by_hook, near_places, usual_name
from autointerp.subject.readout import output_weights
from autointerp.subject.vocabulary import HFTokenizer, encode_texts, escaped_vocabulary

UNEMBEDDING = "unembed.hook_in"
"""The hook point of what the unembedding is given."""
_IN_BLOCK = re.compile(r"\b[a-z_]+\.(\d+)\b")


class _Captured(Exception):  # noqa: N818 - a signal, not an error
    """Leaves the forward pass once every wanted activation is there."""


class Subject:
    """A loaded model with its tokenizer. Forward passes take turns: hooks are state on the module."""

    def __init__(self, name: str, bridge: TransformerBridge, tokenizer: HFTokenizer, digest: str) -> None:
        self.name = name
        self.digest = digest
        """Tagged digest of all weights, as loaded."""
        self._n_embedding = int(bridge.W_E.shape[0])
        bos = tokenizer.bos_token_id
        self.bos_token_id = bos if bos is not None and bos < self._n_embedding else None
        """None where the tokenizer has none, or one that the model has no embedding for."""
        self.eos_token = tokenizer.eos_token
        """What TransformerLens puts in the place of a BOS that the tokenizer lacks."""
        self.n_ctx = int(bridge.cfg.n_ctx)
        self.d_vocab = int(bridge.W_U.shape[1])
        parameter = next(bridge.parameters())
        self.device: torch.device = parameter.device
        """Where it runs."""
        self.dtype: torch.dtype = parameter.dtype
        """Of its weights and activations."""
        self._bridge = bridge
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._native = NativeParts(bridge)
        self._names: dict[str, frozenset[str]] = names_by_hook(bridge)
        self._widths: dict[str, int] = {}

    @property
    def centres(self) -> bool:
        """Whether its norms subtract the mean, so that a constant added to the residual stream changes nothing."""
        return not self._bridge.cfg.uses_rms_norm

    @property
    def has_gated_mlps(self) -> bool:
        """Whether its MLPs multiply an activation by a second, signed projection, as SwiGLU does."""
        return bool(getattr(self._bridge.cfg, "gated_mlp", False))

    def vocabulary(self) -> list[str]:
        """Escaped token text by id; length `d_vocab`."""
        return escaped_vocabulary(self._tokenizer, self.d_vocab)

    def encode_text(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens.

        Raises:
            UsageError: a text has a token that the model has no embedding for. Tokens beyond the embeddings that no
                text has, such as those of Gemma 3's images, are no fault.
        """
        encoded = encode_texts(self._tokenizer, texts)
        highest = max((max(ids, default=0) for ids in encoded), default=0)
        if highest >= self._n_embedding:
            raise UsageError(
                f"the tokenizer of {self.name} gives {self._tokenizer.decode([highest])!r} in the text the id "
                f"{highest}, the model has only {self._n_embedding} embeddings; they do not belong together, so save "
                "the model's own tokenizer in its folder"
            )
        return encoded

    def begin_with(self, token: str) -> None:
        """Take this token for BOS: what a dictionary was trained with where the tokenizer names none.

        Raises:
            UsageError: the tokenizer has no such token, or the model no embedding for it.
        """
        found = self._tokenizer.get_vocab().get(token)
        if found is None or found >= self._n_embedding:
            near = near_matches(token, [name for name in self._tokenizer.all_special_tokens if name])
            raise UsageError(f"{self.name} has no token {token!r} to begin with; its special tokens are {near}")
        self.bos_token_id = found

    def check_hook_point(self, name: str) -> None:
        """Nothing, where activations of one width per token can be captured at `name`.

        Raises:
            UsageError: the model has no such hook point, or it gives nothing, or nothing per token.
        """
        self.width_at(name)

    def place(self, name: str) -> str:
        """The hook point that a dictionary's name for it stands for, under its usual name.

        That is the hook point itself, or where a module of the model's own library is read: `model.layers.3.mlp` for
        its output, with `.input` behind it for its input.

        Raises:
            UsageError: the model has neither.
        """
        if not is_hook_name(name):
            module, side = split_side(name)
            sides = module_sides(self._bridge, module)
            name = name if sides is None else getattr(sides, side)
        names = self._names_of(name)
        return usual_name(names) if name.endswith((".attn.hook_out", ".mlp.hook_out")) else name

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
        self,
        token_ids: Int[Tensor, "batch pos"],
        hook_points: Sequence[str],
        documents: Int[Tensor, "batch pos"] | None = None,
    ) -> dict[str, Float[Tensor, "batch pos width"]]:
        """Activations at each hook point, heads flattened; the forward pass stops at the last one.

        Rows are right-padded with any token: attention is causal, so padding changes nothing before it. Where a row
        holds several documents, `documents` numbers them by place; `subject.packing` tells whether the model can.

        Raises:
            UsageError: a hook point does not exist or gives nothing.
        """
        inputs = {} if documents is None else packed_inputs(documents.to(self.device))
        raw = self._run(token_ids.to(self.device), hook_points, inputs)
        return {name: raw[name].flatten(2) for name in hook_points}

    @torch.inference_mode()
    def logits(
        self, token_ids: Int[Tensor, "batch pos"], replaced: Mapping[str, Float[Tensor, "batch pos width"]]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Next-token logits, with the activations at some hook points replaced, heads flattened as `capture` gives.

        Raises:
            UsageError: a hook point does not exist.
        """
        for name in replaced:
            self._names_of(name)
        with self._lock:
            hooks = [(name, _putter(new)) for name, new in replaced.items()]
            tokens = token_ids.to(self.device)
            self._native.prepare_whole(replaced)
            logits: Tensor = self._bridge.run_with_hooks(
                tokens, return_type="logits", fwd_hooks=hooks, **self._native.inputs
            )
        return logits

    @torch.inference_mode()
    def final_states(
        self, token_ids: Int[Tensor, "batch pos"], replaced: Mapping[str, Float[Tensor, "batch pos width"]]
    ) -> Float[Tensor, "batch pos width"]:
        """What the unembedding is given, with activations replaced as in `logits`; `unembed` makes logits of it."""
        hooks = [(name, _putter(new)) for name, new in replaced.items()]
        return self._run(token_ids.to(self.device), [UNEMBEDDING], replaced=hooks)[UNEMBEDDING]

    @torch.inference_mode()
    def unembed(self, states: Float[Tensor, "n width"]) -> Float[Tensor, "n d_vocab"]:
        """The next-token logits of some places' `final_states`, where `unembeds_alone`."""
        logits: Tensor = self._bridge.unembed(states)
        cap = float(getattr(self._bridge.cfg, "output_logits_soft_cap", 0.0) or 0.0)
        return logits if cap <= 0 else cap * torch.tanh(logits / cap)

    @cached_property
    def unembeds_alone(self) -> bool:
        """Whether `unembed` of `final_states` is what the model itself gives; tried on a few tokens."""
        if UNEMBEDDING not in self._names:
            return False
        tokens = torch.arange(4, device=self.device)[None] % self.d_vocab
        own = self.logits(tokens, {})[0].float()
        alone = self.unembed(self.final_states(tokens, {})[0]).float()
        return own.shape == alone.shape and torch.allclose(own, alone, rtol=1e-2, atol=1e-3 * float(own.abs().max()))

    @torch.inference_mode()
    def output_tokens(self, directions: Float[Tensor, "n width"], hook_point: str) -> Float[Tensor, "n d_vocab"] | None:
        """Weights of directions at `hook_point` on the output tokens' logits; None where there is no direct path."""
        return output_weights(self._bridge, self._names_of(hook_point), directions)

    def work_until(self, hook_points: Collection[str] | None) -> float:
        """Weights that a token meets until the last of these hook points, roughly; with None until its logits."""
        blocks = self._bridge.blocks
        n_block = len(blocks)
        a_block = float(sum(p.numel() for p in blocks.parameters())) / max(n_block, 1)
        if hook_points is None:
            return n_block * a_block + int(self._bridge.W_U.numel())
        numbers = [int(found[1]) + 1 if (found := _IN_BLOCK.search(name)) else 1 for name in hook_points]
        return max(numbers, default=n_block) * a_block

    def _names_of(self, hook_point: str) -> frozenset[str]:
        if hook_point not in self._names:
            near = near_places(self._bridge, hook_point, self._names)
            raise UsageError(f"{self.name} has no hook point {hook_point!r}; near ones are {near}")
        return self._names[hook_point]

    def _run(
        self,
        token_ids: Tensor,
        hook_points: Sequence[str],
        inputs: Mapping[str, Tensor] = MappingProxyType({}),
        replaced: Sequence[tuple[str, Callable[..., Tensor]]] = (),
    ) -> dict[str, Tensor]:
        wanted = set(hook_points)
        for name in (*wanted, *(name for name, _ in replaced)):
            self._names_of(name)
        captured: dict[str, Tensor] = {}
        with self._lock:
            for one in self._native.passes(wanted, inputs, [name for name, _ in replaced]):
                self._native.prepare(native=one.is_native)
                captured |= self._capture(token_ids, one.hook_points, inputs, replaced)
        silent = sorted(wanted - set(captured))
        if silent:
            raise UsageError(f"the hook point {silent[0]} of {self.name} gives no activation; choose another")
        return captured

    def _capture(
        self,
        token_ids: Tensor,
        wanted: Collection[str],
        inputs: Mapping[str, Tensor],
        replaced: Sequence[tuple[str, Callable[..., Tensor]]],
    ) -> dict[str, Tensor]:
        """One forward pass, which ends at the last of the wanted hook points."""
        captured: dict[str, Tensor] = {}

        def keeper(name: str) -> Callable[..., None]:
            def keep(activation: Tensor, hook: object) -> None:
                captured[name] = activation
                if len(captured) == len(wanted):
                    raise _Captured

            return keep

        hooks = [*replaced, *((name, keeper(name)) for name in sorted(wanted))]
        with contextlib.suppress(_Captured):
            self._bridge.run_with_hooks(token_ids, return_type=None, fwd_hooks=hooks, **inputs, **self._native.inputs)
        return captured

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
    path_or_name: str | Path,
    device: str = "auto",
    dtype: str = "float32",
    rerandomise_seed: int | None = None,
    bos_token: str | None = None,
) -> Subject:
    """A model from a local folder, without network, or by a name that TransformerLens or the hub knows.

    A folder is Hugging Face's, or holds a TransformerLens config and safetensors; either way with its tokenizer. With
    `rerandomise_seed` its matrices are redrawn from that seed (`subject.rerandomise`). Device `auto` takes
    CUDA where it is there, else the CPU; dtype `auto` is bfloat16 on CUDA where the card has it, else float32. With
    `bos_token` that token is BOS, whatever the tokenizer says.

    Raises:
        UsageError: a file is missing or damaged, weights hold NaN, or the tokenizer lacks `bos_token`.
    """
    with room_for(f"the model {path_or_name}", "take dtype bfloat16 for half of it, or device cpu"):
        bridge, tokenizer, digest = open_model(str(path_or_name), device, dtype, rerandomise_seed)
    subject = Subject(str(path_or_name), bridge, tokenizer, digest)
    if bos_token is not None:
        subject.begin_with(bos_token)
    return subject


def wrap_model(model: torch.nn.Module, tokenizer: HFTokenizer | None = None, name: str = "ready") -> Subject:
    """A subject around a Hugging Face model or a `TransformerBridge` that is already in memory.

    Either is changed in place: a Hugging Face model's blocks are wrapped, and how attention is computed changes with
    what is read. A bridge brings its own tokenizer where none is given.

    Raises:
        UsageError: no tokenizer, or one that does not fit, or NaN in the weights.
    """
    bridge, fitting, digest = open_ready(model, tokenizer, name)
    return Subject(name, bridge, fitting, digest)


def _putter(new: Tensor) -> Callable[..., Tensor]:
    """A hook that puts other activations in the place of the model's."""
    return lambda activation, hook: new.reshape(activation.shape).to(activation.dtype)
