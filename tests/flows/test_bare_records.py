"""Tokens with activations are enough: import, explain, score, export, and a score of a given explanation."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import autointerp
from autointerp import api
from autointerp.errors import UsageError

WORDS = [" the", " cat", " sat", " on", " a", " mat", " and", " ran", " to", " me"]


def make_records(n: int, seed: int = 0) -> list[dict[str, object]]:
    """Feature 7 fires on ` cat`, by how often it came before in its record."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for _ in range(n):
        tokens = [WORDS[i] for i in rng.integers(0, len(WORDS), 24)]
        values = [float(tokens[: i + 1].count(" cat")) if t == " cat" else 0.0 for i, t in enumerate(tokens)]
        rows.append({"feature": 7, "tokens": tokens, "activations": values})
    return rows


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in make_records(160)))
    return path


def test_records_are_explained_and_scored(records: Path, tmp_path: Path) -> None:
    """A person without a model gets an explanation, a score with its controls, and a report."""
    out = tmp_path / "run"
    assert api.import_records(records, out) == 1
    summary = api.run_score(out)["records"]
    assert (summary.scored, summary.n_features, summary.l0) == (1, 1, None)
    assert summary.spearman.mean is not None
    assert summary.spearman.mean > 0.9
    assert "fires on" in (out / "report.html").read_text(encoding="utf-8")


def test_import_of_an_export_is_the_identity(records: Path, tmp_path: Path) -> None:
    """What leaves the program comes back the same, in either form."""
    api.import_records(records, tmp_path / "a")
    api.export_records(tmp_path / "a", None, "tsv", tmp_path / "a.tsv")
    api.import_records(tmp_path / "a.tsv", tmp_path / "b")
    api.export_records(tmp_path / "b", None, "jsonl", tmp_path / "b.jsonl")
    api.import_records(tmp_path / "b.jsonl", tmp_path / "c")
    api.export_records(tmp_path / "c", None, "tsv", tmp_path / "c.tsv")
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "c.tsv").read_bytes()
    assert len({(tmp_path / name / "records.jsonl").read_bytes() for name in "abc"}) == 1


def test_too_few_records_are_undefined_not_wrong(tmp_path: Path) -> None:
    """Three short records have no disjoint parts; a number there would be made up."""
    path = tmp_path / "few.tsv"
    path.write_text("a\t0\nb\t3\n\na\t0\nb\t2.5\n\n# feature 3\nx\t0\ny\t0\n")
    api.import_records(path, tmp_path / "run")
    summary = api.run_score(tmp_path / "run")["records"]
    assert summary.scored == 0
    assert summary.n_features == 2
    assert sum((*summary.undefined.values(), *summary.skipped.values())) == 2


def test_a_run_of_records_needs_no_torch(records: Path, tmp_path: Path) -> None:
    """Torch is a gigabyte that this user has no use for."""
    code = (
        "import sys; from pathlib import Path; from autointerp import api; "
        f"api.import_records(Path({str(records)!r}), Path({str(tmp_path / 'run')!r})); "
        f"api.run_score(Path({str(tmp_path / 'run')!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_given_explanation_is_scored() -> None:
    """Three lines of Python: the right text scores high, the wrong one does not, and too little is undefined."""
    rows = make_records(40)
    good = autointerp.score('fires on " cat" (5); else 0', rows).spearman
    assert good.value is not None
    assert good.value > 0.9
    assert good.low is not None
    bad = autointerp.score('fires on " mat" (5); else 0', rows).spearman
    assert bad.value is not None
    assert abs(bad.value) < 0.2
    assert autointerp.score('fires on " cat" (5); else 0', rows[:3]).spearman.undefined == "too_few_windows"
    with pytest.raises(UsageError, match="one feature"):
        autointerp.score("x", [*rows, {**rows[0], "feature": 8}])


def test_another_run_in_the_folder_is_refused(records: Path, tmp_path: Path) -> None:
    """Records written over others would leave scores of neither."""
    api.import_records(records, tmp_path / "run")
    other = tmp_path / "records2.jsonl"
    other.write_text(json.dumps(make_records(1)[0]) + "\n")
    with pytest.raises(UsageError, match="choose another --out"):
        api.import_records(other, tmp_path / "run")
