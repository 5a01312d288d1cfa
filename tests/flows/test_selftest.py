"""`autointerp selftest` end to end: offline it tells its story, and over HTTP it certifies a judge."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from autointerp.cli.main import app
from autointerp.llm.registry import LOOPBACK_ONLY
from autointerp.selftest import bench, textbench
from autointerp.selftest.planted import planted_texts
from tests.flows.rehearsal import ROOT, rehearsing
from tests.unit.llm.servers import KEY

NAMES = {"graded-60", "graded-120", "simulate", "random", "top-random", "deciles-random", "bricken"}
RIVALS = {"broad", "lookup", "narrow", "noisy", "random"}
SELFTEST = (sys.executable, "-c", "from autointerp.cli.main import main; main()", "selftest")


KINDS = ("single token", "two-sense", "dead", "bursty")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the corpus is read once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """A look at every part in seconds; the bars, and all planted features of text, need the longer run."""
    planted = tuple(p for p in planted_texts() if p.kind in KINDS)
    monkeypatch.setattr(bench, "QUICK", bench.SMOKE)
    monkeypatch.setattr(textbench, "planted_texts", lambda: planted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(LOOPBACK_ONLY, "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.usefixtures("_short")
def test_the_selftest_prints_its_story_and_ends_with_json() -> None:
    """The last line is what scripts read: every protocol at every density, all figures finite."""
    result = CliRunner().invoke(app, ["selftest", "--quick", "--json"])
    assert result.exit_code in (0, 1), result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert set(told["protocols"]) >= NAMES
    for cells in told["protocols"].values():
        assert set(cells) == {"1e-2", "1e-3", "1e-4"}
        for cell in cells.values():
            assert set(cell["d_prime"]) == set(cell["ranks_above"]) == RIVALS
            assert {"coverage", "random_mean", "random_mean_abs", "calls", "input_tokens"} <= set(cell)
    assert set(told["equal_quality_z"]) == set(told["protocols"])
    assert max(len(line) for line in result.stdout.splitlines()[:-1]) <= 100
    sparse = {name: cells["1e-3"]["ranks_above"] for name, cells in told["protocols"].items()}
    assert sparse["random"]["broad"] < 0.3
    assert sparse["deciles-random"]["broad"] < 0.5
    assert min(sparse[name]["broad"] for name in ("graded-60", "simulate", "bricken")) > 0.9
    assert min(sparse["graded-60"].values()) > 0.9
    careful = told["planted_text"]["judges"]["careful"]["graded-60"]
    assert careful["above"]["unrelated"] == 1.0
    assert careful["without_score"] == {"too_few_windows": 1}


def certify(base_url: str) -> dict[str, Any]:
    """The card of a judge on that server."""
    options = ["--llm", "any", "--base-url", base_url, "--simulator", "structured", "--json"]
    result = CliRunner().invoke(app, ["selftest", *options])
    assert result.exit_code == 0, result.output
    assert "JUDGE CARD" in result.stdout
    card: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])["judge"]
    return card


@pytest.mark.usefixtures("_short")
def test_a_judge_is_certified_over_http() -> None:
    """A judge that knows every rule gets a clean card, and is asked anew the second time."""
    with rehearsing("--answer", "autointerp.selftest.judges:rehearsal") as base_url:
        card = certify(base_url)
    assert card["simulator"] == "structured openai:any"
    assert card["equal"] == 1.0
    assert card["failures"] == {}
    assert card["strata"]["uniform"]["agrees"] == 1.0
    assert card["strata"]["decile 10"]["sees"] == 1.0
    assert card["ranking"]["above"]["unrelated"] == 1.0
    # Six requests an explanation and at most one for its guided windows; three true ones are asked once more.
    n = card["explanations"] - 1
    assert 6 * n + 18 <= card["usage"]["calls"] <= 7 * n + 18
    assert card["usage"]["input_tokens"] > 0


@pytest.mark.usefixtures("_short")
def test_a_judge_that_answers_in_words_fails_in_every_window() -> None:
    """A judge whose answers cannot be read gets no score, and the reasons are counted."""
    with rehearsing("--answer", "tests.flows.planted:truthful") as base_url:
        card = certify(base_url)
    assert card["strata"] == {}
    assert card["equal"] is None
    assert sum(card["failures"].values()) == card["n_asked"]
    assert card["ranking"]["true_mean"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--base-url", "http://127.0.0.1:9/v1"), "--llm"), (("--llm", "any", "--quick"), "--quick")],
)
def test_options_that_do_not_fit_say_so(options: tuple[str, ...], said: str) -> None:
    ended = subprocess.run(
        [*SELFTEST, *options], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
