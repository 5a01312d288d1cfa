"""A made-up run for the report's tests: seeded features over real documentation text, as plain JSON.

Shapes and scores resemble a real run (token features, context features, noise, undefined and failed ones); no figure
here was measured on a model. `make_report` gives the dictionary form that `ReportData.model_validate` accepts.
"""

import pydoc_data.topics
import re
from typing import Any

import numpy as np

from autointerp.format import escape_text

Json = dict[str, Any]
PIECE = re.compile(r"\n+|[ ]+(?=[ ])|[ ]?[A-Za-z]{1,5}|[ ]?[0-9]+|[ ]?[^\w\s]|\s|.")
HOSTILE = [
    "<script>alert(1)</script>",
    '"onload=',
    "'><img src=x onerror=alert(1)>",
    "\u202eevil\u202c",
    "\x00",
    "</textarea>",
    "{{ 7*7 }}",
    "\u200b",
    "مرحبا",
    "&lt;b&gt;",
    "\ud800",
    "]]>",
    "</script>",
    "<!--",
    "\\n",
    "\t",
    "🙂",
]
DICTIONARIES = [
    ("topk", "trained", "topk k=16, 2560 features", 0.62),
    ("relu", "trained", "relu, L1", 0.5),
    ("topk-rerandomised", "control", "topk k=16 on a re-randomised model", 0.2),
    ("neurons", "basis", "neurons topk k=16", 0.32),
]


class Text:
    """Documentation as tokens, with the places of each token."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.document: list[str] = []
        for name, topic in sorted(pydoc_data.topics.topics.items()):
            pieces = PIECE.findall(re.sub(r"\*{4,}", "****", topic))
            self.tokens += [escape_text(piece) for piece in pieces]
            self.document += [f"pydoc_data.topics/{name}"] * len(pieces)
        names = {token: i for i, token in enumerate(dict.fromkeys(self.tokens))}
        self.vocabulary = list(names)
        self.ids = np.array([names[token] for token in self.tokens])
        self.counts = np.bincount(self.ids)


def ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.min() == a.max() or b.min() == b.max():
        return None
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def number(value: float | np.floating[Any] | None, digits: int = 6) -> float | None:
    return None if value is None else round(float(value), digits)


def make_windows(text: Text, activations: np.ndarray, predicted: np.ndarray, rng: np.random.Generator) -> list[Json]:
    """48 score windows of 16 tokens and 20 explain windows of 32."""
    active = np.flatnonzero(activations)
    order = active[np.argsort(-activations[active], kind="stable")]
    edges = np.quantile(activations[active], np.arange(1, 10) / 10)
    near = np.convolve(activations > 0, np.ones(24), mode="same")
    silent = np.flatnonzero(near == 0)
    same = np.flatnonzero((text.ids == text.ids[order[0]]) & (activations == 0))
    plan: list[tuple[str, str, int | None, int]] = []
    plan += [("explain", "top", 10, int(p)) for p in order[:10]]
    for k in range(16):
        decile = 10 - k * 10 // 16
        group = order[len(order) * (10 - decile) // 10 : len(order) * (11 - decile) // 10]
        plan.append(("score", "decile", decile, int(rng.choice(group if len(group) else order))))
        if k % 2:
            plan.append(("explain", "decile", decile, int(rng.choice(group if len(group) else order))))
    plan += [("explain", "uniform", None, int(p)) for p in rng.choice(silent, 2)]
    plan += [("score", "uniform", None, int(p)) for p in rng.choice(silent, 16)]
    hard = [("hard-token", same if len(same) else silent), ("hard-text", silent), ("hard-neighbour", silent)]
    plan += [
        ("score", name, None, int(p)) for name, group in hard for p in rng.choice(group, 5 + (name == "hard-text"))
    ]
    windows = []
    for part, stratum, decile_, position in plan:
        length = 16 if part == "score" else 32
        start = int(np.clip(position - rng.integers(2, length - 2), 0, len(text.tokens) - length))
        cut = slice(start, start + length)
        raw = activations[cut]
        levels = np.where(raw > 0, 1 + np.searchsorted(edges, raw, side="left"), 0)
        windows.append(
            {
                "part": part,
                "stratum": stratum,
                "decile": decile_ if stratum == "decile" else None,
                "document": text.document[start],
                "tokens": text.tokens[cut],
                "levels": levels.tolist(),
                "activations": [round(float(a), 4) for a in raw],
                "simulated": predicted[cut].tolist() if part == "score" else None,
            }
        )
    return windows


def score_of(windows: list[Json], rng: np.random.Generator) -> Json:
    """The statistics of a feature's score windows, computed; intervals and controls roughly so."""
    scored = [w for w in windows if w["part"] == "score"]
    truth = np.concatenate([w["activations"] for w in scored])
    guess = np.concatenate([w["simulated"] for w in scored])
    rho = spearman(truth, guess)
    if rho is None:
        return {}
    half = (1 - rho**2) * 0.22 + 0.02
    lookup = number(np.clip(rho + rng.normal(-0.06, 0.12), -0.3, 0.99))
    lift = rho - (lookup or 0.0)
    return {
        "spearman": {
            "value": number(rho),
            "low": number(max(-1, rho - half)),
            "high": number(min(1, rho + half * 0.8)),
            "null_threshold": number(0.06 + abs(rng.normal(0, 0.02))),
            "ceiling": number(1 - abs(rng.normal(0, 0.004))),
        },
        "lookup": lookup,
        "lift": {"value": number(lift), "low": number(lift - half), "high": number(lift + half)},
        "shuffled": number(rng.normal(0, 0.05)),
        "more": {
            "pearson": number(np.corrcoef(truth, guess)[0, 1]),
            "spearman_window_mean": number(rho - 0.1),
        },
    }


