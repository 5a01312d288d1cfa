"""The main job from the command line: planted features are found, scored, resumed, extended and reported."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import autointerp
from autointerp.harvest.events import Harvest
from autointerp.records import FeatureId
from autointerp.selection import select_features
from autointerp.store.folder import RunFolder
from autointerp.store.runs import RunStore, ScoreKey
from tests.flows.conftest import Call, Finished, command, environment
from tests.small_run import DEAD, DENSE, PLANTED, RARELY, WORDS, SmallRun

KEY = ScoreKey("graded-60", "lookup", "lookup")


def copy_of(finished: Finished, folder: Path) -> Path:
    shutil.copytree(finished.path, folder / "run")
    return folder / "run"


def summary_of(run: Path) -> dict[str, dict[str, object]]:
    values: dict[str, dict[str, dict[str, object]]] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return values["dictionaries"]


def test_planted_features_are_named_and_score_near_one(finished: Finished) -> None:
    """The whole chain at once: a token off by one, a wrong part or a swapped feature fails here."""
    store = RunStore(finished.path / "store.sqlite")
    scores = {s.feature.index: s for s in store.scores("planted", KEY)}
    shuffled = []
    for index, word in enumerate(WORDS):
        own = store.explanation(FeatureId(dictionary="planted", index=index), "graded-120x32", "lookup")
        assert own is not None
        assert own.explanation.text == f'fires on " {word}" (5); else 0'
        value = scores[index].spearman.value
        assert value is not None
        assert value > 0.99
        shuffled.append(scores[index].shuffled.value or 0.0)
    both = store.explanation(FeatureId(dictionary="planted", index=len(WORDS)), "graded-120x32", "lookup")
    assert both is not None
    assert '" lamb"' in both.explanation.text
    assert '" river"' in both.explanation.text
    assert -0.3 < sum(shuffled) / len(shuffled) < 0.05
    store.close()


def test_the_summary_accounts_for_every_feature(finished: Finished) -> None:
    """The promised keys, and n_features = scored + undefined + failed + skipped."""
    summary = summary_of(finished.path)
    assert list(summary) == ["planted", "topk"]
    for values in summary.values():
        groups = [values["undefined"], values["failed"], values["skipped"]]
        total = sum(sum(group.values()) for group in groups if isinstance(group, dict))
        scored, n_features = values["scored"], values["n_features"]
        assert isinstance(scored, int)
        assert scored + total == n_features
        assert {"role", "explained", "protocol", "n_windows", "n_tokens", "l0", "density"} <= set(values)
        assert isinstance(values["spearman"], dict)
        assert set(values["spearman"]) == {"mean", "counted_mean", "median", "low", "high", "n"}
        for control in ("lookup", "shuffled"):
            found = values[control]
            assert isinstance(found, dict)
            assert set(found) == {"mean", "counted_mean", "low", "high", "n"}
    assert summary["planted"]["n_features"] == len(PLANTED)
    assert summary["planted"]["skipped"] == {"dead": 1}
    store = RunStore(finished.path / "store.sqlite")
    undefined = {s.feature.index: s.spearman.undefined for s in store.scores("planted", KEY) if s.spearman.undefined}
    store.close()
    assert undefined == {DENSE: "constant_truth", RARELY: "too_few_windows"}
    assert DEAD not in undefined


def test_what_the_command_prints(finished: Finished) -> None:
    """A script reads the last line; a log reads progress line by line; a person reads the paths."""
    ended = finished.ended
    assert ended.json["dictionaries"] == summary_of(finished.path)
    assert str(finished.path / "summary.json") in ended.out
    assert str(finished.path / "report.html") in ended.out
    progress = [json.loads(line) for line in ended.err.splitlines()]
    stages = [line["stage"] for line in progress if "stage" in line]
    for stage in ("tokenise", "harvest planted, topk", "explain planted", "score topk", "report planted"):
        assert stage in stages
    words = {"stage", "done", "total", "per_second", "seconds_left"}
    assert all(words == set(line) for line in progress if "stage" in line)


def test_the_manifest_says_what_the_run_was_made_of(finished: Finished) -> None:
    """Without digests and versions no one can tell two runs apart a year later."""
    manifest = RunFolder(finished.path).manifest()
    assert manifest is not None
    assert manifest.closed is not None
    assert manifest.corpus_digest is not None
    assert [d.id for d in manifest.dictionaries] == ["planted", "topk"]
    assert all(d.weights_digest.startswith("blake2b:") for d in manifest.dictionaries)
    assert {"python", "numpy", "torch", "transformer_lens"} <= set(manifest.packages)


def test_the_report_is_one_file_with_every_feature(finished: Finished) -> None:
    """A report that fetches anything cannot be mailed; one that lacks features hides the bad ones."""
    text = (finished.path / "report.html").read_text(encoding="utf-8")
    assert "<script src=" not in text
    assert 'rel="stylesheet" href=' not in text


def test_a_second_run_does_nothing_and_needs_no_torch(small: SmallRun, finished: Finished, tmp_path: Path) -> None:
    """Minutes of loading for nothing; and a laptop without torch must be able to read a finished run."""
    run = copy_of(finished, tmp_path)
    before = (run / "summary.json").read_bytes()
    words = ["run", *small.flags(run), "--features", "all", "--json"]
    code = (
        "import sys; from autointerp.cli.main import main\n"
        f"sys.argv = ['autointerp', *{[str(w) for w in words]!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = [m for m in ('torch', 'transformer_lens', 'transformers') if m in sys.modules]\n"
        "print(heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert (run / "summary.json").read_bytes() == before
    assert "harvest" not in done.stderr


def test_a_killed_run_ends_with_the_same_bytes(small: SmallRun, finished: Finished, tmp_path: Path) -> None:
    """kill -9 in the middle of the harvest, Ctrl-C while scoring; then the same command, and the same summary."""
    words = command("run", *small.flags(tmp_path / "run"), "--features", "all")
    for stage, blow, code in (("harvest", signal.SIGKILL, -9), ("score planted", signal.SIGINT, 3)):
        process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                   env=environment(tmp_path), cwd=tmp_path)  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if f'"{stage}' in line:
                process.send_signal(blow)
                break
        rest = process.stderr.read()
        assert process.wait() == code, rest
        assert not (tmp_path / "run" / "summary.json").exists()
        if blow == signal.SIGINT:
            assert rest.splitlines()[-1] == "stopped; the same command goes on where this one was"
            assert "Traceback" not in rest
    done = subprocess.run(words, capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").read_bytes() == (finished.path / "summary.json").read_bytes()


def test_stages_one_by_one_give_the_same_summary(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path
) -> None:
    """`harvest`, `explain`, `score` and `report` are the parts of `run`, not other programs."""
    run = tmp_path / "run"
    assert call("harvest", *small.flags(run), "--json").json == {"out": str(run), "dictionaries": ["planted", "topk"]}
    assert not (run / "summary.json").exists()
    early = call("report", run)
    assert (early.code, "has no scores yet" in early.error) == (2, True)
    explained = call("explain", run, "--features", "all", "--json")
    assert explained.json["explained"] == len(PLANTED) - 1 + 40
    scored = call("score", run, "--json")
    assert scored.json["dictionaries"] == summary_of(finished.path)
    assert (run / "summary.json").read_bytes() == (finished.path / "summary.json").read_bytes()
    (run / "report.html").unlink()
    reported = call("report", run, "--json")
    assert reported.json == {"report": str(run / "report.html")}
    assert (run / "report.html").is_file()


def test_another_selection_pays_only_for_what_is_new(
    small: SmallRun, finished: Finished, call: Call, tmp_path: Path
) -> None:
    """Asking for fewer or more features of a run must neither lose nor repeat a score."""
    run = copy_of(finished, tmp_path)
    ended = call("run", *small.flags(run), "--features", "0-3,20", "--json")
    assert ended.code == 0
    assert {s["n_features"] for s in summary_of(run).values()} == {5}
    assert '"harvest' not in ended.err
    stages = {line["stage"]: line for line in map(json.loads, ended.err.splitlines()) if "stage" in line}
    assert stages["score planted"]["total"] is None
    call("score", run, "--features", "all")
    assert (run / "summary.json").read_bytes() == (finished.path / "summary.json").read_bytes()


def test_a_dictionary_is_added_to_a_run(small: SmallRun, finished: Finished, call: Call, tmp_path: Path) -> None:
    """The earlier dictionary's harvest and scores stay; only the new one is passed through the model."""
    run = copy_of(finished, tmp_path)
    before = summary_of(run)
    specs = (f"planted={small.planted}", f"topk={small.topk}", "neurons@blocks.0.hook_resid_pre")
    ended = call("run", *small.flags(run, *specs), "--features", "all", "--json")
    assert ended.code == 0, ended.err
    after = summary_of(run)
    assert {name: after[name] for name in ("planted", "topk")} == before
    assert after["neurons"]["role"] == "basis"
    assert '"harvest neurons"' in ended.err
    assert "harvest planted" not in ended.err
    store = RunStore(run / "store.sqlite")
    assert len(store.explained("neurons", "graded-120x32", "lookup")) == after["neurons"]["explained"]
    store.close()


