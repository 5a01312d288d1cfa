"""Every bad input is one sentence, the right exit code, no traceback, and nothing half-written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from autointerp.store.folder import RunFolder
from tests.flows.conftest import Call, Finished
from tests.small_run import SmallRun, write_saelens, write_topk

Break = Callable[[SmallRun, Path], list[str]]
"""Writes a bad thing under a folder; returns the flags that name it."""


def flags(small: SmallRun, **changes: object) -> list[str]:
    words: dict[str, object] = {"model": small.model, "corpus": small.corpus, "dictionary": small.planted, **changes}
    return [word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def wrong_hook(small: SmallRun, folder: Path) -> list[str]:
    tensors = {"W_enc": torch.eye(128), "b_enc": torch.zeros(128), "W_dec": torch.eye(128), "b_dec": torch.zeros(128)}
    write_saelens(folder / "sae", tensors, "standard", hook="blocks.0.hook_resid_prex")
    return flags(small, dictionary=folder / "sae")


def wrong_width(small: SmallRun, folder: Path) -> list[str]:
    write_topk(folder / "sae", d_in=96)
    return flags(small, dictionary=folder / "sae")


def nan_weights(small: SmallRun, folder: Path) -> list[str]:
    shutil.copytree(small.planted, folder / "sae")
    file = folder / "sae" / "sae_weights.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["W_enc"] = tensors["W_enc"].clone()
    tensors["W_enc"][3, 1] = float("nan")
    safetensors.torch.save_file(tensors, file)
    return flags(small, dictionary=folder / "sae")


def cut_checkpoint(small: SmallRun, folder: Path) -> list[str]:
    shutil.copytree(small.planted, folder / "sae")
    file = folder / "sae" / "sae_weights.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    return flags(small, dictionary=folder / "sae")


def no_tokenizer(small: SmallRun, folder: Path) -> list[str]:
    shutil.copytree(small.model, folder / "model")
    for file in (folder / "model").glob("tokenizer*"):
        file.unlink()
    return flags(small, model=folder / "model")


def cut_model(small: SmallRun, folder: Path) -> list[str]:
    shutil.copytree(small.model, folder / "model")
    file = folder / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return flags(small, model=folder / "model")


def empty_text(small: SmallRun, folder: Path) -> list[str]:
    (folder / "empty.txt").write_text(" \n\n", encoding="utf-8")
    return flags(small, corpus=folder / "empty.txt")


def latin_text(small: SmallRun, folder: Path) -> list[str]:
    (folder / "latin.txt").write_bytes("schön\n".encode() * 50 + b"sch\xf6n")
    return flags(small, corpus=folder / "latin.txt")


def broken_lines(small: SmallRun, folder: Path) -> list[str]:
    (folder / "text.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n', encoding="utf-8")
    return flags(small, corpus=folder / "text.jsonl")


def a_toml(text: str) -> Break:
    def write(small: SmallRun, folder: Path) -> list[str]:
        (folder / "run.toml").write_text(text, encoding="utf-8")
        return [str(folder / "run.toml"), *flags(small)]

    return write


def given(**changes: object) -> Break:
    return lambda small, folder: flags(small, **changes)


BAD: dict[str, tuple[Break, str]] = {
    "wrong hook point": (wrong_hook, "blocks.0.hook_resid_pre"),
    "hook point for neurons": (given(dictionary="neurons@blocks.7.mlp.hook_post"), "blocks.0.mlp.hook_post"),
    "neurons without hook": (given(dictionary="neurons@"), "neurons@"),
    "width": (wrong_width, "reads width 96"),
    "nan in weights": (nan_weights, "W_enc holds NaN"),
    "truncated checkpoint": (cut_checkpoint, "truncated"),
    "no dictionary there": (given(dictionary="/nowhere/sae"), "does not exist"),
    "no tokenizer": (no_tokenizer, "no tokenizer"),
    "truncated model": (cut_model, "truncated"),
    "no model there": (given(model="/nowhere/model"), "no folder"),
    "empty corpus": (empty_text, "holds no text"),
    "corpus not UTF-8": (latin_text, "not UTF-8"),
    "corpus line without text": (broken_lines, "line 2"),
    "no corpus there": (given(corpus="nowhere.txt"), "there is no corpus"),
    "another kind of corpus": (lambda small, folder: flags(small, corpus=small.model / "config.json"), ".jsonl"),
    "unknown key": (a_toml("fetures = 'all'"), "features"),
    "bad TOML": (a_toml("features = "), "not valid TOML"),
    "features grammar": (given(features="some"), "features"),
    "features backwards": (given(features="9-3"), "features"),
    "features file": (given(features="@/nowhere/list"), "feature list"),
    "protocol": (given(protocol="bills"), "protocol"),
    "context too long": (a_toml("[harvest]\ncontext = 4096"), "longer than the model's own 64"),
    "a GPU that is not there": (a_toml("[harvest]\ndevice = 'cuda:63'"), "device"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_sentence_and_no_trace(
    small: SmallRun, call: Call, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback, or a folder that refuses the mended command because it 'holds a run' of the bad one."""
    monkeypatch.delenv("AUTOINTERP_HARVEST__DEVICE")
    spoil, word = BAD[name]
    (tmp_path / "bad").mkdir()
    ended = call("run", *spoil(small, tmp_path / "bad"), "--out", tmp_path / "deep" / "run")
    assert ended.code == 2
    assert word in ended.error
    assert not (tmp_path / "deep").exists()


