"""A run of bare records that a language model explains and scores: small enough to be asked several times in a test."""

import json
from pathlib import Path

import numpy as np

from autointerp import api

WORDS = [" the", " cat", " sat", " on", " a", " mat", " and", " ran", " to", " me"]
FIRES_ON = (" cat", " mat", " ran")
N_FEATURES = len(FIRES_ON)
MODEL = "test-model"


def make_run(folder: Path, n: int = 150) -> Path:
    """A run of three features, each of which fires on one word; all options by which more is asked are on."""
    rng = np.random.default_rng(0)
    rows = []
    for feature, word in enumerate(FIRES_ON):
        for i in range(n):
            tokens = [WORDS[j] for j in rng.integers(0, len(WORDS), 24)]
            values = [float(tokens[: k + 1].count(word)) if t == word else 0.0 for k, t in enumerate(tokens)]
            row = {"feature": feature, "tokens": tokens, "activations": values, "document": f"{feature}-{i}"}
            rows.append(json.dumps(row) + "\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    source = folder.parent / f"{folder.name}.jsonl"
    source.write_text("".join(rows))
    api.import_records(source, folder)
    return folder


def asking(base_url: str, **more: object) -> dict[str, object]:
    """What a run is told to be asked of a model there."""
    return {"llm": MODEL, "base_url": base_url, "explain.candidates": 2, "explain.refine": True, **more}
