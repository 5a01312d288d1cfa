"""`autointerp selftest` end to end: the bench runs offline, says what it should, and ends with figures."""

import json

import pytest
from typer.testing import CliRunner

from autointerp.cli.main import app
from autointerp.selftest import bench

NAMES = {"graded-60", "graded-120", "simulate", "random", "top-random", "deciles-random", "bricken"}
RIVALS = {"broad", "lookup", "narrow", "noisy", "random"}


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at every part in seconds; the bars need the longer run."""
    monkeypatch.setattr(bench, "QUICK", bench.SMOKE)


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
