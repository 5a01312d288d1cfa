"""Bare records from anywhere: what import takes can be scored, and what is absurd is refused with its line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autointerp import api
from autointerp.errors import UsageError
from autointerp.interop.bare_records import LARGEST, MOST_FEATURES, SMALLEST

Row = dict[str, object]


def row(i: int, **changes: object) -> Row:
    rng = np.random.default_rng(i)
    tokens = [f" w{j}" for j in rng.integers(0, 9, 24)]
    values = [1.0 + i % 7 if token == " w3" else 0.0 for token in tokens]
    return {"feature": 0, "tokens": tokens, "activations": values, "document": f"d{i}", **changes}


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def scaled(factor: float) -> Callable[[int], Row]:
    def make(i: int) -> Row:
        values = row(i)["activations"]
        assert isinstance(values, list)
        return row(i, activations=[value / 7 * factor for value in values])

    return make


ODD: dict[str, Callable[[int], Row]] = {
    "the highest feature": lambda i: row(i, feature=MOST_FEATURES - 1),
    "the largest activation": scaled(LARGEST),
    "the smallest activation": scaled(7 * SMALLEST),
    "nothing but negative ones": scaled(-1e30),
    "one value everywhere": lambda i: row(i, activations=[1] * 24),
    "records of one token": lambda i: row(i, tokens=[" a"], activations=[i]),
    "half characters and no characters": lambda i: row(i, tokens=["\ud800", "\udc80", "", "\x00"] * 6),
    "special tokens": lambda i: row(i, tokens=[{"special": "<s>"}, {"special": "\x1b\u202e"}, " w3"] * 8),
    "documents of all kinds": lambda i: row(i, document=["", 7, "a\nb\x00", None, [1], {"a": 1}][i % 6]),
    "activations as texts": lambda i: row(i, activations=["1.5"] * 24),
    "one text again and again": lambda i: row(0, document=f"d{i}"),
    "a whole number of 38 digits": lambda i: row(i, activations=[10**38 if j == i % 24 else 0 for j in range(24)]),
}


@pytest.mark.parametrize("name", ODD)
def test_what_import_takes_score_can_finish(tmp_path: Path, name: str) -> None:
    """Records that were taken and then ended every scoring in a traceback made a run that could never finish."""
    records = write(tmp_path / "r.jsonl", [ODD[name](i) for i in range(90)])
    api.import_records(records, tmp_path / "run")
    summary = api.run_score(tmp_path / "run")["records"]
    assert summary.n_features == 1
    assert (
        summary.scored + sum(sum(part.values()) for part in (summary.undefined, summary.failed, summary.skipped)) == 1
    )
    api.export_records(tmp_path / "run", None, "tsv", tmp_path / "r.tsv")
    api.import_records(tmp_path / "r.tsv", tmp_path / "again")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (json.dumps(row(0, document="a\ud800")), "document 'a.ud800' holds half of a character"),
        (json.dumps(row(0, activations=[1e308] * 24)), "1e.308 is too large for an activation"),
        (json.dumps(row(0, activations=[-1e39] * 24)), "-1e.39 is too large for an activation"),
        (json.dumps(row(0, activations=[1e-320] * 24)), "1e-320 is too small for an activation"),
        (json.dumps(row(0, activations=[10**4000] * 24)), "10000.* is no activation"),
        (json.dumps(row(0, feature=10**30)), "feature 1000.* is too high"),
        (json.dumps(row(0, feature=2_000_000_000)), "feature 2000000000 is too high"),
        ('{"feature": ' + "9" * 5000 + ', "tokens": ["a"], "activations": [1]}', "more than 4,300 digits"),
        ('{"tokens": ' + "[" * 100_000 + "]" * 100_000 + ', "activations": [1]}', "nested too deeply"),
        (json.dumps(row(0, tokens=[["x" * 1000]] * 24)), "a token is a text or .*…"),
    ],
)
def test_what_is_absurd_is_refused_with_its_line(tmp_path: Path, line: str, why: str) -> None:
    """Sums became infinite, arrays took gigabytes, and names could not be stored; the run could never finish."""
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=rf"r.jsonl line 2.*{why}") as caught:
        api.import_records(path, tmp_path / "run")
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# feature 2000000000\na\t1\n", "line 3: feature 2000000000 is too high"),
        (f"# feature {'9' * 5000}\na\t1\n", "line 1: `# feature` wants"),
        ("# document a\\u{D800}\na\t1\n", "line 3: the document .* half of a character"),
        (f"a\t{'9' * 4000}\n", "line 1: .* is no activation"),
        ("a\t1e308\n", "line 1: .* is too large"),
    ],
)
def test_so_it_is_in_tab_separated_records(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "r.tsv").write_text(text)
    with pytest.raises(UsageError, match=rf"r.tsv {why}"):
        api.import_records(tmp_path / "r.tsv", tmp_path / "run")