def test_the_default_selection_is_a_sample(finished: Finished, call: Call, small: SmallRun, tmp_path: Path) -> None:
    """`sample:N` names live features only, the same ones every time."""
    run = copy_of(finished, tmp_path)
    call("run", *small.flags(run), "--features", "sample:5")
    n_active = Harvest(run / "harvest", "planted").stats.n_active
    assert summary_of(run)["planted"]["n_features"] == 5
    assert len(select_features("sample:5", n_active, "planted", 0)) == 5


def test_a_deleted_shard_is_made_again(small: SmallRun, finished: Finished, call: Call, tmp_path: Path) -> None:
    """A truncated shard ends in one sentence and exit code 1; deleted, as that sentence says, it comes back."""
    run = copy_of(finished, tmp_path)
    shard = run / "harvest" / "topk" / "shard-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    ended = call("run", *small.flags(run), "--features", "all")
    assert ended.code == 1
    assert str(shard) in ended.error
    assert "again with --repair" in ended.error
    shard.unlink()
    ended = call("run", *small.flags(run), "--features", "all")
    assert ended.code == 0, ended.err
    assert shard.read_bytes() == whole
    assert (run / "summary.json").read_bytes() == (finished.path / "summary.json").read_bytes()


@pytest.mark.parametrize("words", [[], ["run"], ["harvest"], ["explain"], ["score"], ["report"], ["doctor"]])
def test_help(call: Call, words: list[str]) -> None:
    """Every command explains itself with exit code 0."""
    ended = call(*words, "--help")
    assert ended.code == 0
    assert "Usage" in ended.out
    if not words:
        assert all(name in ended.out for name in ("run", "harvest", "explain", "score", "report", "doctor"))
    if words == ["run"]:
        flags = ("model", "hook-point", "dictionary", "corpus", "features", "protocol", "explainer", "simulator", "out")
        assert all(f"--{flag}" in ended.out for flag in (*flags, "seed", "json", "demo"))


