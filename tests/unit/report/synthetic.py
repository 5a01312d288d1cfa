"""A made-up run for the report's tests: seeded features over real documentation text, as plain JSON.

Shapes and scores resemble a real run (token features, context features, noise, undefined and failed ones); no figure
here was measured on a model. `make_report` gives the dictionary form that `ReportData.model_validate` accepts.
"""

import pydoc_data.topics
import re
from typing import Any

import numpy as np

from autointerp.format import escape_text
from autointerp.interpret.summary import summarise as summary_of
from autointerp.metrics import DictionaryMetrics, LossMetrics, Reconstruction
from autointerp.records import Failed, Refinement, Role, Skipped
from autointerp.scores import FeatureScore

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
DICTIONARIES: list[tuple[str, Role, str, float]] = [
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


def make_windows(
    text: Text, activations: np.ndarray, predicted: np.ndarray, rng: np.random.Generator, targets: bool
) -> list[Json]:
    """20 explain windows of 32 tokens; 60 score windows of 32 with a target and 10 guided ones, or 48 of 16 without."""
    active = np.flatnonzero(activations)
    order = active[np.argsort(-activations[active], kind="stable")]
    edges = np.quantile(activations[active], np.arange(1, 10) / 10)
    near = np.convolve(activations > 0, np.ones(24), mode="same")
    silent = np.flatnonzero(near == 0)
    same = np.flatnonzero((text.ids == text.ids[order[0]]) & (activations == 0))
    third = 20 if targets else 16
    plan: list[tuple[str, str, int | None, int]] = []
    plan += [("explain", "top", 10, int(p)) for p in order[:10]]
    for k in range(third):
        decile = 10 - k * 10 // third
        group = order[len(order) * (10 - decile) // 10 : len(order) * (11 - decile) // 10]
        plan.append(("score", "decile", decile, int(rng.choice(group if len(group) else order))))
        if k % 2 and k < 16:
            plan.append(("explain", "decile", decile, int(rng.choice(group if len(group) else order))))
    plan += [("explain", "uniform", None, int(p)) for p in rng.choice(silent, 2)]
    plan += [("score", "uniform", None, int(p)) for p in rng.choice(silent, third)]
    hard = [("hard-token", same if len(same) else silent), ("hard-text", silent), ("hard-neighbour", silent)]
    for k, (name, group) in enumerate(hard):
        plan += [("score", name, None, int(p)) for p in rng.choice(group, third // 3 + (k < third % 3))]
    plan += [("guided", "guided", None, int(p)) for p in rng.choice(silent, 10 if targets else 0)]
    windows = []
    for part, stratum, decile_, position in plan:
        length = 32 if targets or part == "explain" else 16
        start = int(np.clip(position - rng.integers(2, length - 2), 0, len(text.tokens) - length))
        cut = slice(start, start + length)
        raw = activations[cut]
        levels = np.where(raw > 0, 1 + np.searchsorted(edges, raw, side="left"), 0)
        target = position - start if targets and part != "explain" else None
        said = predicted[cut].tolist() if target is None else [int(predicted[position])]
        windows.append(
            {
                "part": part,
                "stratum": stratum,
                "decile": decile_ if stratum in ("decile", "top") else None,
                "document": text.document[start],
                "row": 0,
                "start": start,
                "tokens": text.tokens[cut],
                "levels": levels.tolist(),
                "activations": [round(float(a), 4) for a in raw],
                "target": target,
                "simulated": None if part == "explain" else said,
            }
        )
    return windows


def scored_pairs(windows: list[Json], *strata: str) -> tuple[np.ndarray, np.ndarray]:
    """Activations and predicted levels of the scored tokens of these strata (all but guided without any)."""
    wanted = [w for w in windows if (w["stratum"] in strata if strata else w["part"] == "score")]
    wanted = [w for w in wanted if w["part"] != "explain"]
    truth = [w["activations"] if w["target"] is None else [w["activations"][w["target"]]] for w in wanted]
    said = [w["simulated"] for w in wanted]
    return np.concatenate([[], *truth]), np.concatenate([[], *said])


def alarms(windows: list[Json], *strata: str) -> float | None:
    """Silent tokens predicted above 0 per 1,000."""
    truth, guess = scored_pairs(windows, *strata)
    silent = truth == 0
    return number(1000 * (guess[silent] > 0).mean()) if silent.any() else None


def plain(value: float | None, half: float = 0.1, undefined: str | None = None) -> Json:
    """A score without frills."""
    if value is None:
        return {"metric": "spearman", "value": None, "undefined": undefined, "n_windows": 60}
    low, high = number(max(-1.0, value - half)), number(min(1.0, value + half))
    ends = {"low": low, "high": high, "interval": "bca", "null_threshold": 0.21}
    return {"metric": "spearman", "value": number(value), "n_windows": 60, **ends}


def score_of(feature: Json, windows: list[Json], rng: np.random.Generator) -> Json:
    """A feature's score: statistics of its windows, computed; intervals and controls roughly so."""
    truth, guess = scored_pairs(windows)
    rho = spearman(truth, guess)
    constant = plain(None, undefined="constant_prediction")
    absent = plain(None, undefined="constant_prediction" if rho is None else "no_table")
    half = 0.02 if rho is None else (1 - rho**2) * 0.22 + 0.02
    lookup = float(np.clip((rho or 0.0) + rng.normal(-0.06, 0.12), -0.3, 0.99))
    bigram = float(np.clip(lookup + 0.03, -0.3, 0.99))
    common: Json = {
        "feature": {"dictionary": feature["dictionary"], "index": feature["index"]},
        "protocol": "graded-60",
        "simulator": "lookup",
        "n_windows": 60,
        "lookup": plain(lookup, half),
        "bigram": plain(bigram, half) if feature["index"] % 5 else plain(None, undefined="no_table"),
        "position": plain(float(rng.normal(0.1, 0.05)), half),
        "constant": constant,
        "shuffled": constant if rng.random() < 0.2 else plain(float(rng.normal(0, 0.05))),
        "shuffled_from": {"dictionary": feature["dictionary"], "index": int(rng.integers(0, 2000))},
        "profile": feature["profile"],
        "per_stratum": {},
        "n_saved": int(rng.choice([0, 60])),
    }
    if rho is None:
        return {**common, "spearman": absent, "lift": {**absent, "metric": "lift"}, "more": [], "why": "undefined"}
    deciles = [[(w["levels"][w["target"] or 0], w["simulated"][0]) for w in windows if w["part"] == "score" and
                w["decile"] == d] for d in range(1, 11)]  # fmt: skip
    recall = [number(np.mean([said > 0 for _, said in group])) if group else None for group in deciles]
    lift = rho - lookup
    strata = {"random": ("uniform",), "hard": ("hard-token", "hard-text", "hard-neighbour"), "guided": ("guided",)}
    positives = {kind: alarms(windows, *names) for kind, names in strata.items()}
    return {
        **common,
        "spearman": {**plain(rho, half), "null_threshold": number(0.2 + abs(rng.normal(0, 0.02))), "ceiling": 0.995},
        "lift": {**plain(lift, half), "metric": "lift", "null_threshold": None},
        "lift_ratio": number(lift / (1 - lookup)) if lookup < 0.95 else None,
        "more": [{"metric": name, "value": number(rho - k / 50), "n_windows": 60} for k, name in enumerate(MORE)],
        "recall_by_decile": recall,
        "false_positives": positives,
        "hit_rate": None if positives["hard"] is None else number(positives["hard"] / 1000),
        "specificity_untested": bool(feature["index"] % 9 == 0),
        "unrefined": plain(rho - 0.07, half) if (feature.get("refinement") or {}).get("kept") else None,
        "why": None if rho >= 0.5 else WHYS[feature["index"] % len(WHYS)],
    }


MORE = ("pearson", "kendall", "auroc", "average_precision", "spearman_among_active", "spearman_weighted")
WHYS = ("misses_high", "misses_low", "fires_too_broadly", "wrong_order")


def refinement_of(before: str, rng: np.random.Generator) -> Json | None:
    """One feature in three was revised, one revision in two kept."""
    if rng.random() > 1 / 3:
        return None
    return {
        "before": before,
        "kept": bool(rng.random() < 0.5),
        "select_before": 0.31,
        "select_after": 0.42,
        "usage": {"calls": 3, "input_tokens": 900, "output_tokens": 60},
    }


def make_feature(
    text: Text, name: str, index: int, quality: float, hostile: bool, targets: bool, rng: np.random.Generator
) -> Json:
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
    windows = make_windows(text, activations, predicted, rng, targets)
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
        "profile": {
            "entropy_bits": number(rng.gamma(2.0, 1.2)),
            "single_token": bool(rng.random() < 0.5),
            "n_distinct": int(rng.integers(1, 200)),
        },
        "refinement": refinement_of("fires on words", rng),
        "histogram": np.histogram(active, bins=40, range=(0, active.max()))[0].tolist(),
        "deciles": [number(d) for d in np.quantile(active, np.arange(1, 10) / 10)],
        "facts": make_facts(text, common, rng),
        "windows": windows,
    }
    entry["score"] = score_of(entry, windows, rng)
    if hostile:
        entry["refinement"] = {"before": 'a "first" \u202eguess: <i>words</i>', "kept": True, "select_before": None,
                               "select_after": 0.2}  # fmt: skip
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
    if entry["score"]["spearman"]["value"] is None:
        chosen = ("undefined", "constant_prediction", "the explanation predicts the same level for every token")
    if chosen is None:
        entry["why"] = f"{entry['score']['why']}, in words: 12 %" if entry["score"]["why"] else None
        return entry
    state, reason, why = chosen
    entry.update(state=state, reason=reason, why=why, no_pattern=reason == "no_pattern")
    score = entry.pop("score")
    if state == "undefined":
        absent = plain(None, undefined=reason)
        entry["score"] = {**score, "spearman": absent, "lift": {**absent, "metric": "lift"}, "more": [],
                          "unrefined": None, "lift_ratio": None, "why": "undefined"}  # fmt: skip
    if reason in ("refused", "dead"):
        entry.update(explanation=None, author=None, refinement=None)
    if reason == "no_pattern":
        entry["explanation"] = "no clear pattern"
    if reason == "dead":
        entry.update(density=0.0, n_active=0, max=0.0, histogram=[], deciles=[], windows=[], profile=None)
    if state == "failed":
        kept = [w for w in entry["windows"] if w["part"] != "guided"]
        entry["windows"] = [{**w, "simulated": None} for w in kept]
    return entry


def make_metrics(role: Role, quality: float) -> DictionaryMetrics:
    """Of a basis, which cannot decode, no reconstruction and no loss."""
    reconstruction = Reconstruction(
        explained_variance=0.2 + quality, mse=0.0123 / quality, cosine=0.6 + quality / 2, l2_ratio=0.93,
        relative_bias=0.97,
    )  # fmt: skip
    loss = LossMetrics(
        n_tokens=16_384, ce=2.5, ce_dictionary=3.1 - quality, ce_zero=8.5, ce_mean=6.5, kl_dictionary=0.6 - quality / 2,
        kl_zero=5.5, kl_mean=4.1,
    )  # fmt: skip
    return DictionaryMetrics(
        n_tokens=612_345, l0=16.0, l1=44.4, share_alive=2541 / 2560, share_over_1_percent=0.011,
        share_over_10_percent=0.0, reconstruction=None if role == "basis" else reconstruction,
        loss=None if role == "basis" else loss,
    )  # fmt: skip


def summarise(role: Role, features: list[Json], quality: float) -> Json:
    """The package's own summary of these features."""
    scores = [FeatureScore.model_validate(f["score"]) for f in features if f.get("score")]
    failed = {
        f["index"]: Failed(stage="simulate", reason=f["reason"], message="")
        if f["state"] == "failed"
        else Skipped(reason=f["reason"])
        for f in features
        if not f.get("score")
    }
    revised = {f["index"]: Refinement.model_validate(f["refinement"]) for f in features if f.get("refinement")}
    summary = summary_of(
        role,
        [f["index"] for f in features],
        scores,
        failed,
        explained=sum(f.get("explanation") is not None for f in features),
        protocol="graded-60",
        n_windows=60,
        n_tokens=612_345,
        l0=16.0,
        density=0.001,
        n_alive=2541,
        refinements=revised,
        seed=0,
        metrics=make_metrics(role, quality),
    )
    return summary.model_dump()


def make_report(n_features: int = 120, seed: int = 0, n_dictionaries: int = 4, targets: bool = True) -> Json:
    """A whole report's data; about one feature in forty holds hostile text.

    Args:
        targets: one target a window, as `graded` asks, or a level for every token, as `simulate` does.
    """
    text = Text()
    rng = np.random.default_rng(seed)
    dictionaries, features = [], []
    for position, (name, role, kind, quality) in enumerate(DICTIONARIES[:n_dictionaries]):
        share = n_features // n_dictionaries + (position < n_features % n_dictionaries)
        indices = np.sort(rng.choice(2560, share, replace=False))
        mine = [make_feature(text, name, int(i), quality, k % 40 == 3, targets, rng) for k, i in enumerate(indices)]
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
                "summary": summarise(role, mine, quality),
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
            "name": "graded-60",
            "n_windows": 60,
            "description": "60 windows of 32 tokens per feature with one marked token each: "
            "20 active by decile, 20 uniform, 20 hard.",
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
