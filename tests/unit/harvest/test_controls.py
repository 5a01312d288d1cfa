"""Controls that a run draws: their densities, their repeatability, and the run that was killed half way."""

from pathlib import Path

import numpy as np
import pytest

from autointerp.config import RunConfig, check_config
from autointerp.errors import UsageError
from autointerp.harvest.events import Harvest
from autointerp.provenance import digest_file
from tests.small_run import SmallRun
from tests.unit.harvest.conftest import run_harvest, small_config


def with_controls(small: SmallRun, out: Path, **more: object) -> RunConfig:
    """The small run with random directions beside its TopK dictionary and beside its neurons."""
    values = small_config(small, out).model_dump()
    values["dictionary"] = [
        {"id": "topk", "path": str(small.topk)},
        {"id": "neurons", "path": "neurons@blocks.1.hook_resid_post"},
        {"id": "random", "path": "random@topk"},
        {"id": "random-neurons", "path": "random@neurons"},
    ]
    return check_config({**values, **more}, "test")


@pytest.fixture(scope="module")
def controlled(small: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished harvest with both controls; the corpus is shorter than what densities are matched on."""
    return run_harvest(with_controls(small, tmp_path_factory.mktemp("controlled")))


@pytest.mark.parametrize(("name", "like"), [("random", "topk"), ("random-neurons", "neurons")])
def test_densities_are_those_of_the_dictionary(controlled: Path, name: str, like: str) -> None:
    """Without matched densities the control differs from the dictionary in more than what was learned.

    The small model has few words, whose activations nearly tie; a threshold between equals cannot be exact.
    """
    control, dictionary = Harvest(controlled, name), Harvest(controlled, like)
    aims, got = np.array(dictionary.stats.n_active), np.array(control.stats.n_active)
    reachable = aims < 0.2 * dictionary.corpus.n_tokens
    assert reachable.sum() > 20
    assert (np.abs(aims - got)[reachable] <= 2).mean() > 0.9
    assert got[reachable] == pytest.approx(aims[reachable], rel=0.2, abs=15)
    assert (control.spec.role, control.spec.source) == ("control", f"random@{like}")
    assert control.spec.hook_point == dictionary.spec.hook_point


def test_a_control_alone_is_the_control_of_the_whole_run(small: SmallRun, controlled: Path, tmp_path: Path) -> None:
    """A resume that harvests the control after its dictionary was finished draws the same directions."""
    config = with_controls(small, tmp_path)
    folder = run_harvest(config, only=["random"])
    for path in (controlled / "random").glob("*.safetensors"):
        assert digest_file(folder / "random" / path.name) == digest_file(path)


def test_a_resume_under_another_seed_is_refused(small: SmallRun, controlled: Path, tmp_path: Path) -> None:
    """Half of the shards from each of two draws would be directions that nobody drew."""
    config = with_controls(small, tmp_path)
    folder = run_harvest(config, only=["random"])
    (folder / "random" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="was started with weights"):
        run_harvest(with_controls(small, tmp_path, seed=1), only=["random"])