def test_doctor(small: SmallRun, call: Call, tmp_path: Path) -> None:
    """Versions, device, fit and disk, with exit code 2 where something is wrong and the fix beside it."""
    good = call("doctor", *small.flags(tmp_path / "run"), "--json")
    assert good.code == 0, good.out
    found = good.json["findings"]
    assert isinstance(found, list)
    whats = {finding["what"] for finding in found}
    assert {"python", "torch", "transformer_lens", "disk", "device", "model", "corpus", "planted", "topk"} <= whats
    assert not (tmp_path / "run").exists()
    bad = call("doctor", *small.flags(tmp_path / "run", "neurons@blocks.9.mlp.hook_post"))
    assert bad.code == 2
    assert "blocks.9.mlp.hook_post" in bad.out
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    words = ["--model", small.model, "--corpus", tmp_path / "empty.txt", "--dictionary", small.planted]
    empty = call("doctor", *words, "--out", tmp_path / "run")
    assert empty.code == 2
    assert "holds no text" in empty.out
    assert call("doctor").code == 0


def test_doctor_tells_what_of_a_corpus_folder_is_not_read(small: SmallRun, call: Call, tmp_path: Path) -> None:
    """Before the harvest, when the files can still be converted."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("Some text.\n", encoding="utf-8")
    (folder / "b.csv").write_text("more,text\n", encoding="utf-8")
    words = ["--model", small.model, "--corpus", folder, "--dictionary", small.planted, "--out", tmp_path / "run"]
    looked = call("doctor", *words, "--json")
    assert looked.code == 0
    assert "1 of no kind that is read, left out (b.csv)" in looked.out


def test_one_library_call_is_the_command(small: SmallRun, finished: Finished, tmp_path: Path) -> None:
    """A notebook and the command line must not differ: same configuration, same bytes; listeners hear of it."""
    run = copy_of(finished, tmp_path)
    heard: list[str] = []
    config = RunFolder(run).config()
    summaries = autointerp.run(config, autointerp.Listener(progress=lambda stage, done, total: heard.append(stage)))
    assert {i: s.model_dump() for i, s in summaries.items()} == summary_of(finished.path)
    assert (run / "summary.json").read_bytes() == (finished.path / "summary.json").read_bytes()
    assert "score planted" in heard
    with pytest.raises(autointerp.UsageError, match="holds no run"):
        autointerp.run_score(tmp_path / "nothing")
    with pytest.raises(autointerp.UsageError, match="features"):
        autointerp.run_score(run, {"features": "some"})
    assert os.listdir(tmp_path) == ["run"]
