"""Hugging Face's own attention, in one kernel, and its norms inside a bridge, where they give the same.

A bridge flows in; which hook points can be read with native attention flows out, and passes run one way or the other.
`TransformerBridge` writes attention out in many steps, so that every one of them is a hook point, and computes each
norm twice; a pass that reads none of these hook points need not. Knows no token, dictionary or corpus.
"""

import inspect
from collections.abc import Collection, Mapping
from types import MappingProxyType, MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import (
    AttentionBridge,
    JointQKVAttentionBridge,
    JointQKVPositionEmbeddingsAttentionBridge,
    NormalizationBridge,
    PositionEmbeddingsAttentionBridge,
)
from transformers import PretrainedConfig

from autointerp.subject.devices import is_out_of_memory
from autointerp.subject.packing import packed_inputs

KERNEL = "sdpa"
KNOWN = (
    AttentionBridge,
    JointQKVAttentionBridge,
    JointQKVPositionEmbeddingsAttentionBridge,
    PositionEmbeddingsAttentionBridge,
)
"""Bridges whose attention is plain: softmax of scaled products under a mask. Others are left as they are."""
DIFFERS_ABOVE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.03}
"""Relative difference at any hook point in the trial; rounding alone stays at a hundredth of it in float32."""
TRIAL_LENGTHS = (5, 9, 3)
"""Tokens of two documents and of padding: together a number that no model has heads, so that no axes are mistaken."""


class Pass(NamedTuple):
    """One forward pass."""

    is_native: bool
    hook_points: frozenset[str]
    """What is read in it."""