def make_feature(text: Text, name: str, index: int, quality: float, hostile: bool, rng: np.random.Generator) -> Json:
    common = np.flatnonzero((text.counts > 8) & (text.counts < 1500))
    trigger = int(rng.choice(common))
    places = np.flatnonzero(text.ids == trigger)
    strength = rng.gamma(2.0, 1.4) + 0.5
    activations = np.zeros(len(text.ids))
    kept = places[rng.random(len(places)) < rng.uniform(0.5, 1.0)]
    kept = kept if len(kept) >= 4 else places
    activations[kept] = strength * rng.gamma(4.0, 0.4, len(kept))
    after = kept[(kept + 1 < len(text.ids)) & (rng.random(len(kept)) < 0.3)] + 1
    activations[after] = activations[after - 1] * rng.uniform(0.2, 0.6)
    stray = rng.choice(len(text.ids), rng.integers(4, 60))
    activations[stray] = np.maximum(activations[stray], strength * rng.gamma(1.0, 0.25, len(stray)))
    accuracy = float(np.clip(rng.normal(quality + 0.25, 0.25), 0.02, 0.99))
    predicted = np.zeros(len(text.ids), dtype=int)
    predicted[places] = np.where(rng.random(len(places)) < accuracy, rng.integers(4, 9, len(places)), 0)
    predicted[rng.random(len(predicted)) < (1 - accuracy) * 0.05] = 3
    windows = make_windows(text, activations, predicted, rng)
    if hostile:
        for k, w in enumerate(windows[:12]):
            w["tokens"] = [*w["tokens"][:-2], HOSTILE[k % len(HOSTILE)], escape_text(HOSTILE[(k + 1) % len(HOSTILE)])]
    active = activations[activations > 0]
    shown = text.vocabulary[trigger].replace('"', '\\"')
    entry: Json = {
        "dictionary": name,
        "index": index,
        "state": "scored",
        "density": number(len(active) / len(text.ids), 9),
        "n_active": len(active),
        "max": number(active.max()),
        "explanation": f'fires on "{shown}" ({rng.integers(4, 9)}); on "{text.vocabulary[int(rng.choice(common))]}" '
        f'after "{shown}" ({rng.integers(2, 6)}); else 0',
        "author": "lookup",
        "shuffled_from": f"{name}/{int(rng.integers(0, 2000))}",
        "histogram": np.histogram(active, bins=40, range=(0, active.max()))[0].tolist(),
        "deciles": [number(d) for d in np.quantile(active, np.arange(1, 10) / 10)],
        "facts": make_facts(text, common, rng),
        "windows": windows,
        **score_of(windows, rng),
    }
    if hostile:
        entry["explanation"] = '<script>alert("x")</script> "onload=alert(1) \u202eevil fires on <b>tags</b>'
        entry["facts"]["top_outputs"][0][0] = "<script>alert(2)</script>"
    return end_badly(entry, rng)


