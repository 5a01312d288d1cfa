"""Comparisons to draw, made of the example: hostile ones, marked ones, ones with nothing to rank.

No figure here was measured. `make_comparison` gives the plain form that `Comparison.model_validate` accepts.
"""

import copy
import json
from pathlib import Path
from typing import Any

from autointerp.format import escape_text
from tests.unit.report.synthetic import HOSTILE

Json = dict[str, Any]
EXAMPLE = Path(__file__).with_name("example.json")
MISMATCH = "the protocol differs: graded-60 in topk, <img src=x onerror=alert(1)> in relu"
SAID = '<script>alert("x")</script> "onload=alert(1) \u202eevil fires on <b>tags</b>'


def make_comparison(hostile: bool = False, alike: bool = True) -> Json:
    """Two planned contrasts with pairs of features, and the asked dictionaries beside their controls.

    Args:
        hostile: text from a corpus, an explainer and a folder's name that would like to be markup.
        alike: whether the runs are.
    """
    raw: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    first = raw["contrasts"][0]
    second = next(c for c in raw["contrasts"] if (c["a"], c["b"]) == ("topk", "topk-rerandomised"))
    second.update(planned=True, differing=copy.deepcopy(first["differing"][::-1]))
    raw["contrasts"].sort(key=lambda c: not c["planned"])
    if not alike:
        raw["mismatches"] = [MISMATCH, "the seed of splits and windows differs: 0 in topk, 1 in relu"]
    return _hostile(raw) if hostile else raw


def _hostile(raw: Json) -> Json:
    raw["model"] = raw["corpus"]["name"] = raw["protocol"]["description"] = SAID
    raw["versions"]["<b>x</b>"] = SAID
    raw["commands"] = [f"autointerp compare {SAID}"]
    for contrast in raw["contrasts"]:
        contrast["notes"] = [SAID]
        for n, pair in enumerate(contrast["differing"]):
            for side in (pair["a"], pair["b"]):
                side["explanation"] = SAID
                for k, window in enumerate(side["windows"]):
                    one, other = (HOSTILE[(n + k + i) % len(HOSTILE)] for i in range(2))
                    window["tokens"] = [*window["tokens"][:-2], one, escape_text(other)]
                    window["document"] = f"{SAID}/{one}"
    renamed: Json = _renamed(raw, "relu", "<i onclick=alert(1)>relu</i>\u202e")
    return renamed


def _renamed(value: Any, old: str, new: str) -> Any:
    """An arm's key, wherever it stands by itself; ids stay, which can hold no such text."""
    if isinstance(value, dict):
        return {k: v if k in ("id", "source") else _renamed(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, old, new) for v in value]
    return new if value == old else value


def with_nothing_to_rank() -> Json:
    """One contrast whose densities do not overlap, and a dictionary of which little is known."""
    raw = make_comparison()
    apart = next(c for c in raw["contrasts"] if c["verdict"] == "not_comparable")
    apart = {**apart, "planned": True}
    arms = [arm for arm in raw["arms"] if arm["key"] in (apart["a"], apart["b"])]
    for arm in arms:
        arm["standardised"] = {"value": None, "n": 0, "undefined": "no_overlap"}
    bare = {"arm": apart["b"], "d_in": 0, "d_sae": 9, "architecture": "bare records"}
    groups = ("activity", "reconstruction", "loss", "rare", "encoder", "concentration", "redundancy", "recovery")
    missing = dict.fromkeys(groups, "bare records hold the text of single features, and no weights")
    cards = [card for card in raw["cards"] if card["arm"] == apart["a"]]
    return {
        **raw,
        "arms": arms,
        "contrasts": [apart],
        "verdict": apart["verdict"],
        "cards": [*cards, {**bare, "missing": missing}],
        "splittings": [],
        "entropy_edges": None,
    }


def by_explainer() -> Json:
    """One dictionary's features, explained by two."""
    raw = make_comparison()
    contrast = {**raw["contrasts"][0], "by": "explainer"}
    contrast["pairing"].update(kind="same_feature", same_windows=True, floor=None, median_cosine=None)
    contrast["pairing"].update(alike=None, density_ratio=None, unmatched=None, unmatched_a=None, unmatched_b=None)
    for pair in contrast["differing"]:
        pair["cosine"] = None
    arms = [{**arm, "spec": raw["arms"][0]["spec"], "explainer": arm["key"]} for arm in raw["arms"][:2]]
    kept = {"by": "explainer", "arms": arms, "contrasts": [contrast], "cards": raw["cards"][:1], "splittings": []}
    renamed: Json = _renamed({**raw, **kept}, "relu", "openai:some-model-with-a-long-name-2026-11-21 tsv.v1")
    return renamed


def with_features(n_features: int, n_pairs: int) -> Json:
    """The first contrast's arms with so many features each, spread as the example's, and so many pairs."""
    raw = make_comparison()
    for arm in raw["arms"]:
        columns, n = arm["points"], len(arm["points"]["index"])
        for name, column in columns.items():
            columns[name] = [column[k % n] for k in range(n_features)]
        columns["index"] = list(range(n_features))
        columns["density"] = [d * (1 + k / n_features) for k, d in enumerate(columns["density"])]
        columns["value"] = [max(-1.0, v - k / n_features / 3) for k, v in enumerate(columns["value"])]
    pairs = raw["contrasts"][0]["differing"]
    raw["contrasts"][0]["differing"] = [_moved(pairs[k % len(pairs)], k) for k in range(n_pairs)]
    return raw


def _moved(pair: Json, k: int) -> Json:
    """The pair as another one: other numbers, and text of its own."""
    moved = copy.deepcopy(pair)
    for side in (moved["a"], moved["b"]):
        side["index"] = k
        for window in side["windows"]:
            window["row"] += 1000 * k
            window["tokens"] = [f"{token[:3]}{(k * 7919 + i * 31) % 997}" for i, token in enumerate(window["tokens"])]
    return moved