def test_features_that_the_dictionary_lacks_keep_the_harvest(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path
) -> None:
    """The number of features is known after the harvest; the work stays, and the mended command goes on."""
    shutil.copytree(finished.path, tmp_path / "run")
    for command in (
        ["run", *small.flags(tmp_path / "run")],
        ["score", tmp_path / "run"],
        ["explain", tmp_path / "run"],
    ):
        ended = call(*command, "--features", "0-999")
        assert ended.code == 2
        assert "planted has 0 to 23" in ended.error
        assert RunFolder(tmp_path / "run").config().features == "all"
    assert call("report", tmp_path / "run").code == 0


def test_a_bad_dictionary_beside_good_ones_changes_nothing(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path
) -> None:
    """A checkpoint that is mended in place counted as changed; and the finished run's report broke."""
    shutil.copytree(finished.path, tmp_path / "run")
    cut_checkpoint(small, tmp_path)
    good = (f"planted={small.planted}", f"topk={small.topk}")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file() and p.name != "lock"}
    ended = call("run", *small.flags(tmp_path / "run", *good, str(tmp_path / "sae")))
    assert (ended.code, "truncated" in ended.error) == (2, True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir() if p.is_file() and p.name != "lock"} == before
    shutil.rmtree(tmp_path / "sae")
    shutil.copytree(small.topk, tmp_path / "sae")
    mended = call("run", *small.flags(tmp_path / "run", *good, str(tmp_path / "sae")), "--features", "0-5")
    assert mended.code == 0, mended.err


def test_explain_and_score_refuse_what_run_refuses(finished: Finished, call: Call, tmp_path: Path) -> None:
    """These commands checked nothing and ended in pydantic's traceback."""
    shutil.copytree(finished.path, tmp_path / "run")
    for command, option, value in (
        ("explain", "--features", "some"),
        ("score", "--features", ""),
        ("score", "--protocol", "bills"),
        ("score", "--simulator", "oracle"),
        ("explain", "--explainer", "oracle"),
    ):
        ended = call(command, tmp_path / "run", option, value)
        assert ended.code == 2
        assert option.removeprefix("--") in ended.error
    for command in ("explain", "score", "report"):
        ended = call(command, tmp_path / "nothing")
        assert (ended.code, "holds no run" in ended.error) == (2, True)