def make_facts(text: Text, common: np.ndarray, rng: np.random.Generator) -> Json:
    def tokens(sign: int) -> list[list[Any]]:
        weights = np.sort(rng.gamma(3.0, 0.2, 20))[::-1]
        return [
            [text.vocabulary[int(t)], number(sign * w, 4)] for t, w in zip(rng.choice(common, 20), weights, strict=True)
        ]

    near = np.sort(rng.uniform(0.1, 0.75, 20))[::-1]
    return {
        "decoder_norm": number(rng.uniform(0.9, 1.1), 4),
        "encoder_decoder_cosine": number(rng.uniform(0.5, 0.95), 4),
        "neighbours": [[int(i), number(c, 4)] for i, c in zip(rng.choice(2000, 20, replace=False), near, strict=True)],
        "top_outputs": tokens(1),
        "bottom_outputs": tokens(-1),
    }


def end_badly(entry: Json, rng: np.random.Generator) -> Json:
    """Some features end without a score, as they do in a run."""
    draw = rng.random()
    ends = [
        (0.03, "failed", "malformed", "the simulator's answer had 15 levels for 16 tokens, three times"),
        (0.05, "failed", "refused", "the explainer refused to answer"),
        (0.09, "undefined", "constant_prediction", "the explanation predicts the same level for every token"),
        (0.11, "undefined", "too_few_windows", "14 of 20 windows: the feature is active in 3 documents"),
        (0.12, "skipped", "dead", "active on no token of the corpus"),
        (0.14, "undefined", "no_pattern", "the explainer found no clear pattern"),
    ]
    chosen = next(((s, r, w) for limit, s, r, w in ends if draw < limit), None)
    if "spearman" not in entry:
        chosen = ("undefined", "constant_prediction", "the explanation predicts the same level for every token")
    if chosen is None:
        near_null = entry["spearman"]["value"] < 0.3
        entry["why"] = "misses most weak activations; nothing predicted on hard text" if near_null else None
        return entry
    for key in ("spearman", "lift", "more", "shuffled", "lookup", "shuffled_from"):
        entry.pop(key, None)
    entry.update(state=chosen[0], reason=chosen[1], why=chosen[2], no_pattern=chosen[1] == "no_pattern")
    if chosen[1] in ("refused", "dead"):
        entry.update(explanation=None, author=None)
    if chosen[1] == "no_pattern":
        entry["explanation"] = "no clear pattern"
    if chosen[1] == "dead":
        entry.update(density=0.0, n_active=0, max=0.0, histogram=[], deciles=[], windows=[])
    if chosen[0] == "failed":
        entry["windows"] = [{**w, "simulated": None} for w in entry["windows"]]
    return entry


