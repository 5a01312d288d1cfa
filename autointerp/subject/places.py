"""What the places of one loaded model are called: its hook points' usual names, and those of its modules.

A bridge and names flow in, names flow out. A module is found as the object that it is, so no family needs a table.
"""

import re
from collections.abc import Iterable, Mapping

from transformer_lens.model_bridge import TransformerBridge

from autointerp.errors import near_matches
from autointerp.subject.loaders.hooks import Sides, hooks_of_module, is_hook_name

_USUAL = re.compile(r"blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)")
_NEAR = (
    "hook_post",
    "hook_out",
    "hook_in",
    "hook_pre",
    "hook_z",
    "hook_resid_post",
    "hook_resid_pre",
    "hook_resid_mid",
)
"""Hook points of a module that are offered for its name, the likeliest first."""


def names_by_hook(bridge: TransformerBridge) -> dict[str, frozenset[str]]:
    """Every hook point's name to all names of the same hook point."""
    same: dict[int, set[str]] = {}
    for name, hook in bridge.hook_dict.items():
        same.setdefault(id(hook), set()).add(name)
    return {name: frozenset(same[id(hook)]) for name, hook in bridge.hook_dict.items()}


def usual_name(names: Iterable[str]) -> str:
    """Of several names of one hook point, the one that published dictionaries use."""
    return min(names, key=lambda name: (_USUAL.fullmatch(name) is None, len(name), name))


def module_sides(bridge: TransformerBridge, module: str) -> Sides | None:
    """Hook points of the input and output of a module of the model's own library; None where it has none.

    The path may start at the model or below its base model, as sparsify's do: `model.layers.3.mlp`, `layers.3.mlp`.
    """
    name_of = {id(hook): name for name, hook in bridge.hook_dict.items()}
    model = bridge.original_model
    base = getattr(model, "base_model_prefix", "")
    for path in (module, f"{base}.{module}"):
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        sides = [name_of.get(id(getattr(found, side, None))) for side in ("hook_in", "hook_out")]
        if sides[0] is not None and sides[1] is not None:
            return Sides(sides[0], sides[1])
    return None


def near_places(bridge: TransformerBridge, name: str, names: Mapping[str, frozenset[str]]) -> str:
    """The hook points a user may have meant by a name that is none."""
    sides = None if is_hook_name(name) else hooks_of_module(name) or module_sides(bridge, name)
    if sides is None:
        return near_matches(name, names)
    block = sides.output.rsplit(".", 1)[0]
    near = [place for place in (f"{block}.{hook}" for hook in _NEAR) if place in names]
    return ", ".join(near[:3]) or near_matches(sides.output, names)
