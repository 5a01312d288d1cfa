"""What somebody sees who tries it for the first time: words while it works, flags, and sentences that name the way."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import autointerp
from autointerp import underway
from autointerp.cli import progress
from autointerp.cli.main import app
from autointerp.config import check_config
from autointerp.errors import UsageError
from autointerp.listener import Listener
from autointerp.status import RunStatus, read_status
from autointerp.store.folder import RunFolder
from tests.small_run import SmallRun, write_saelens

QUICK = ["--device", "cpu", "--threads", "1", "--loss-tokens", "0"]


def harvest(words: list[str]) -> None:
    made = CliRunner().invoke(app, ["harvest", *words, *QUICK], catch_exceptions=False)
    assert made.exit_code == 0, made.output


def test_what_one_changes_first_has_a_flag(small: SmallRun, tmp_path: Path) -> None:
    """`--n-tokens 1000` was "No such option"; only a file or the environment took it."""
    words = [*small.flags(tmp_path / "run"), "--n-tokens", "1000", "--context", "32", "--batch-size", "4"]
    harvest([*words, "--max-norm", "10", "--dtype", "float32"])
    folder = tmp_path / "run" / "harvest"
    plan = json.loads((folder / "topk" / "plan.json").read_text(encoding="utf-8"))
    assert {name: plan[name] for name in ("context", "batch_size", "max_norm", "dtype", "threads", "device")} == {
        "context": 32, "batch_size": 4, "max_norm": 10, "dtype": "float32", "threads": 1, "device": "cpu",
    }  # fmt: skip
    manifest = json.loads((folder / "topk" / "manifest.json").read_text(encoding="utf-8"))
    assert 1000 <= manifest["n_tokens"] < 1100
    assert manifest["metrics"]["loss"] is None


def test_status_says_how_far_a_harvest_is(small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said "harvest no" for an hour: no tokens done or left, no stage."""
    from autointerp import api

    monkeypatch.setattr(underway, "SECONDS_BETWEEN", 0.0)
    values = {
        "model": str(small.model), "corpus": str(small.corpus), "out": tmp_path / "run",
        "dictionary": [{"id": "planted", "path": str(small.planted)}, {"id": "topk", "path": str(small.topk)}],
        "harvest": {"device": "cpu", "threads": 1, "batch_size": 8, "shard_tokens": 4096, "loss_tokens": 200},
    }  # fmt: skip
    seen: list[tuple[str, RunStatus]] = []

    def look(stage: str, done: int, total: int) -> None:
        if (tmp_path / "run" / "config.toml").is_file():
            seen.append((stage, read_status(RunFolder.existing(tmp_path / "run"))))

    api.run_harvest(check_config(values, "test"), Listener(progress=look))
    during = [(stage, one) for stage, one in seen if stage == "harvest planted, topk"]
    told = [one.underway[0] for _, one in during if one.underway and one.underway[0].stage == "harvest planted, topk"]
    assert len(told) > 5
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert 0 < told[-1].done <= told[-1].total
    half = during[-1][1].dictionaries["topk"]
    assert (half.harvested, half.tokens) == (False, told[-1].total)
    assert half.tokens_done is not None
    assert 0 < half.tokens_done <= told[-1].total
    stages = {one.underway[0].stage for _, one in seen if one.underway}
    assert {"measure losses at blocks.1.hook_resid_post", "statistics", "checksums"} <= stages
    after = read_status(RunFolder.existing(tmp_path / "run"))
    assert after.underway == ()
    assert after.dictionaries["topk"].harvested
    assert not list((tmp_path / "run").glob("underway*"))


def test_inspect_names_the_way_to_what_it_does_not_take(small: SmallRun) -> None:
    """`inspect neurons@…` said that a dictionary may be neurons@HOOK; a folder of two listed eighteen formats."""
    with pytest.raises(UsageError, match=r"inspect looks at files only; `autointerp doctor --model MODEL --dictionary"):
        CliRunner().invoke(app, ["inspect", "neurons@blocks.0.mlp.hook_post"], catch_exceptions=False)
    with pytest.raises(UsageError, match=r"holds dictionaries, Random TopK/, planted/, and is none itself; name one"):
        CliRunner().invoke(app, ["inspect", str(small.planted.parent)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--demo"], True),
        (["harvest", "my.toml"], True),
        (["run", "--help"], False),
        (["--help"], False),
        (["testserver"], False),
    ],
)
def test_the_first_words_come_before_anything_is_loaded(
    words: list[str], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten seconds of nothing looked like a hang."""
    progress.say_starting(words)
    assert bool(capsys.readouterr().err) == said


def test_a_run_of_matched_features_is_compared_in_pairs(small: SmallRun, tmp_path: Path) -> None:
    """From the command line to the paired figure; a run of samples is told how to draw pairs."""
    tensors = safetensors.torch.load_file(small.planted / "sae_weights.safetensors")
    order = torch.arange(len(tensors["b_enc"])).flip(0)[:22]
    kept = {"W_enc": tensors["W_enc"][:, order], "b_enc": tensors["b_enc"][order], "W_dec": tensors["W_dec"][order]}
    write_saelens(tmp_path / "turned", {**kept, "b_dec": tensors["b_dec"]}, "standard")
    words = ["--model", str(small.model), "--corpus", str(small.corpus), "--dictionary", f"one={small.planted}"]
    words += ["--dictionary", f"other={tmp_path / 'turned'}", "--out", str(tmp_path / "run"), *QUICK]
    made = CliRunner().invoke(app, ["run", *words, "--features", "matched:12"], catch_exceptions=False)
    assert made.exit_code == 0, made.output
    comparison = autointerp.compare_runs([tmp_path / "run"])
    contrast = comparison.contrasts[0]
    assert contrast.pairing is not None
    assert contrast.pairing.difference.n_a >= 8
    assert any("cannot show more of a feature than on which tokens it fires" in note for note in contrast.notes)


def test_doctor_needs_no_corpus(small: SmallRun, tmp_path: Path) -> None:
    """It said "corpus missing" of whether a model and a dictionary fit, and forecast 0 MB after a failure."""
    words = ["doctor", "--model", str(small.model), "--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    made = CliRunner().invoke(app, [*words, "--dictionary", f"topk={small.topk}"], catch_exceptions=False)
    found = {one["what"]: one for one in json.loads(made.stdout.splitlines()[-1])["findings"]}
    assert made.exit_code == 0
    assert found["topk"]["found"].startswith("TopK") or "topk" in found["topk"]["found"]
    assert "stands in" in found["corpus"]["found"]
    assert "disk forecast" not in found
    words += ["--corpus", str(small.corpus), "--dictionary", "neurons@blocks.7.mlp.hook_post"]
    made = CliRunner().invoke(app, words, catch_exceptions=False)
    assert made.exit_code == 2
    assert "disk forecast" not in {one["what"] for one in json.loads(made.stdout.splitlines()[-1])["findings"]}


def test_a_gguf_file_is_told_how_it_becomes_a_folder(small: SmallRun, tmp_path: Path) -> None:
    """It was "no folder", which does not help who has nothing but this file."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    words = ["doctor", "--model", str(tmp_path / "model.gguf"), "--dictionary", f"topk={small.topk}"]
    made = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run")], catch_exceptions=False)
    assert made.exit_code == 2
    assert "save_pretrained" in made.stdout
    assert "mend that first" not in made.stdout