def summarise(role: str, features: list[Json], rng: np.random.Generator) -> Json:
    def count(state: str) -> dict[str, int]:
        reasons = sorted({f["reason"] for f in features if f["state"] == state})
        return {r: sum(f["state"] == state and f["reason"] == r for f in features) for r in reasons}

    scored = [f for f in features if f["state"] == "scored"]
    zeros = [0.0] * sum(f.get("reason") in ("no_pattern", "constant_prediction") for f in features)

    def means(values: list[float]) -> Json:
        both = values + zeros
        return {
            "mean": number(np.mean(values)) if values else None,
            "counted_mean": number(np.mean(both)) if both else None,
        }

    values = [f["spearman"]["value"] for f in scored]
    counted = np.array(values + zeros)
    draws = rng.choice(counted, (400, len(counted))).mean(axis=1) if len(counted) else np.array([])
    return {
        "role": role,
        "n_features": len(features),
        "explained": sum(f.get("explanation") is not None for f in features),
        "scored": len(scored),
        "undefined": count("undefined"),
        "failed": count("failed"),
        "skipped": count("skipped"),
        "protocol": "simulate",
        "n_windows": 48,
        "spearman": {
            **means(values),
            "median": number(np.median(values)) if values else None,
            "low": number(np.quantile(draws, 0.025)) if len(draws) else None,
            "high": number(np.quantile(draws, 0.975)) if len(draws) else None,
        },
        "lookup": means([f["lookup"] for f in scored]),
        "shuffled": means([f["shuffled"] for f in scored]),
        "n_tokens": 612_345,
        "l0": 16.0,
        "n_alive": 2541,
        "density": number(np.median([f["density"] for f in features]), 9) if features else None,
    }


def make_report(n_features: int = 120, seed: int = 0, n_dictionaries: int = 4) -> Json:
    """A whole report's data; about one feature in forty holds hostile text."""
    text = Text()
    rng = np.random.default_rng(seed)
    dictionaries, features = [], []
    for position, (name, role, kind, quality) in enumerate(DICTIONARIES[:n_dictionaries]):
        share = n_features // n_dictionaries + (position < n_features % n_dictionaries)
        indices = np.sort(rng.choice(2560, share, replace=False))
        mine = [make_feature(text, name, int(i), quality, k % 40 == 3, rng) for k, i in enumerate(indices)]
        features += mine
        dictionaries.append(
            {
                "id": name,
                "role": role,
                "kind": kind,
                "hook_point": "blocks.1.hook_resid_post",
                "d_sae": 2560,
                "n_alive": 2541,
                "n_tokens": 612_345,
                "summary": summarise(role, mine, rng),
            }
        )
    return {"run": make_run(), "dictionaries": dictionaries, "features": features}


def make_run() -> Json:
    return {
        "title": "demo: a three-layer model of Python's documentation",
        "created": "2026-11-21",
        "model": "demo-gpt2-3l",
        "corpus": {"name": "python-docs", "digest": "blake2b:" + "5e" * 20, "n_tokens": 612_345},
        "protocol": {
            "name": "simulate",
            "n_windows": 48,
            "description": "48 windows of 16 tokens per feature, every position scored: "
            "16 active by decile, 16 uniform, 16 hard.",
        },
        "explainer": "lookup",
        "simulator": "lookup",
        "seed": 0,
        "versions": {"autointerp": "0.1.0", "python": "3.11.7", "numpy": "2.3.4", "torch": "2.9.1"},
        "command": "autointerp run --demo --out runs/demo",
        "controls": [
            {"name": "look-up baseline", "present": True, "note": "mean level per token, from the explain part"},
            {"name": "shuffled explanation", "present": True, "note": "another feature's text, every feature"},
            {"name": "null threshold", "present": True, "note": "95th percentile of 2,000 permutations over windows"},
            {"name": "re-randomised model", "present": True, "note": "dictionary topk-rerandomised"},
            {"name": "random directions", "present": False, "note": "no dictionary of random directions in this run"},
        ],
        "findings": [
            "topk explains best: the interval of its mean lies above every control.",
            "The re-randomised control lies 0.38 below topk (95 % interval 0.30 to 0.45).",
            "Explanations beat the look-up baseline on 214 of 431 scored features.",
        ],
        "usage": None,
    }