class NativeParts:
    """What of a bridge Hugging Face's own modules may compute. Used under the subject's lock: it is state on modules.

    Which way a hook point is read depends on it alone, not on what is read beside it, so that a dictionary's
    activations are the same whoever shares its passes.
    """

    def __init__(self, bridge: TransformerBridge) -> None:
        self._bridge = bridge
        self._attentions = [module for module in bridge.modules() if isinstance(module, AttentionBridge)]
        configs = {id(c): c for module in bridge.original_model.modules() if (c := _config_of(module)) is not None}
        self._configs = [(config, config._attn_implementation) for config in configs.values()]
        self._can = bool(self._attentions) and self._is_plain()
        self._is_native = False
        self._same: dict[frozenset[str], frozenset[str]] = {}
        takes = inspect.signature(bridge.original_model.forward).parameters
        self.inputs: Mapping[str, Any] = MappingProxyType({"use_cache": False} if "use_cache" in takes else {})
        """What every pass is given beside its tokens: nobody reads keys and values again."""
        for module in bridge.modules():
            if isinstance(module, NormalizationBridge) and module.use_native_layernorm_autograd:
                module.__dict__["forward"] = MethodType(_norm_once, module)

    def passes(
        self, hook_points: Collection[str], given: Collection[str] = (), replaced: Collection[str] = ()
    ) -> list[Pass]:
        """The passes that read these hook points; two where some are steps of attention and others are not.

        `given` names what of `packed_inputs` the model gets beside its tokens, `replaced` where others' values go in.
        """
        same = self._readable(frozenset(given))
        native = frozenset(hook_points) & same if same.issuperset(replaced) else frozenset()
        both = Pass(True, native), Pass(False, frozenset(hook_points) - native)
        return [one for one in both if one.hook_points]

    def prepare_whole(self, hook_points: Collection[str]) -> None:
        """The next pass goes through to the logits, with these hook points replaced on the way."""
        same = self._readable(frozenset())
        self.prepare(native=bool(same) and same.issuperset(hook_points))

    def prepare(self, *, native: bool) -> None:
        """The next passes compute attention natively, or written out."""
        if native == self._is_native:
            return
        for config, before in self._configs:
            config._attn_implementation = KERNEL if native else before
        for attention in self._attentions:
            # past `__setattr__`, by which a bridge hands what it is given to the module it wraps
            attention.__dict__.pop("forward", None)
            if native:
                attention.__dict__["forward"] = MethodType(AttentionBridge.forward, attention)
        self._is_native = native

    def _is_plain(self) -> bool:
        """Whether the kernel exists for this model, and its attention has neither a soft cap nor sinks."""
        modules = [attention.original_component for attention in self._attentions]
        return (
            all(type(attention) in KNOWN for attention in self._attentions)
            and bool(getattr(self._bridge.original_model, "_supports_sdpa", False))
            and not any(getattr(m, "attn_logit_softcapping", None) or hasattr(m, "sinks") for m in modules)
        )

    def _readable(self, given: frozenset[str]) -> frozenset[str]:
        """Hook points that are the same with native attention; none where somebody's own hook is on another one."""
        if not self._can:
            return frozenset()
        if given not in self._same:
            self._same[given] = self._try(given)
        same = self._same[given]
        if any(_is_hooked(hook) for name, hook in self._bridge.hook_dict.items() if name not in same):
            return frozenset()
        return same

    def _try(self, given: frozenset[str]) -> frozenset[str]:
        """Both ways on a few random tokens: a difference anywhere, or an error, and attention stays written out."""
        device = next(self._bridge.parameters()).device
        width = min(sum(TRIAL_LENGTHS), int(self._bridge.cfg.n_ctx))
        draw = torch.Generator().manual_seed(0)
        tokens = torch.randint(int(self._bridge.cfg.d_vocab), (1, width), generator=draw).to(device)
        documents = torch.tensor([0, 1, -1]).repeat_interleave(torch.tensor(TRIAL_LENGTHS))[None, :width].to(device)
        inputs = {name: value for name, value in packed_inputs(documents).items() if name in given}
        try:
            written_out, native = (self._record(way, tokens, inputs) for way in (False, True))
        except Exception as error:  # whatever a model of somebody else's says to it, it is written out as before
            if is_out_of_memory(error):
                raise
            return frozenset()
        finally:
            self.prepare(native=False)
        both = [hook for hook in written_out if hook in native and native[hook].shape == written_out[hook].shape]
        if not all(_are_alike(written_out[hook], native[hook]) for hook in both):
            return frozenset()
        return frozenset(name for name, hook in self._bridge.hook_dict.items() if id(hook) in both)

    def _record(self, native: bool, tokens: Tensor, inputs: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """What each hook point gives, by its identity."""
        seen: dict[int, Tensor] = {}

        def keep(hook: torch.nn.Module, _: object, activation: object) -> None:
            if isinstance(activation, Tensor):
                seen[id(hook)] = activation

        self.prepare(native=native)
        hooks = {id(hook): hook for hook in self._bridge.hook_dict.values()}
        handles = [hook.register_forward_hook(keep) for hook in hooks.values()]
        try:
            with torch.inference_mode():
                seen[0] = self._bridge(tokens, return_type="logits", **inputs, **self.inputs)
        finally:
            for handle in handles:
                handle.remove()
        return seen


def _config_of(module: torch.nn.Module) -> PretrainedConfig | None:
    config = getattr(module, "config", None)
    return config if isinstance(config, PretrainedConfig) else None


def _is_hooked(hook: HookPoint) -> bool:
    return bool(hook.fwd_hooks or hook.bwd_hooks or hook._forward_hooks)


def _are_alike(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point():
        return torch.equal(one, other)
    off = (one.float() - other.float()).norm() / one.float().norm().clamp_min(1e-9)
    return bool(off <= DIFFERS_ABOVE.get(one.dtype, DIFFERS_ABOVE[torch.float32]))


def _norm_once(self: NormalizationBridge, hidden_states: Tensor, **kwargs: Any) -> Tensor:
    """A norm bridge's own forward pass, less the second computation of what nobody reads."""
    if _is_hooked(self.hook_scale) or _is_hooked(self.hook_normalized):
        whole: Tensor = type(self).forward(self, hidden_states, **kwargs)
        return whole
    entered = self.hook_in(hidden_states)
    left: Tensor = self.hook_out(self.original_component(entered).to(entered.dtype))
    return left