def test_an_out_that_cannot_be_written(small: SmallRun, call: Call, tmp_path: Path) -> None:
    """A file where the folder should be, or a system folder."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        ended = call("run", *small.flags(out))
        assert (ended.code, "cannot write to" in ended.error) == (2, True)


def test_a_second_writer(small: SmallRun, finished: Finished, call: Call, tmp_path: Path) -> None:
    """It says who writes, and neither waits nor interleaves."""
    shutil.copytree(finished.path, tmp_path / "run")
    with RunFolder(tmp_path / "run").lock():
        for command in (
            ["run", *small.flags(tmp_path / "run")],
            ["score", tmp_path / "run"],
            ["report", tmp_path / "run"],
        ):
            ended = call(*command)
            assert ended.code == 2
            assert f"is being written by process {os.getpid()}" in ended.error


def test_too_little_disk(small: SmallRun, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast is refused with exit code 2 before anything is harvested; the finished tokens are not lost."""
    monkeypatch.setattr("autointerp.harvest.run.free_bytes", lambda folder: 1000)
    ended = call("run", *small.flags(tmp_path / "run"))
    assert (ended.code, " free" in ended.error) == (2, True), ended.error
    assert not list((tmp_path / "run").glob("harvest/*/shard-*"))
    assert (tmp_path / "run" / "harvest" / "_corpus" / "tokens.bin").is_file()


def test_another_model_corpus_or_seed_in_an_existing_run(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path
) -> None:
    """Two experiments in one folder would be reported as one."""
    shutil.copytree(finished.path, tmp_path / "run")
    for words in (["--seed", "5"], ["--corpus", str(small.model)], ["--model", "gpt2"]):
        ended = call("run", *small.flags(tmp_path / "run"), *words)
        assert ended.code == 2
        assert "choose another --out" in ended.error


def test_damage_in_a_finished_run(finished: Finished, call: Call, tmp_path: Path) -> None:
    """Exit code 1 and the file's name, whichever file it is."""
    for name in ("store.sqlite", "harvest/planted/manifest.json", "harvest/topk/stats.safetensors",
                 "harvest/_corpus/corpus.json", "harvest/_corpus/tokens.bin", "config.toml"):  # fmt: skip
        shutil.copytree(finished.path, tmp_path / "run")
        (tmp_path / "run" / name).write_bytes(b"\xff\x00 nonsense")
        ended = call("score", tmp_path / "run")
        assert ended.code == 1, (name, ended.err)
        assert Path(name).name in ended.error
        shutil.rmtree(tmp_path / "run")


def test_a_harvest_from_a_newer_version_or_half_copied(finished: Finished, call: Call, tmp_path: Path) -> None:
    """A dictionary whose folder is missing is told as unfinished, with the command that finishes it."""
    shutil.copytree(finished.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "harvest" / "topk")
    ended = call("score", tmp_path / "run")
    assert (ended.code, "autointerp harvest" in ended.error) == (2, True)


def test_usage_of_the_command_itself(call: Call) -> None:
    """An unknown option or command is exit code 2, as everywhere."""
    for words in (["run", "--modell", "x"], ["rum"], ["run", "--seed", "x"], []):
        ended = call(*words)
        assert ended.code == 2
        assert "Traceback" not in ended.err


def test_lone_surrogates_in_json_lines(small: SmallRun, call: Call, tmp_path: Path) -> None:
    r"""JSON can spell "\ud800"; it ended in the tokenizer's traceback."""
    lines = [json.dumps({"id": f"{i}\ud800", "text": f"A lamb \ud800 river {i} and a stone"}) for i in range(30)]
    (tmp_path / "odd.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = flags(small, corpus=tmp_path / "odd.jsonl", features="0-3")
    ended = call("run", *words, "--out", tmp_path / "run", "--json")
    assert ended.code == 0, ended.err


def test_a_full_disk_while_writing(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC on the way is one sentence too."""
    shutil.copytree(finished.path, tmp_path / "run")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr("autointerp.interpretation.write_atomically", full)
    ended = call("score", tmp_path / "run")
    assert (ended.code, "is full" in ended.error) == (2, True)
